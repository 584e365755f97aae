"""Checks of listings and of the walls between tenants."""

from __future__ import annotations

import attrs
import trio

from rainengine.core.abc import (
    DEFAULT_TENANT,
    LeaseChange,
    LedgerStore,
    SessionIndex,
    SessionPage,
    SessionQuery,
    SessionState,
)
from rainengine.core.errors import InadmissibleValue
from rainengine.core.records import NewRecord
from rainengine.core.testing._expect import CheckFailed, expect, expect_equal
from rainengine.core.testing._maker import (
    FullLedger,
    LedgerMaker,
    new_tenant,
    one_ledger,
    tenant_of,
    two_ledgers,
)
from rainengine.core.testing._samples import note, trigger

EVERYTHING = SessionQuery()


async def check_a_listing_shows_each_session(maker: LedgerMaker) -> None:
    """A session's line holds its head, index, lease and the times of its records."""
    index = SessionIndex(state="suspended", agent="agent", wake_due_at_ms=77)
    take = LeaseChange("take", "a", 60_000)
    async with one_ledger(maker) as ledger:
        await ledger.append("s", [trigger()], expected=None, lease=take)
        done = await ledger.append("s", [note(at=9)], expected=None, fence=1, index=index)
        lease = await ledger.lease_of("s")
        (info,) = (await ledger.list_sessions(SessionQuery())).sessions
        expect_equal(("s", done.head), (info.session_id, info.head), "id and head")
        expect_equal(index, _index(info), "index")
        shown = (info.lease_owner, info.lease_expires_at_ms, info.fence)
        expect_equal((lease.owner, lease.expires_at_ms, lease.fence), shown, "lease")


async def check_a_line_keeps_its_index(maker: LedgerMaker) -> None:
    """An index sets the state, and agent and wake where it names them; a wake of 0 is none."""
    steps: tuple[tuple[SessionIndex | None, SessionIndex], ...] = (
        (_index_of("running"), _index_of("running")),
        (_index_of("suspended", "a", 77), _index_of("suspended", "a", 77)),
        (None, _index_of("suspended", "a", 77)),
        (_index_of("running"), _index_of("running", "a", 77)),
        (_index_of("running", "b"), _index_of("running", "b", 77)),
        (_index_of("running", None, 0), _index_of("running", "b", None)),
    )
    async with one_ledger(maker) as ledger:
        for index, expected in steps:
            await ledger.append("s", [note()], expected=None, index=index)
            (info,) = (await ledger.list_sessions(SessionQuery())).sessions
            expect_equal(expected, _index(info), f"index after {index}")


async def check_a_listing_is_paged_by_session_id(maker: LedgerMaker) -> None:
    """Pages follow the ids' code points; `next` leads on and is absent on the last page."""
    ids = ["", "a", "B", "a b", "ä", "aa", "z", "Z", "\U0001f327", "￮", "10", "9", "a-b", "a_b"]
    ids = sorted(filter(None, ids))
    async with one_ledger(maker) as ledger:
        for session_id in reversed(ids):
            await ledger.append(session_id, [note()], expected=None)
        for limit in (1, 5, len(ids), len(ids) + 1):
            expect_equal(ids, await _all_ids(ledger, limit), f"ids in pages of {limit}")
        last = await ledger.list_sessions(SessionQuery(after=ids[-3], limit=2))
        expect_equal(None, last.next, "next of a last page that is full")
        between = await ledger.list_sessions(SessionQuery(after="a a", limit=1))
        expect_equal("a b", between.sessions[0].session_id, "page after an id that is not there")


async def check_a_listing_is_filtered(maker: LedgerMaker) -> None:
    """`states` and `agent` filter, together too, and pages stay full."""
    states: tuple[SessionState, ...] = ("running", "completed", "failed")
    async with one_ledger(maker) as ledger:
        for n in range(12):
            index = _index_of(states[n % 3], f"agent{n % 2}")
            await ledger.append(f"s{n:02}", [note()], expected=None, index=index)
        for query, expected in (
            (SessionQuery(states=("running",)), [0, 3, 6, 9]),
            (SessionQuery(states=("completed", "failed")), [1, 2, 4, 5, 7, 8, 10, 11]),
            (SessionQuery(agent="agent1"), [1, 3, 5, 7, 9, 11]),
            (SessionQuery(states=("running",), agent="agent1"), [3, 9]),
            (SessionQuery(states=("suspended",)), []),
            (SessionQuery(agent="nobody"), []),
        ):
            found = await _all_ids(ledger, 3, query)
            expect_equal([f"s{n:02}" for n in expected], found, f"ids for {query}")
        full = await ledger.list_sessions(SessionQuery(states=("running",), limit=3))
        expect_equal(3, len(full.sessions), "sessions on a filtered page")


