"""All tenants' ledgers in memory: the store, and what workers ask of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from heapq import nsmallest
from itertools import islice
from operator import itemgetter

import attrs
import trio

from rainengine.core.abc import (
    DEFAULT_TENANT,
    Clock,
    DeadLetter,
    DuePosition,
    DueSession,
    OutboxEntry,
    OutboxReport,
    WorkKind,
)
from rainengine.core.codec import (
    MAX_PAYLOAD_BYTES,
    admit_reports,
    check_claim,
    check_entry,
    check_identifier,
    check_kind,
)
from rainengine.core.environment import SystemClock
from rainengine.core.errors import InvalidConfiguration
from rainengine.core.inmemory._ledger import Counts, InMemoryTenant, Shared
from rainengine.core.inmemory._outbox import Deliveries
from rainengine.core.inmemory._session import Session


@attrs.frozen(kw_only=True)
class LedgerStats:
    """What a store's handle has written: transactions, appends in them, records in those."""

    commits: int
    appends: int
    records: int


class InMemoryLedger(InMemoryTenant):
    """All tenants' ledgers in memory; used as a ledger itself, it is the default tenant's.

    `backing` is another such store, whose records this one shares, and its clock if given none.
    `max_payload_bytes` is the largest record that this handle takes.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        backing: InMemoryLedger | None = None,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
    ) -> None:
        self._tenants: dict[str, Shared] = {}
        if backing is not None:
            self._tenants = backing._tenants  # noqa: SLF001 - its own class
            clock = clock or backing._clock  # noqa: SLF001
        self._handles: dict[str, InMemoryTenant] = {DEFAULT_TENANT: self}
        shared = self._tenants.setdefault(DEFAULT_TENANT, Shared())
        clock = clock or SystemClock()
        super().__init__(DEFAULT_TENANT, shared, clock, Counts(), max_payload_bytes)

    def for_tenant(self, tenant: str) -> InMemoryTenant:
        """Return the tenant's ledger: the same handle for the same tenant."""
        handle = self._handles.get(check_identifier("tenant", tenant))
        if handle is None:
            shared = self._tenants.setdefault(tenant, Shared())
            handle = InMemoryTenant(tenant, shared, self._clock, self._counts, self._cap)
            self._handles[tenant] = handle
        return handle

    def stats(self) -> LedgerStats:
        """What was written through this handle and its tenants' ledgers."""
        counts = self._counts
        return LedgerStats(commits=counts.appends, appends=counts.appends, records=counts.records)

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
        await trio.lowlevel.checkpoint()
        now_ms = self._clock.now_ms() if now_ms is None else now_ms
        found = (
            DueSession(tenant=tenant, session_id=session.session_id, agent=session.index.agent)
            for tenant, session in self._sessions_after(after or ("", ""))
            if session.is_due(kind, now_ms)
        )
        return list(islice(found, max(limit, 0)))

    def _sessions_after(self, position: DuePosition) -> Iterator[tuple[str, Session]]:
        first, after = position
        for tenant in sorted(self._tenants):
            if tenant < first or (tenant == first and after is None):
                continue
            shared = self._tenants[tenant]
            for session_id in shared.ids_after(after if tenant == first else None):
                yield tenant, shared.sessions[session_id]

    async def claim(
        self, tenant: str, session_id: str, *, claim_ms: int, limit: int = 32
    ) -> Sequence[OutboxEntry]:
        """Take rows to deliver; see `Outbox.claim`."""
        check_claim(tenant, session_id, claim_ms)
        await trio.lowlevel.checkpoint()
        now_ms = self._clock.now_ms()
        rows = self._outbox(tenant, session_id).claim(
            now_ms=now_ms, until_ms=now_ms + claim_ms, limit=max(limit, 0)
        )
        return [row.entry(tenant) for row in rows]

    async def settle(self, reports: Sequence[OutboxReport]) -> None:
        """Record what became of rows of one session; see `Outbox.settle`."""
        admitted = admit_reports(reports)
        await trio.lowlevel.checkpoint()
        now_ms = self._clock.now_ms()
        for report in admitted:
            self._outbox(report.entry.tenant, report.entry.session_id).settle(report, now_ms)

    async def dead_letters(
        self, tenant: str, *, after: OutboxEntry | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        """Return a tenant's dead rows; see `Outbox.dead_letters`."""
        check_identifier("tenant", tenant)
        await trio.lowlevel.checkpoint()
        found = (
            letter
            for session in self._sessions_of(tenant)
            for letter in session.outbox.dead_letters(tenant)
            if after is None or _place(after) < _place(letter.entry)
        )
        return list(islice(found, max(limit, 0)))

    async def redrive(self, entry: OutboxEntry) -> bool:
        """Have a dead row tried again; see `Outbox.redrive`."""
        check_entry(entry)
        await trio.lowlevel.checkpoint()
        return self._outbox(entry.tenant, entry.session_id).redrive(entry, self._clock.now_ms())

    async def discard_delivered(self, *, before_ms: int, limit: int = 1000) -> int:
        """Delete rows that were delivered before that time; see `Outbox.discard_delivered`."""
        await trio.lowlevel.checkpoint()
        delivered = [
            (row.delivered_at_ms, outbox, row)
            for outbox in self._outboxes()
            for row in outbox.kept.values()
            if row.delivered_at_ms is not None and row.delivered_at_ms < before_ms
        ]
        oldest = nsmallest(max(limit, 0), delivered, key=itemgetter(0))
        for _, outbox, row in oldest:
            del outbox.kept[row.place]
        return len(oldest)

    def _outbox(self, tenant: str, session_id: str) -> Deliveries:
        shared = self._tenants.get(tenant)
        session = None if shared is None else shared.sessions.get(session_id)
        return Deliveries() if session is None else session.outbox

    def _outboxes(self) -> Iterator[Deliveries]:
        for shared in self._tenants.values():
            for session in shared.sessions.values():
                yield session.outbox

    def _sessions_of(self, tenant: str) -> Iterator[Session]:
        shared = self._tenants.get(tenant, Shared())
        return (shared.sessions[session_id] for session_id in shared.ids_after(None))


def _place(entry: OutboxEntry) -> tuple[str, int, int]:
    return entry.session_id, entry.sequence, entry.ordinal


@asynccontextmanager
async def open_memory_url(url: str) -> AsyncGenerator[InMemoryLedger]:
    """Open an empty ledger by its URL, `memory:`. Raises `InvalidConfiguration` for any other."""
    if url != "memory:":
        # Not the URL itself: a mistyped one may hold a password.
        raise InvalidConfiguration("url", "it is not 'memory:', the only URL of this store")
    yield InMemoryLedger()
