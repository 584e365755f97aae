"""All tenants' ledgers in an SQL database, and what workers ask of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from rainengine.core.abc import (
    DEFAULT_TENANT,
    DeadLetter,
    DuePosition,
    DueSession,
    OutboxEntry,
    OutboxReport,
    WorkKind,
)
from rainengine.core.codec import (
    admit_reports,
    check_claim,
    check_entry,
    check_identifier,
    check_kind,
)
from rainengine.store_sql import _due as queue
from rainengine.store_sql import _outbox as outbox
from rainengine.store_sql._commits import Committer, LedgerStats
from rainengine.store_sql._ledger import Parts, SqlLedger
from rainengine.store_sql._work_statements import work_statements

T = TypeVar("T")


class SqlLedgerStore(SqlLedger):
    """All tenants' ledgers; used as a ledger itself, it is the default tenant's.

    Implements `WorkQueue` and `Outbox` too.
    """

    def __init__(self, parts: Parts, committer: Committer[Any], *, timeout_s: float) -> None:
        super().__init__(DEFAULT_TENANT, parts)
        self._committer = committer
        self._timeout_s = timeout_s
        self._sql = work_statements(parts.statements.placeholder)
        self._handles: dict[str, SqlLedger] = {DEFAULT_TENANT: self}

    def for_tenant(self, tenant: str) -> SqlLedger:
        """Return the tenant's ledger: the same handle for the same tenant."""
        handle = self._handles.get(check_identifier("tenant", tenant))
        if handle is None:
            handle = self._handles[tenant] = SqlLedger(tenant, self._parts)
        return handle

    def stats(self) -> LedgerStats:
        """What was written through this store since it was opened."""
        return self._committer.stats()

    async def due(
        self,
        kind: WorkKind,
        *,
        now_ms: int | None = None,
        after: DuePosition | None = None,
        limit: int = 100,
    ) -> Sequence[DueSession]:
        """Return sessions in which something is due; see `WorkQueue.due`."""
        check_kind(kind)
        now_ms = self._clock.now_ms() if now_ms is None else now_ms
        work = partial(queue.due, sql=self._sql, kind=kind, now_ms=now_ms)
        return await self._parts.readers.run(partial(work, after=after, limit=limit))

    async def claim(
        self, tenant: str, session_id: str, *, claim_ms: int, limit: int = 32
    ) -> Sequence[OutboxEntry]:
        """Take rows to deliver; see `Outbox.claim`."""
        check_claim(tenant, session_id, claim_ms)
        now_ms = self._clock.now_ms()
        work = partial(outbox.claim, sql=self._sql, key=(tenant, session_id), now_ms=now_ms)
        return await self._write(partial(work, until_ms=now_ms + claim_ms, limit=limit))

    async def settle(self, reports: Sequence[OutboxReport]) -> None:
        """Record what became of rows of one session; see `Outbox.settle`."""
        admitted = admit_reports(reports)
        if admitted:
            work = partial(outbox.settle, sql=self._sql, reports=admitted)
            await self._write(partial(work, now_ms=self._clock.now_ms()))

    async def dead_letters(
        self, tenant: str, *, after: OutboxEntry | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        """Return a tenant's dead rows; see `Outbox.dead_letters`."""
        check_identifier("tenant", tenant)
        work = partial(outbox.dead_letters, sql=self._sql, tenant=tenant)
        return await self._parts.readers.run(partial(work, after=after, limit=limit))

    async def redrive(self, entry: OutboxEntry) -> bool:
        """Have a dead row tried again; see `Outbox.redrive`."""
        check_entry(entry)
        work = partial(outbox.redrive, sql=self._sql, entry=entry)
        return await self._write(partial(work, now_ms=self._clock.now_ms()))

    async def discard_delivered(self, *, before_ms: int, limit: int = 1000) -> int:
        """Delete rows that were delivered before that time; see `Outbox.discard_delivered`."""
        work = partial(outbox.discard, sql=self._sql, before_ms=before_ms, limit=limit)
        return await self._write(work)

    async def _write(self, work: Callable[[Any], T]) -> T:
        return await self._parts.transactor.run(work, timeout_s=self._timeout_s)
