"""Checks of what a store says is due."""

from __future__ import annotations

from collections.abc import Iterable

from rainengine.core.abc import (
    DuePosition,
    DueSession,
    LeaseChange,
    Outbox,
    OutboxItem,
    SessionIndex,
    SessionState,
    WorkKind,
    WorkQueue,
)
from rainengine.core.errors import InadmissibleValue
from rainengine.core.testing._expect import CheckFailed, expect, expect_equal
from rainengine.core.testing._maker import (
    LedgerMaker,
    WorkStore,
    new_tenant,
    one_store,
    tenant_of,
    two_stores,
)
from rainengine.core.testing._samples import note, trigger

HOUR_MS = 3_600_000
SHORT_MS = 50
LATER_MS = 2**52
"""A time that no check lives to see."""

KINDS: tuple[WorkKind, ...] = ("run", "wake", "outbox")


async def due_in(
    store: WorkQueue, kind: WorkKind, tenants: Iterable[str], *, now_ms: int | None = None
) -> list[DueSession]:
    """What is due in the tenants of a check, whoever else may use the store."""
    found: list[DueSession] = []
    for tenant in sorted(tenants):
        page = await store.due(kind, after=_before(tenant), limit=1000, now_ms=now_ms)
        found += [session for session in page if session.tenant == tenant]
    return found


def _before(tenant: str) -> DuePosition:
    """A position before all of a tenant's sessions, and after those of other checks."""
    return tenant[:-1], None


async def due_ids(
    store: WorkQueue, kind: WorkKind, tenant: str, *, now_ms: int | None = None
) -> list[str]:
    """The ids of a tenant's sessions in which something is due."""
    return [one.session_id for one in await due_in(store, kind, [tenant], now_ms=now_ms)]


async def check_only_a_store_shows_what_is_due(maker: LedgerMaker) -> None:
    """The handle of one tenant cannot be asked for work, which shows all tenants."""
    async with one_store(maker) as store:
        handle = store.for_tenant(new_tenant())
        expect(not isinstance(handle, WorkQueue), "a tenant's handle is no WorkQueue")
        expect(not isinstance(handle, Outbox), "a tenant's handle is no Outbox")


async def check_a_run_that_nobody_holds_is_due(maker: LedgerMaker) -> None:
    """A session in state `running` is due, with the agent of its index; others are not."""
    states: tuple[SessionState, ...] = (
        *("empty", "running", "completed"),
        *("suspended", "delegated", "stopped", "failed"),
    )
    async with two_stores(maker) as (one, other):
        tenant = new_tenant()
        for state in states:
            index = SessionIndex(state=state, agent=f"agent of {state}")
            await one.for_tenant(tenant).append(state, [note()], expected=None, index=index)
        await one.for_tenant(tenant).append("unindexed", [trigger()], expected=None)
        expected = DueSession(tenant=tenant, session_id="running", agent="agent of running")
        expect_equal([expected], await due_in(other, "run", [tenant]), "runs that are due")


async def check_a_run_needs_no_agent_to_be_due(maker: LedgerMaker) -> None:
    """Where the index names no agent the hint is None."""
    async with one_store(maker) as store:
        tenant = new_tenant()
        index = SessionIndex(state="running")
        await store.for_tenant(tenant).append("s", [trigger()], expected=None, index=index)
        expected = DueSession(tenant=tenant, session_id="s", agent=None)
        expect_equal([expected], await due_in(store, "run", [tenant]), "runs that are due")


async def check_a_run_is_due_once_its_lease_is_free(maker: LedgerMaker) -> None:
    """A held session is not due; it is as soon as its lease was freed."""
    take, free = LeaseChange("take", "a", HOUR_MS), LeaseChange("free", "a")
    running = SessionIndex(state="running")
    async with one_store(maker) as store:
        tenant = new_tenant()
        ledger = store.for_tenant(tenant)
        await ledger.append("s", [trigger()], expected=None, lease=take, index=running)
        expect_equal([], await due_ids(store, "run", tenant), "due while it is held")
        await ledger.append("s", [], expected=None, fence=1, lease=free)
        expect_equal(["s"], await due_ids(store, "run", tenant), "due once it is free")


async def check_a_run_is_due_once_its_lease_has_expired(maker: LedgerMaker) -> None:
    """A lease that ran out holds nobody; one that a heartbeat extended does."""
    running = SessionIndex(state="running")
    async with one_store(maker) as store:
        tenant = new_tenant()
        ledger = tenant_of(store, tenant)
        for session_id in ("abandoned", "beating"):
            take = LeaseChange("take", "a", SHORT_MS)
            await ledger.append(session_id, [trigger()], expected=None, lease=take, index=running)
        await ledger.heartbeat("beating", owner="a", fence=1, ttl_ms=HOUR_MS)
        await maker.let_pass(2 * SHORT_MS)
        expect_equal(["abandoned"], await due_ids(store, "run", tenant), "due after the expiry")


async def check_a_wake_is_due_when_its_time_has_come(maker: LedgerMaker) -> None:
    """A wake in the past is due, whoever holds the session and whatever its state; no other is."""
    take = LeaseChange("take", "a", HOUR_MS)
    async with one_store(maker) as store:
        tenant = new_tenant()
        ledger = store.for_tenant(tenant)
        for session_id, wake, lease in (
            ("held", 5, take),
            ("past", 5, None),
            ("later", LATER_MS, None),
            ("never", None, None),
        ):
            index = SessionIndex(state="suspended", agent="me", wake_due_at_ms=wake)
            await ledger.append(session_id, [note()], expected=None, lease=lease, index=index)
        found = await due_in(store, "wake", [tenant])
        expect_equal([("held", "me"), ("past", "me")], _agents(found), "wakes that are due")
        none = SessionIndex(state="suspended", wake_due_at_ms=0)
        await ledger.append("past", [note()], expected=None, index=none)
        expect_equal(["held"], await due_ids(store, "wake", tenant), "after one was taken back")


