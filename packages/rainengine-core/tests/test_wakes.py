"""Wakes: scheduled by the host, brought in once when their time has come."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from rainengine.core import Agent, AgentProfile, Continue, Respond, ScheduledWake, codec
from rainengine.core.abc import SessionQuery
from rainengine.core.errors import (
    AgentMismatch,
    InadmissibleValue,
    LedgerUnavailable,
    SessionBusy,
    WakeRefused,
)
from rainengine.core.records import (
    CancelRequest,
    CoordinationClaim,
    KernelEventRecord,
    NewRecord,
    ProactiveHeartbeat,
    TriggerRecord,
    WakePolicy,
    WakeRequested,
    WakeScheduled,
)
from rainengine.core.testing import FailAfter, FailBefore, FaultyLedger, IntakeBefore


async def schedule(stage: Any, engine: Any, wake_id: str = "w", in_ms: int = 1_000) -> int:
    """Schedule a wake and return when it is due."""
    due_at_ms: int = stage.clock.now_ms() + in_ms
    await engine.schedule_wake("s", due_at_ms=due_at_ms, reason="look", wake_id=wake_id)
    return due_at_ms


async def listing(stage: Any) -> tuple[str, int | None, str | None]:
    """The session's state, when its next wake is due, and who holds it."""
    (info,) = (await stage.ledger.list_sessions(SessionQuery())).sessions
    return info.state, info.wake_due_at_ms, info.lease_owner


async def wakes_in(stage: Any) -> list[str]:
    """The ids of the wakes whose triggers were stored."""
    triggers = [record.trigger for record in await stage.records(TriggerRecord)]
    return [trigger.wake_id for trigger in triggers if isinstance(trigger, ScheduledWake)]


# Scheduling.


async def test_a_wake_is_recorded_and_listed(stage: Any) -> None:
    """A new session holds the wake alone, is listed with its time, and belongs to nobody."""
    due_at_ms = await schedule(stage, stage.engine())
    event = WakeScheduled(wake_id="w", due_at_ms=due_at_ms, reason="look", agent="default")
    assert [KernelEventRecord(event)] == await stage.records(KernelEventRecord)
    assert ("empty", due_at_ms, None) == await listing(stage)


async def test_a_wake_without_an_id_gets_one(stage: Any) -> None:
    """Two wakes without ids are two wakes."""
    engine = stage.engine()
    ids = [await engine.schedule_wake("s", due_at_ms=5, reason="look") for _ in range(2)]
    assert ids == list((await stage.replayed()).world.wakes)


async def test_a_wake_leaves_a_finished_session_as_it_is(stage: Any) -> None:
    """A session whose runs are over is not listed as running because of a wake."""
    engine = stage.engine([Respond("x")])
    await stage.play(engine)
    due_at_ms = await schedule(stage, engine)
    assert ("completed", due_at_ms, None) == await listing(stage)


async def test_a_wake_beside_an_open_run_keeps_its_lease(stage: Any) -> None:
    """Between two steps the holder schedules under its fence, and the run goes on."""
    engine = stage.engine([Continue(), Respond("x")])
    await engine.advance(stage.request())
    due_at_ms = await schedule(stage, engine)
    assert ("running", due_at_ms, "one") == await listing(stage)
    assert "x" == (await engine.advance(stage.go_on)).outcome.response
    assert 1 == (await stage.ledger.lease_of("s")).fence


async def test_a_wake_waits_for_the_step(stage: Any, together: Any) -> None:
    """During a step of the same process it is recorded after the step."""

    async def slowly(_: Any) -> Any:
        await trio.sleep(5)
        return Respond("x")

    engine = stage.engine(slowly)

    async def later() -> None:
        await trio.sleep(1)
        await schedule(stage, engine)

    await together([lambda: engine.advance(stage.request()), later])
    assert ["outcome", "kernel_event"] == [
        kind for kind in await stage.kinds() if kind in ("outcome", "kernel_event")
    ][-2:]


async def test_a_session_held_elsewhere_takes_no_wake(stage: Any) -> None:
    """While another process holds the session it is `SessionBusy`, and nothing is stored."""
    await stage.engine([Continue()]).advance(stage.request())
    other = stage.engine(owner="two", ledger=stage.other_handle())
    before = await stage.stored()
    with pytest.raises(SessionBusy):
        await schedule(stage, other)
    assert before == await stage.stored()