async def check_paging_misses_nothing_while_sessions_arrive(maker: LedgerMaker) -> None:
    """Paging under inserts shows every session that was there before, each once."""
    async with two_ledgers(maker) as (one, other):
        before = [f"s{n:03}" for n in range(40)]
        for session_id in before:
            await one.append(session_id, [note()], expected=None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_insert, other, [f"s{n:03}x" for n in range(40)])
            found = await _all_ids(one, 3)
        expect_equal(len(found), len(set(found)), "each id once")
        expect_equal(before, [i for i in found if not i.endswith("x")], "ids from before")


async def check_tenants_see_nothing_of_each_other(maker: LedgerMaker) -> None:
    """One tenant's records, leases, outcomes, keys and listings are absent for another."""
    async with maker.open() as store:
        one, other = (tenant_of(store, new_tenant()) for _ in range(2))
        take = LeaseChange("take", "a", 60_000)
        await one.append("s", [trigger("key"), note()], expected=None, lease=take)
        expect_equal(0, (await other.head("s")).sequence, "head")
        expect_equal([], list(await other.read("s")), "records")
        expect_equal([], list(await other.read_encoded("s")), "encoded records")
        expect_equal(None, (await other.lease_of("s")).owner, "lease")
        expect_equal(None, await other.find_outcome("s", "key"), "outcome")
        expect_equal((), (await other.list_sessions(SessionQuery())).sessions, "listing")
        await other.append("s", [trigger("key")], expected=await other.head("s"), lease=take)
        expect_equal(2, (await one.head("s")).sequence, "the first tenant's head")


async def check_a_tenant_has_one_handle(maker: LedgerMaker) -> None:
    """`for_tenant` gives the same handle each time; the store is the default tenant's."""
    async with maker.open() as store:
        name = new_tenant()
        handle = store.for_tenant(name)
        expect(handle is store.for_tenant(name), "the same handle for the same tenant")
        expect_equal(name, handle.tenant, "the handle's tenant")
        expect(store.for_tenant(DEFAULT_TENANT) is store, "the store is the default tenant's")
        expect_equal(DEFAULT_TENANT, store.tenant, "the store's own tenant")
        expect(not isinstance(handle, LedgerStore), "a tenant's handle leads to no other tenant")


async def check_a_tenant_name_is_admitted(maker: LedgerMaker) -> None:
    """A tenant's name obeys the rule for identifiers."""
    async with maker.open() as store:
        for name in ("", "a\0", "\ud800", "x" * 513):
            try:
                store.for_tenant(name)
            except InadmissibleValue:
                continue
            raise CheckFailed(f"tenant {name[:10]!r} was admitted")


def _index_of(
    state: SessionState, agent: str | None = None, wake_due_at_ms: int | None = None
) -> SessionIndex:
    return SessionIndex(state=state, agent=agent, wake_due_at_ms=wake_due_at_ms)


def _index(info: object) -> SessionIndex:
    names = [field.name for field in attrs.fields(SessionIndex)]
    return SessionIndex(**{name: getattr(info, name) for name in names})


async def _all_ids(ledger: FullLedger, limit: int, query: SessionQuery = EVERYTHING) -> list[str]:
    query = attrs.evolve(query, limit=limit)
    found: list[str] = []
    while True:
        page: SessionPage = await ledger.list_sessions(query)
        found += [info.session_id for info in page.sessions]
        if page.next is None:
            return found
        query = attrs.evolve(query, after=page.next)


async def _insert(ledger: FullLedger, ids: list[str]) -> None:
    batch: list[NewRecord] = [note()]
    for session_id in ids:
        await ledger.append(session_id, batch, expected=None)


CHECKS = (
    check_a_listing_shows_each_session,
    check_a_line_keeps_its_index,
    check_a_listing_is_paged_by_session_id,
    check_a_listing_is_filtered,
    check_paging_misses_nothing_while_sessions_arrive,
    check_tenants_see_nothing_of_each_other,
    check_a_tenant_has_one_handle,
    check_a_tenant_name_is_admitted,
)
