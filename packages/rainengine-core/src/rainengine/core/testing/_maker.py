"""What a store's author hands to the ledger checks, and what the checks make of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, runtime_checkable
from uuid import uuid4

import attrs

from rainengine.core.abc import (
    EncodedEntry,
    EncodedRecords,
    Lease,
    Ledger,
    LedgerStore,
    Outbox,
    SessionInfo,
    SessionLeases,
    SessionQuery,
    Snapshots,
    Watch,
    WorkQueue,
)


class LedgerMaker(Protocol):
    """Opens handles on one backing store, which may hold other tenants' sessions already.

    Every check works under tenants with new names, so one database serves all checks.
    """

    def open(self) -> AbstractAsyncContextManager[LedgerStore]:
        """Open one more handle on the same backing store, as another process would."""
        ...

    async def let_pass(self, ms: int) -> None:
        """Return once the clock that judges leases has moved on by at least `ms` milliseconds."""
        ...


@runtime_checkable
class FullLedger(Ledger, SessionLeases, Snapshots, Watch, EncodedRecords, Protocol):
    """A ledger with every capability that the checks look at."""


@runtime_checkable
class WorkStore(LedgerStore, WorkQueue, Outbox, Protocol):
    """A store with what workers ask of one."""


@attrs.frozen(kw_only=True)
class Picture:
    """Everything that a ledger shows of a session."""

    lease: Lease
    info: SessionInfo | None
    entries: tuple[EncodedEntry, ...]


def new_tenant() -> str:
    """A tenant name that no other check uses."""
    return f"check-{uuid4().hex}"


def tenant_of(store: LedgerStore, tenant: str) -> FullLedger:
    """The tenant's ledger with all its capabilities."""
    ledger = store.for_tenant(tenant)
    if not isinstance(ledger, FullLedger):
        raise TypeError(f"{ledger!r} lacks a capability that LEDGER_CHECKS needs")
    return ledger


@asynccontextmanager
async def one_ledger(maker: LedgerMaker) -> AsyncGenerator[FullLedger]:
    """A new tenant's ledger."""
    async with maker.open() as store:
        yield tenant_of(store, new_tenant())


@asynccontextmanager
async def two_ledgers(maker: LedgerMaker) -> AsyncGenerator[tuple[FullLedger, FullLedger]]:
    """A new tenant's ledger through two handles on one backing store."""
    tenant = new_tenant()
    async with maker.open() as one, maker.open() as other:
        yield tenant_of(one, tenant), tenant_of(other, tenant)


@asynccontextmanager
async def one_store(maker: LedgerMaker) -> AsyncGenerator[WorkStore]:
    """A store that workers can use."""
    async with maker.open() as store:
        yield _for_workers(store)


@asynccontextmanager
async def two_stores(maker: LedgerMaker) -> AsyncGenerator[tuple[WorkStore, WorkStore]]:
    """Two handles on one backing store."""
    async with maker.open() as one, maker.open() as other:
        yield _for_workers(one), _for_workers(other)


def _for_workers(store: LedgerStore) -> WorkStore:
    if not isinstance(store, WorkStore):
        raise TypeError(f"{store!r} lacks a capability that WORK_CHECKS needs")
    return store


async def picture(ledger: FullLedger, session_id: str) -> Picture:
    """Read everything that the ledger shows of a session."""
    return Picture(
        lease=await ledger.lease_of(session_id),
        info=await _listing(ledger, session_id),
        entries=tuple(await ledger.read_encoded(session_id, limit=100_000)),
    )


async def _listing(ledger: Ledger, session_id: str) -> SessionInfo | None:
    query = SessionQuery()
    while True:
        page = await ledger.list_sessions(query)
        found = [info for info in page.sessions if info.session_id == session_id]
        if found or page.next is None:
            return found[0] if found else None
        query = attrs.evolve(query, after=page.next)