async def test_an_abandoned_lease_is_taken_and_given_back(stage: Any) -> None:
    """A former holder might come back, so it is shut out by a claim before a wake is recorded."""
    former = stage.engine([Continue(), Respond("x")])
    await former.advance(stage.request())
    await trio.sleep(60)
    await schedule(stage, stage.engine(owner="two", ledger=stage.other_handle()))
    (claim,) = await stage.records(CoordinationClaim)
    assert ("two", "one") == (claim.owner, claim.previous_owner)
    lease = await stage.ledger.lease_of("s")
    assert (None, 2) == (lease.owner, lease.fence)


async def test_the_same_wake_again_stores_nothing(stage: Any) -> None:
    """Scheduling is idempotent: the same id with the same content is not recorded twice."""
    engine = stage.engine()
    for _ in range(3):
        await engine.schedule_wake("s", due_at_ms=5, reason="look", wake_id="w")
    assert 1 == len(await stage.stored())


@pytest.mark.parametrize(
    "change", [{"due_at_ms": 9}, {"reason": "other"}, {"granted_scopes": ("a",)}]
)
async def test_a_wake_is_moved(stage: Any, change: dict[str, Any]) -> None:
    """The same id with other content replaces the wake, and the listing follows."""
    engine = stage.engine()
    wake = {"due_at_ms": 5, "reason": "look", "wake_id": "w"}
    await engine.schedule_wake("s", **wake)
    await engine.schedule_wake("s", **(wake | change))
    assert 2 == len(await stage.stored())
    assert [(wake | change)["due_at_ms"]] == [
        pending.due_at_ms for pending in (await stage.replayed()).world.wakes.values()
    ]
    assert (wake | change)["due_at_ms"] == (await listing(stage))[1]


async def test_the_policy_may_forbid_wakes(stage: Any) -> None:
    """An agent whose policy does not allow wakes gets `WakeRefused`, and nothing is stored."""
    policy = WakePolicy(allow_scheduled_wakes=False)
    engine = stage.engine(profile=AgentProfile(wake=policy))
    with pytest.raises(WakeRefused) as caught:
        await schedule(stage, engine)
    assert ("not_allowed", 0) == (caught.value.reason, len(await stage.stored()))


async def test_the_policy_bounds_pending_wakes(stage: Any) -> None:
    """One wake too many is refused; moving one that is pending is not."""
    engine = stage.engine(profile=AgentProfile(wake=WakePolicy(max_pending_wakes=2)))
    for wake_id in ("a", "b"):
        await schedule(stage, engine, wake_id)
    with pytest.raises(WakeRefused) as caught:
        await schedule(stage, engine, "c")
    assert "too_many" == caught.value.reason
    await schedule(stage, engine, "b", in_ms=5)
    assert 3 == len(await stage.stored())


async def test_a_wake_that_fired_is_not_scheduled_again(stage: Any) -> None:
    """From its trigger on, a wake's id is used up: waiting, running and finished."""
    engine = stage.engine([Continue(), Respond("x")])
    await schedule(stage, engine, in_ms=0)
    await engine.fire_wakes("s")
    for _ in range(3):
        with pytest.raises(WakeRefused) as caught:
            await schedule(stage, engine)
        assert "fired" == caught.value.reason
        await engine.advance(stage.go_on)


@pytest.mark.parametrize(
    "wrong",
    [
        {"due_at_ms": 0},
        {"due_at_ms": 1.5},
        {"wake_id": ""},
        {"wake_id": "w" * 510},
        {"reason": "\0"},
        {"granted_scopes": "scope"},
    ],
)
async def test_a_wake_is_admitted_like_anything_else(stage: Any, wrong: dict[str, Any]) -> None:
    """What breaks the admission rule is refused, and nothing is stored."""
    wake = {"due_at_ms": 5, "reason": "look", "wake_id": "w"}
    with pytest.raises(InadmissibleValue):
        await stage.engine().schedule_wake("s", **(wake | wrong))
    assert [] == await stage.stored()


