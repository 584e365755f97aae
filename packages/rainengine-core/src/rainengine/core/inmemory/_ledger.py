"""A ledger that lives in memory and keeps every promise that needs no disk.

Handles are apart from what they share: two handles over one backing store behave as two
processes over one database do.
An append awaits once, before it looks at anything; from there on nothing can come in between.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import attrs
import trio

from rainengine.core.abc import (
    Appended,
    Clock,
    EncodedEntry,
    Lease,
    LeaseChange,
    OutboxItem,
    SessionIndex,
    SessionPage,
    SessionQuery,
    Snapshot,
)
from rainengine.core.codec import check_identifier, encode_append, genesis_hash
from rainengine.core.inmemory._outbox import OutboxRow
from rainengine.core.inmemory._session import Session
from rainengine.core.records import Head, NewRecord, OutcomeRecord, StoredRecord


@attrs.define(eq=False)
class Shared:
    """What all handles of one tenant share."""

    sessions: dict[str, Session] = attrs.field(factory=dict[str, Session])
    listed: list[str] = attrs.field(factory=list[str])
    listed_in_order: bool = True
    watchers: dict[str, trio.lowlevel.ParkingLot] = attrs.field(
        factory=dict[str, trio.lowlevel.ParkingLot]
    )

    def keep(self, session: Session) -> None:
        """Keep a session from its first append on."""
        if session.session_id not in self.sessions:
            self.sessions[session.session_id] = session
            self.listed.append(session.session_id)
            self.listed_in_order = False

    def ids_after(self, after: str | None) -> list[str]:
        """The ids of the sessions after one, or of all, sorted."""
        if not self.listed_in_order:
            self.listed.sort()
            self.listed_in_order = True
        return self.listed if after is None else self.listed[bisect_right(self.listed, after) :]

    def wake(self, session_id: str) -> None:
        """Wake whoever waits for the session."""
        lot = self.watchers.pop(session_id, None)
        if lot is not None:
            lot.unpark_all()


@attrs.define(eq=False)
class Counts:
    """What a store's handle has written."""

    appends: int = 0
    records: int = 0


class InMemoryTenant:
    """One tenant's ledger in memory; made by `InMemoryLedger.for_tenant`."""

    def __init__(self, tenant: str, shared: Shared, clock: Clock, counts: Counts, cap: int) -> None:
        self._tenant = tenant
        self._cap = cap
        self._shared = shared
        self._clock = clock
        self._counts = counts

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._tenant!r}>"

    @property
    def tenant(self) -> str:
        """The tenant whose sessions these are."""
        return self._tenant

    @property
    def max_payload_bytes(self) -> int:
        """The largest JSON text of a record that this ledger takes, in bytes."""
        return self._cap

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
        """Append records, all or none; see `Ledger.append` for what may be raised."""
        await trio.lowlevel.checkpoint()
        batch = encode_append(
            session_id, records, lease=lease, index=index, outbox=outbox, cap=self._cap
        )
        session = self._session(session_id)
        now_ms = self._clock.now_ms()
        session.refuse(batch.records, expected=expected, fence=fence, lease=lease, now_ms=now_ms)
        appended = session.apply(batch, lease=lease, index=index, now_ms=now_ms)
        self._shared.keep(session)
        self._shared.wake(session_id)
        self._counts.appends += 1
        self._counts.records += len(batch.records)
        return appended

    def _session(self, session_id: str) -> Session:
        found = self._shared.sessions.get(session_id)
        if found is not None:
            return found
        check_identifier("session_id", session_id)
        return Session(session_id, Head(0, genesis_hash(self._tenant, session_id)))

    async def read(
        self, session_id: str, *, after: int = 0, limit: int = 1000
    ) -> Sequence[StoredRecord]:
        """Return up to `limit` records with sequences above `after`, in order."""
        await trio.lowlevel.checkpoint()
        session = self._session(session_id)
        return [session.stored(sequence) for sequence in session.page(after, limit)]

    async def read_encoded(
        self, session_id: str, *, after: int = 0, limit: int = 1000
    ) -> Sequence[EncodedEntry]:
        """Return up to `limit` records with sequences above `after`, as they were hashed."""
        await trio.lowlevel.checkpoint()
        session = self._session(session_id)
        return [session.encoded(sequence) for sequence in session.page(after, limit)]

    async def head(self, session_id: str) -> Head:
        """Return the session's head; sequence 0 and the genesis hash where it has no records."""
        await trio.lowlevel.checkpoint()
        return self._session(session_id).head

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        """Return one page of the tenant's sessions, by session id."""
        await trio.lowlevel.checkpoint()
        found: list[Session] = []
        for session_id in self._shared.ids_after(query.after):
            session = self._shared.sessions[session_id]
            if not _listed(session.index, query):
                continue
            if len(found) >= query.limit:
                return _page(found, found[-1].session_id if found else query.after)
            found.append(session)
        return _page(found, None)

    async def find_outcome(self, session_id: str, idempotency_key: str) -> OutcomeRecord | None:
        """Return the newest outcome of the run that the trigger with this key belongs to."""
        await trio.lowlevel.checkpoint()
        return self._session(session_id).outcome(idempotency_key)

    async def lease_of(self, session_id: str) -> Lease:
        """Return the session's lease, expired or not, with its fence and the head."""
        await trio.lowlevel.checkpoint()
        return self._session(session_id).lease(self._clock.now_ms())

    async def heartbeat(self, session_id: str, *, owner: str, fence: int, ttl_ms: int) -> Head:
        """Extend the lease and return the head. Raises `FenceLost`."""
        await trio.lowlevel.checkpoint()
        expires_at_ms = self._clock.now_ms() + ttl_ms
        session = self._session(session_id)
        return session.heartbeat(owner=owner, fence=fence, expires_at_ms=expires_at_ms)

    async def release(self, session_id: str, *, owner: str, fence: int) -> None:
        """Give up the lease if it is still this owner's under this fence; else do nothing."""
        await trio.lowlevel.checkpoint()
        self._session(session_id).release(owner=owner, fence=fence)

    async def load_snapshot(self, session_id: str, projection_version: int) -> Snapshot | None:
        """Return the newest snapshot of that version, if there is one."""
        await trio.lowlevel.checkpoint()
        return self._session(session_id).snapshots.get(projection_version)

    def offer_snapshot(self, session_id: str, snapshot: Snapshot) -> None:
        """Keep a snapshot, unless a newer one is there or the session is not."""
        session = self._shared.sessions.get(session_id)
        if session is None:
            return
        kept = session.snapshots.get(snapshot.projection_version)
        if kept is None or kept.sequence <= snapshot.sequence:
            session.snapshots[snapshot.projection_version] = snapshot

    async def wait_past(self, session_id: str, sequence: int) -> Head:
        """Return the head once its sequence is above `sequence`."""
        await trio.lowlevel.checkpoint()
        while (head := self._session(session_id).head).sequence <= sequence:
            lots = self._shared.watchers
            await lots.setdefault(session_id, trio.lowlevel.ParkingLot()).park()
        return head

    async def read_outbox(self, session_id: str) -> Sequence[OutboxRow]:
        """Return what the session's appends left to be delivered, in order."""
        await trio.lowlevel.checkpoint()
        return [delivery.row for delivery in self._session(session_id).outbox.kept.values()]


def _listed(index: SessionIndex, query: SessionQuery) -> bool:
    in_states = not query.states or index.state in query.states
    return in_states and (query.agent is None or index.agent == query.agent)


def _page(sessions: list[Session], after: str | None) -> SessionPage:
    return SessionPage(sessions=tuple([session.info() for session in sessions]), next=after)
