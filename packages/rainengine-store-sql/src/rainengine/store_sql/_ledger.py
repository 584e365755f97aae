"""A tenant's ledger: everything that `rainengine.core.abc` asks of one, on any SQL database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs

from rainengine.core.abc import (
    Appended,
    Clock,
    Enclosed,
    EncodedEntry,
    Lease,
    LeaseChange,
    OutboxItem,
    SessionIndex,
    SessionPage,
    SessionQuery,
    Snapshot,
)
from rainengine.core.codec import check_identifier
from rainengine.core.errors import FenceLost, LeaseHeld
from rainengine.core.records import Head, NewRecord, OutcomeRecord, StoredRecord
from rainengine.store_sql import _reads as reads
from rainengine.store_sql._dialect import Dialect
from rainengine.store_sql._drafts import draft_append, draft_lease
from rainengine.store_sql._lending import LentTransaction
from rainengine.store_sql._readers import Readers
from rainengine.store_sql._rows import Key
from rainengine.store_sql._snapshots import admitted
from rainengine.store_sql._statements import Statements
from rainengine.store_sql._transactions import Transactor
from rainengine.store_sql._watch import Watchers
from rainengine.store_sql._writer import Writer


@attrs.frozen(kw_only=True)
class Parts:
    """What all tenants' ledgers of a store share. `cap` is the largest payload, in bytes.

    `lender` runs what is not ours, `transactor` what is.
    """

    dialect: Dialect[Any]
    writer: Writer[Any]
    transactor: Transactor
    lender: Transactor
    readers: Readers[Any]
    watchers: Watchers
    statements: Statements
    clock: Clock
    cap: int


class SqlLedger:
    """One tenant's ledger in an SQL database; made by a store's `for_tenant`.

    Implements `Ledger`, `SessionLeases`, `Snapshots`, `Watch`, `EncodedRecords` and
    `Transactions`.
    """

    def __init__(self, tenant: str, parts: Parts) -> None:
        self._tenant = tenant
        self._parts = parts
        self._writer = parts.writer
        self._clock = parts.clock

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._tenant!r}>"

    @property
    def tenant(self) -> str:
        """The tenant whose sessions these are."""
        return self._tenant

    @property
    def max_payload_bytes(self) -> int:
        """The largest JSON text of a record that this ledger takes, in bytes."""
        return self._parts.cap

    def _key(self, session_id: str) -> Key:
        return self._tenant, check_identifier("session_id", session_id)

    async def append(
        self,
        session_id: str,
        records: Sequence[NewRecord],
        *,
        expected: Head | None,
        fence: int | None = None,
        lease: LeaseChange | None = None,
        index: SessionIndex | None = None,
        outbox: Sequence[OutboxItem] = (),
    ) -> Appended:
        """Append records, durably and all or none; see `Ledger.append` for what may be raised."""
        draft = draft_append(
            (self._tenant, session_id),
            records,
            expected=expected,
            fence=fence,
            lease=lease,
            index=index,
            outbox=outbox,
            now_ms=self._clock.now_ms(),
            cap=self._parts.cap,
        )
        return await self._writer.submit(draft)

    async def transact(
        self,
        session_id: str,
        work: Callable[[Any], Enclosed],
        *,
        expected: Head | None,
        fence: int | None = None,
        lease: LeaseChange | None = None,
        timeout_s: float,
    ) -> Appended:
        """Run `work` with a connection and append what it returns, in one transaction.

        See `Transactions.transact` for what may be raised.
        """
        transaction = LentTransaction(
            dialect=self._parts.dialect,
            work=work,
            key=self._key(session_id),
            expected=expected,
            fence=fence,
            lease=lease,
            timeout_s=timeout_s,
            now_ms=self._clock.now_ms(),
            cap=self._parts.cap,
        )
        change = await transaction.run(self._parts.lender)
        self._parts.watchers.moved(transaction.key, change.appended)
        return change.appended

    async def read(
        self, session_id: str, *, after: int = 0, limit: int = 1000
    ) -> Sequence[StoredRecord]:
        """Return up to `limit` records with sequences above `after`, in order."""
        work = partial(
            reads.records, sql=self._parts.statements, key=self._key(session_id), after=after
        )
        return await self._parts.readers.run(partial(work, limit=limit))

    async def read_encoded(
        self, session_id: str, *, after: int = 0, limit: int = 1000
    ) -> Sequence[EncodedEntry]:
        """Return up to `limit` records with sequences above `after`, as they were hashed."""
        work = partial(
            reads.entries, sql=self._parts.statements, key=self._key(session_id), after=after
        )
        return await self._parts.readers.run(partial(work, limit=limit))

    async def head(self, session_id: str) -> Head:
        """Return the session's head; sequence 0 and the genesis hash where it has no records."""
        work = partial(reads.head, sql=self._parts.statements, key=self._key(session_id))
        return await self._parts.readers.run(work)

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        """Return one page of the tenant's sessions, by session id."""
        work = partial(reads.sessions, sql=self._parts.statements, tenant=self._tenant)
        return await self._parts.readers.run(partial(work, query=query))

    async def find_outcome(self, session_id: str, idempotency_key: str) -> OutcomeRecord | None:
        """Return the newest outcome of the run that the trigger with this key belongs to."""
        work = partial(reads.outcome, sql=self._parts.statements, key=self._key(session_id))
        return await self._parts.readers.run(
            partial(work, idempotency_key=check_identifier("idempotency_key", idempotency_key))
        )

    async def lease_of(self, session_id: str) -> Lease:
        """Return the session's lease, expired or not, with its fence and the head."""
        work = partial(reads.lease, sql=self._parts.statements, key=self._key(session_id))
        return await self._parts.readers.run(partial(work, now_ms=self._clock.now_ms()))

    async def heartbeat(self, session_id: str, *, owner: str, fence: int, ttl_ms: int) -> Head:
        """Extend the lease and return the head. Raises `FenceLost`."""
        lease = LeaseChange("extend", owner, ttl_ms)
        try:
            return (await self._change_lease(session_id, lease, fence)).head
        except LeaseHeld as held:  # under this very fence, so it was never this owner's
            raise FenceLost(session_id, fence, fence) from held

    async def release(self, session_id: str, *, owner: str, fence: int) -> None:
        """Give up the lease if it is still this owner's under this fence; else do nothing."""
        try:
            await self._change_lease(session_id, LeaseChange("free", owner), fence)
        except (FenceLost, LeaseHeld):
            return

    async def _change_lease(self, session_id: str, lease: LeaseChange, fence: int) -> Appended:
        draft = draft_lease(self._key(session_id), lease, fence=fence, now_ms=self._clock.now_ms())
        return await self._writer.submit(draft)

    async def load_snapshot(self, session_id: str, projection_version: int) -> Snapshot | None:
        """Return the newest snapshot of that version, if there is one."""
        work = partial(reads.snapshot, sql=self._parts.statements, key=self._key(session_id))
        return await self._parts.readers.run(partial(work, version=projection_version))

    def offer_snapshot(self, session_id: str, snapshot: Snapshot) -> None:
        """Keep a snapshot with the next batch, or at once where there is none to come."""
        row = admitted((self._tenant, session_id), snapshot)
        if row is not None:
            self._writer.offer(row)

    async def wait_past(self, session_id: str, sequence: int) -> Head:
        """Return the head once its sequence is above `sequence`."""
        key = self._key(session_id)
        read_head = partial(self.head, session_id)
        return await self._parts.watchers.wait_past(key, sequence, read_head)