async def test_intake_beside_scheduling_is_looked_at_first(stage: Any) -> None:
    """A wake that is brought in just before it is moved counts as fired."""
    await schedule(stage, stage.engine(), in_ms=0)
    trigger = ScheduledWake(wake_id="w", due_at_ms=stage.clock.now_ms(), reason="look")
    fired = NewRecord(TriggerRecord(trigger_id="t", trigger=trigger, body_hash=""), 0, "t")
    ledger = FaultyLedger(stage.other_handle(), {1: IntakeBefore([fired])})
    with pytest.raises(WakeRefused) as caught:
        await schedule(stage, stage.engine(ledger=ledger))
    assert "fired" == caught.value.reason


@pytest.mark.parametrize("fault", [FailBefore, FailAfter])
async def test_scheduling_can_be_tried_again(stage: Any, fault: Any) -> None:
    """After a failed append the same call settles it: the wake is there once."""
    ledger = FaultyLedger(stage.ledger, {1: fault(LedgerUnavailable("away"))})
    engine = stage.engine(ledger=ledger)
    call = {"due_at_ms": 5, "reason": "look", "wake_id": "w"}
    with pytest.raises(LedgerUnavailable):
        await engine.schedule_wake("s", **call)
    await engine.schedule_wake("s", **call)
    assert 1 == len(await stage.stored())


# Firing.


async def test_a_wake_becomes_a_trigger(stage: Any) -> None:
    """When its time has come it is stored as a trigger under its own key, and waits for a step."""
    engine = stage.engine([Respond("good morning")])
    due_at_ms = await schedule(stage, engine)
    assert () == await engine.fire_wakes("s")
    await trio.sleep(1)
    (fired,) = await engine.fire_wakes("s")
    stored = (await stage.stored())[-1]
    assert ScheduledWake(wake_id="w", due_at_ms=due_at_ms, reason="look") == stored.record.trigger
    assert ("wake:w", fired.sequence) == (stored.idempotency_key, stored.sequence)
    assert ("running", None, None) == await listing(stage)
    assert "good morning" == (await engine.advance(stage.go_on)).outcome.response


async def test_a_wake_brings_its_own_scopes(stage: Any) -> None:
    """The run may do what was granted to the wake, and what its agent may do anyway."""
    profile = AgentProfile(default_scopes=("default",))
    engine = stage.engine(profile=profile)
    await engine.schedule_wake("s", due_at_ms=5, reason="r", granted_scopes=["extra", "extra"])
    await engine.fire_wakes("s")
    (record,) = await stage.records(TriggerRecord)
    assert ("default", "extra") == record.granted_scopes


async def test_all_that_is_due_comes_in_at_once(stage: Any) -> None:
    """Due wakes are one append, the oldest first; the next one is then listed."""
    engine = stage.engine()
    await schedule(stage, engine, "late", in_ms=-1)
    await schedule(stage, engine, "later", in_ms=0)
    next_ms = await schedule(stage, engine, "next", in_ms=10_000)
    commits = stage.ledger.stats().commits
    fired = await engine.fire_wakes("s")
    assert (1, 2) == (stage.ledger.stats().commits - commits, len(fired))
    assert ["late", "later"] == await wakes_in(stage)
    assert ("running", next_ms, None) == await listing(stage)


async def test_the_caller_may_say_what_time_it_is(stage: Any) -> None:
    """What is due is judged by `now_ms` where it is given."""
    engine = stage.engine()
    due_at_ms = await schedule(stage, engine)
    assert () == await engine.fire_wakes("s", now_ms=due_at_ms - 1)
    assert 1 == len(await engine.fire_wakes("s", now_ms=due_at_ms))


async def test_two_processes_fire_once(stage: Any, together: Any) -> None:
    """However many find it due at the same time, one of them brings it in."""
    await schedule(stage, stage.engine(), in_ms=0)
    engines = [stage.engine(owner=f"{n}", ledger=stage.other_handle()) for n in range(4)]
    fired = await together([lambda e=engine: e.fire_wakes("s") for engine in engines])
    assert 1 == sum(len(one) for one in fired)
    assert ["w"] == await wakes_in(stage)


async def test_a_wake_fires_beside_a_step(stage: Any, together: Any) -> None:
    """Neither a step of the same process nor one of another holds a wake up."""

    async def slowly(_: Any) -> Any:
        await trio.sleep(20)
        return Respond("x")

    engine = stage.engine(slowly)
    await schedule(stage, engine)
    other = stage.engine(owner="two", ledger=stage.other_handle())
    stage_times: list[float] = []

    async def meanwhile(firing: Any) -> None:
        await trio.sleep(2)
        await firing.fire_wakes("s")
        stage_times.append(trio.current_time())

    began = trio.current_time()
    await together(
        [
            lambda: engine.advance(stage.request()),
            lambda: meanwhile(engine),
            lambda: meanwhile(other),
        ]
    )
    assert [began + 2, began + 2] == stage_times
    assert ["w"] == await wakes_in(stage)
    assert "x" == (await engine.advance(stage.go_on)).outcome.response