def _agents(sessions: Iterable[DueSession]) -> list[tuple[str, str | None]]:
    return [(session.session_id, session.agent) for session in sessions]


async def check_the_time_to_judge_by_can_be_given(maker: LedgerMaker) -> None:
    """With `now_ms`, leases and wakes are judged by that time, to the millisecond."""
    async with one_store(maker) as store:
        tenant = new_tenant()
        ledger = tenant_of(store, tenant)
        index = SessionIndex(state="running", wake_due_at_ms=LATER_MS)
        take = LeaseChange("take", "a", HOUR_MS)
        await ledger.append("s", [trigger()], expected=None, lease=take, index=index)
        times: tuple[tuple[WorkKind, int], ...] = (
            ("wake", LATER_MS),
            ("run", (await ledger.lease_of("s")).expires_at_ms),
        )
        for kind, at_ms in times:
            before = await due_ids(store, kind, tenant, now_ms=at_ms - 1)
            expect_equal([], before, f"{kind} a millisecond before")
            then = await due_ids(store, kind, tenant, now_ms=at_ms)
            expect_equal(["s"], then, f"{kind} at that time")


async def check_work_is_paged_across_tenants(maker: LedgerMaker) -> None:
    """Pages of each kind go by tenant and session id, by code points, and show each once."""
    first = new_tenant()
    keys = [
        (f"{first}{tenant}", session_id)
        for tenant in ("", "-a", "-B", "-ä", "-￮", "-\U0001f327")
        for session_id in ("10", "9", "a", "B", "ä", "￮", "\U0001f327")
    ]
    async with two_stores(maker) as (one, other):
        for tenant, session_id in reversed(keys):
            await _make_due(one, tenant, session_id)
        for kind in KINDS:
            for limit in (1, 4, len(keys)):
                found = await _walk(other, kind, first, limit)
                expect_equal(sorted(keys), found, f"{kind} in pages of {limit}")
            expect_equal([], list(await one.due(kind, limit=0)), f"{kind}, a page of none")


async def check_a_tenant_can_be_jumped_past(maker: LedgerMaker) -> None:
    """After `(tenant, None)` the next tenant's sessions come, whatever the names are."""
    first = new_tenant()
    tenants = [f"{first}{end}" for end in ("", "\1", "\1a", " ", "-", "a", "\U0010ffff")]
    async with one_store(maker) as store:
        for tenant in tenants:
            for session_id in ("\1", "a", "\U0010ffff"):
                await _make_due(store, tenant, session_id)
        for kind in KINDS:
            found: list[tuple[str, str]] = []
            after = _before(first)
            for _ in tenants:
                (session,) = await store.due(kind, after=after, limit=1)
                found.append((session.tenant, session.session_id))
                after = (session.tenant, None)
            expected = [(tenant, "\1") for tenant in tenants]
            expect_equal(expected, found, f"the first of each tenant, {kind}")


async def check_a_session_is_due_once_for_all_that_it_has(maker: LedgerMaker) -> None:
    """However many rows a session has to deliver, it is listed once."""
    async with one_store(maker) as store:
        tenant = new_tenant()
        items = [OutboxItem(topic=topic, payload=n) for topic in ("t", "u") for n in range(3)]
        for session_id in ("a", "b"):
            ledger = store.for_tenant(tenant)
            await ledger.append(session_id, [note()], expected=None, outbox=items)
        expect_equal(["a", "b"], await due_ids(store, "outbox", tenant), "sessions to deliver")


async def check_an_unknown_kind_of_work_is_refused(maker: LedgerMaker) -> None:
    """Asking for another kind of work is `InadmissibleValue`."""
    kind: WorkKind = "sleep"  # type: ignore[assignment]
    async with one_store(maker) as store:
        try:
            await store.due(kind)
        except InadmissibleValue:
            return
        raise CheckFailed("the kind 'sleep' was admitted")


async def _make_due(store: WorkStore, tenant: str, session_id: str) -> None:
    await store.for_tenant(tenant).append(
        session_id,
        [note()],
        expected=None,
        index=SessionIndex(state="running", wake_due_at_ms=1),
        outbox=[OutboxItem(topic="t", payload=None)],
    )


async def _walk(store: WorkQueue, kind: WorkKind, first: str, limit: int) -> list[tuple[str, str]]:
    """Page through what is due in the tenants whose names begin like this."""
    found: list[tuple[str, str]] = []
    after = _before(first)
    while True:
        page = await store.due(kind, after=after, limit=limit)
        ours = [(one.tenant, one.session_id) for one in page if one.tenant.startswith(first)]
        found += ours
        if len(ours) < limit:
            return found
        expect(after == _before(first) or after < ours[-1], f"after {after} comes {ours[-1]}")
        after = ours[-1]


CHECKS = (
    check_only_a_store_shows_what_is_due,
    check_a_run_that_nobody_holds_is_due,
    check_a_run_needs_no_agent_to_be_due,
    check_a_run_is_due_once_its_lease_is_free,
    check_a_run_is_due_once_its_lease_has_expired,
    check_a_wake_is_due_when_its_time_has_come,
    check_the_time_to_judge_by_can_be_given,
    check_work_is_paged_across_tenants,
    check_a_tenant_can_be_jumped_past,
    check_a_session_is_due_once_for_all_that_it_has,
    check_an_unknown_kind_of_work_is_refused,
)