async def test_wakes_of_another_agent_are_left_to_it(stage: Any) -> None:
    """An agent fires its own wakes; where only others' are due it is told whose they are."""
    mine, other = stage.engine(), stage.engine(agent=Agent(name="other"))
    await schedule(stage, mine, "mine", in_ms=0)
    await schedule(stage, other, "theirs", in_ms=0)
    await mine.fire_wakes("s")
    assert stage.clock.now_ms() == (await listing(stage))[1]
    with pytest.raises(AgentMismatch) as caught:
        await mine.fire_wakes("s")
    assert ("other", "default") == (caught.value.wanted, caught.value.served)
    assert ["mine"] == await wakes_in(stage)
    await other.fire_wakes("s")
    assert ["mine", "theirs"] == await wakes_in(stage)


async def test_a_wake_that_was_only_requested_fires_too(stage: Any) -> None:
    """A wake that a planner asked for belongs to the agent that comes to it."""
    event = WakeRequested(wake_id="w", due_at_ms=5, reason="look")
    await stage.ledger.append("s", [NewRecord(KernelEventRecord(event), 0)], expected=None)
    await stage.engine(agent=Agent(name="any")).fire_wakes("s")
    (record,) = await stage.records(TriggerRecord)
    assert "any" == record.agent.name


def test_a_wake_from_before_it_was_told_who_asked_is_read() -> None:
    """A stored wake and a stored trigger without these fields stand for what the host wanted."""
    wake = '{"event":{"due_at_ms":5,"reason":"r","type":"wake_scheduled","wake_id":"w"}}'
    event = WakeScheduled(wake_id="w", due_at_ms=5, reason="r")
    assert KernelEventRecord(event) == codec.decode("kernel_event", 1, wake)
    trigger = '{"trigger_id":"t","body_hash":"","trigger":{"type":"heartbeat","timestamp_ms":1}}'
    record = codec.decode("trigger", 1, trigger)
    assert (
        TriggerRecord(trigger_id="t", body_hash="", trigger=ProactiveHeartbeat(timestamp_ms=1))
        == record
    )


async def test_a_wake_id_that_is_used_twice_holds_up_no_other(stage: Any) -> None:
    """Records from elsewhere may schedule a used id again: it stays, and the others fire."""
    engine = stage.engine([Respond("x")])
    await schedule(stage, engine, in_ms=0)
    await engine.fire_wakes("s")
    await engine.advance(stage.go_on)
    again = WakeScheduled(wake_id="w", due_at_ms=5, reason="again")
    await stage.ledger.append("s", [NewRecord(KernelEventRecord(again), 0)], expected=None)
    await schedule(stage, engine, "fresh", in_ms=0)
    assert 1 == len(await engine.fire_wakes("s"))
    assert ["w", "fresh"] == await wakes_in(stage)
    assert () == await engine.fire_wakes("s")


async def test_a_busy_holder_cannot_hold_a_wake_up(stage: Any) -> None:
    """Where the head moves at each attempt, the trigger is stored at whatever head there is."""
    await schedule(stage, stage.engine(), in_ms=0)
    noise = IntakeBefore([NewRecord(CancelRequest(reason="x", trigger_id="nobody"), 0)])
    ledger = FaultyLedger(stage.other_handle(), dict.fromkeys(range(1, 20), noise))
    assert 1 == len(await stage.engine(ledger=ledger).fire_wakes("s"))
    assert ["w"] == await wakes_in(stage)
    assert 4 == ledger.appends


async def test_a_host_may_bring_a_wake_in_by_itself(stage: Any) -> None:
    """A `ScheduledWake` that came as a request is no longer pending, whatever its key."""
    engine = stage.engine([Respond("x")])
    await schedule(stage, engine, in_ms=60_000)
    wake = ScheduledWake(wake_id="w", due_at_ms=5, reason="early")
    await engine.advance(stage.request("mine", trigger=wake))
    assert ("completed", None, None) == await listing(stage)
    await trio.sleep(60)
    assert () == await engine.fire_wakes("s")


@pytest.mark.parametrize(("jump_ms", "fires"), [(-3_600_000, 0), (3_600_000, 1)])
async def test_the_wall_clock_decides(stage: Any, jump_ms: int, fires: int) -> None:
    """A clock set forward fires a wake once; a clock set back delays it."""
    engine = stage.engine()
    await schedule(stage, engine, in_ms=60_000)
    stage.clock.jump(jump_ms)
    for _ in range(3):
        await engine.fire_wakes("s")
    assert fires == len(await wakes_in(stage))
    stage.clock.jump(max(-jump_ms, 0) + 60_000)
    for _ in range(3):
        await engine.fire_wakes("s")
    assert 1 == len(await wakes_in(stage))


# Giving a session back.


async def test_a_released_session_is_free_at_once(stage: Any) -> None:
    """After `release` another process goes on without waiting for the lease."""
    engine = stage.engine([Continue()])
    await engine.advance(stage.request())
    await engine.release("s")
    other = stage.engine([Respond("x")], owner="two", ledger=stage.other_handle())
    assert "x" == (await other.advance(stage.go_on)).outcome.response


async def test_a_released_session_can_be_taken_up_again(stage: Any) -> None:
    """The engine that gave a session back goes on with it by a claim."""
    engine = stage.engine([Continue(), Respond("x")])
    await engine.advance(stage.request())
    await engine.release("s")
    assert "x" == (await engine.advance(stage.go_on)).outcome.response
    assert 2 == (await stage.ledger.lease_of("s")).fence


async def test_only_ones_own_lease_is_given_back(stage: Any) -> None:
    """Releasing what another process holds, or nobody, or what is not there, changes nothing."""
    other = stage.engine(owner="two", ledger=stage.other_handle())
    await other.release("s")
    await stage.engine([Continue()]).advance(stage.request())
    before = await stage.ledger.lease_of("s")
    await other.release("s")
    assert before == await stage.ledger.lease_of("s")


async def test_a_forgotten_session_is_given_back_too(stage: Any) -> None:
    """An engine that no longer has a session in memory still gives its lease back."""
    engine = stage.engine([Continue(), Respond("x")], cached_sessions=1)
    await engine.advance(stage.request())
    await engine.advance(stage.request(session_id="another"))
    await engine.release("s")
    assert None is (await stage.ledger.lease_of("s")).owner


# All together.

DEEDS = st.lists(
    st.one_of(
        st.tuples(st.just("schedule"), st.sampled_from("abc"), st.integers(1, 40)),
        st.tuples(st.just("fire"), st.sampled_from([0, 1]), st.integers(0, 50)),
        st.tuples(st.just("advance"), st.sampled_from([0, 1]), st.just(0)),
    ),
    max_size=24,
)


@settings(max_examples=60, deadline=None)
@given(deeds=DEEDS)
def test_every_wake_fires_once_at_its_last_time(deeds: Any, new_stage: Any, run_trio: Any) -> None:
    """Scheduled, moved and fired in any order by two processes, each wake has one run."""

    async def main() -> None:
        stage = new_stage()
        engines = [
            stage.engine(lambda _: Respond("x"), owner=f"{n}", ledger=stage.other_handle())
            for n in (0, 1)
        ]
        wanted: dict[str, int] = {}
        for deed, what, number in deeds:
            if deed == "schedule":
                used_up = what in await wakes_in(stage)
                with pytest.raises(WakeRefused) if used_up else nullcontext():
                    await engines[0].schedule_wake("s", due_at_ms=number, reason="r", wake_id=what)
                    wanted[what] = number
            elif deed == "fire":
                await engines[what].fire_wakes("s", now_ms=number)
            elif (await stage.ledger.head("s")).sequence:
                await engines[what].advance(stage.go_on)
                await engines[what].release("s")
        await engines[0].fire_wakes("s", now_ms=50)
        triggers = [record.trigger for record in await stage.records(TriggerRecord)]
        assert sorted(wanted.items()) == sorted((t.wake_id, t.due_at_ms) for t in triggers)
        if wanted:
            while not (await engines[0].advance(stage.go_on)).idle:
                pass
            assert ("completed", None, None) == await listing(stage)

    run_trio(main)
