"""Leases kept alive: extended while a step lasts, without a task where it does not last."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from rainengine.core import CallSkills, Continue, ContinueRequest, EnginePolicy, Respond
from rainengine.core.abc import LeaseChange
from rainengine.core.errors import (
    AppendUnknown,
    FenceLost,
    LedgerCorrupt,
    LedgerError,
    LedgerUnavailable,
    SessionBusy,
)
from rainengine.core.testing._forwarding import Forwarding


def living() -> int:
    """How many tasks there are."""
    return trio.lowlevel.current_statistics().tasks_living


def waiting(seconds: float) -> Callable[[Any], Awaitable[Respond]]:
    """A model that takes its time."""

    async def answer(_: Any) -> Respond:
        await trio.sleep(seconds)
        return Respond("x")

    return answer


caller: ContextVar[str] = ContextVar("caller")


class BeatingLedger(Forwarding):
    """A ledger that counts heartbeats and does something before each of them.

    The answers to appends come `answer_s` seconds late.
    """

    def __init__(
        self,
        inner: Any,
        before: Callable[[str], Awaitable[object]] | None = None,
        answer_s: float = 0,
    ) -> None:
        super().__init__(inner)
        self._before = before
        self._answer_s = answer_s
        self.beats: list[str] = []

    async def around_append(self, session_id: str, records: Any, send: Any) -> Any:
        appended = await send()
        await trio.sleep(self._answer_s)
        return appended

    async def heartbeat(self, session_id: str, **options: Any) -> Any:
        self.beats.append(session_id)
        if self._before is not None:
            await self._before(session_id)
        inner: Any = self._inner
        return await inner.heartbeat(session_id, **options)


def raising(error: Exception) -> Callable[[str], Awaitable[object]]:
    """What fails a heartbeat."""

    async def fail(_: str) -> None:
        raise error

    return fail


async def test_a_short_step_needs_no_heartbeat(stage: Any) -> None:
    """A step that ends within a third of its lease extends it with its appends alone."""
    ledger = BeatingLedger(stage.ledger)
    await stage.play(stage.engine(waiting(9), ledger=ledger))
    assert ledger.beats == []


@pytest.mark.parametrize("where", ["provider", "tool"])
async def test_long_calls_keep_the_lease(stage: Any, where: str, together: Any) -> None:
    """While a model or a tool takes longer than the lease, heartbeats extend it."""

    async def slowly(request: Any) -> Any:
        if where == "provider":
            await trio.sleep(10)
            return Respond("x")
        return stage.calls("slow") if request.context.step == 1 else Respond("x")

    skill = stage.skill("slow", stage.taking(9), timeout_ms=10_000)
    engine = stage.engine(slowly, skill, lease_ttl_ms=1_000)
    lowest: list[int] = []

    async def watch() -> None:
        await trio.sleep(0.05)
        for _ in range(80):
            await trio.sleep(0.1)
            lease = await stage.ledger.lease_of("s")
            lowest.append(lease.expires_at_ms - stage.clock.now_ms())

    await together([lambda: engine.advance(stage.request()), watch])
    assert min(lowest) >= 500
    assert (await stage.ledger.lease_of("s")).fence == 1


async def test_the_first_beat_counts_from_the_last_append(stage: Any) -> None:
    """A step that begins late in the lease extends it before it runs out."""

    async def slowly(request: Any) -> Any:
        if request.context.step == 1:
            return Continue()
        await trio.sleep(20)
        return Respond("x")

    engine = stage.engine(slowly)
    await engine.advance(stage.request())
    await trio.sleep(25)
    other = stage.engine([], owner="two", ledger=stage.other_handle())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.advance, stage.go_on)
        await trio.sleep(6)
        with pytest.raises(SessionBusy):
            await other.advance(stage.go_on)


async def test_a_lost_lease_cancels_the_tools(stage: Any) -> None:
    """A heartbeat that finds a newer fence ends the step: tools are cancelled, `FenceLost`."""
    ended: list[str] = []

    async def hang(_: Any) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("cancelled")

    skill = stage.skill("s", hang, timeout_ms=60_000, effects="unsafe")
    engine = stage.engine([stage.calls("s")], skill, lease_ttl_ms=3_000)
    other = stage.engine(
        [Respond("x")], skill, owner="two", ledger=stage.other_handle(), lease_ttl_ms=3_000
    )

    async def take_over() -> None:
        await trio.sleep(0.5)
        stage.clock.jump(10_000)
        await stage.play(other, stage.go_on)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_over)
        with pytest.raises(FenceLost):
            await engine.advance(stage.request())
    assert (ended, await stage.results()) == (["cancelled"], {"c1": "unknown_outcome"})


async def test_a_lost_lease_cancels_the_model(stage: Any) -> None:
    """A heartbeat that finds a newer fence ends the step while its model still thinks."""
    engine = stage.engine(waiting(40), owner="one", lease_ttl_ms=3_000)
    other = stage.engine([Respond("two's")], owner="two", ledger=stage.other_handle())

    async def take_over() -> None:
        await trio.sleep(0.5)
        stage.clock.jump(10_000)
        await other.advance(stage.go_on)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_over)
        with pytest.raises(FenceLost):
            await engine.advance(stage.request("k"))
    assert trio.current_time() - began <= 1.5
    again = await engine.advance(stage.request("k"))
    assert (again.outcome.response, again.outcome.idempotent_replay) == ("two's", True)


async def test_a_lost_lease_starts_no_further_call(stage: Any) -> None:
    """Calls that wait for others when the lease is lost are not made by the former holder."""
    first, second = stage.skill("first", stage.taking(4)), stage.skill("second")
    calls = [stage.call("first", "c1"), stage.call("second", "c2", depends_on=("c1",))]
    engine = stage.engine([CallSkills(calls)], first, second, lease_ttl_ms=3_000)

    async def take_over() -> None:
        await trio.sleep(0.5)
        stage.clock.jump(10_000)
        await stage.other_handle().append(
            "s", [], expected=None, lease=LeaseChange("take", "two", 30_000)
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_over)
        with pytest.raises(FenceLost):
            await engine.advance(stage.request())
    assert (len(first.invocations), second.invocations) == (1, [])


async def test_a_holder_that_was_stopped_finds_out_at_once(stage: Any) -> None:
    """After a stop for longer than the lease, the first thing to run is the heartbeat."""

    async def stopped(_: Any) -> None:
        stage.clock.jump(60_000)
        take = LeaseChange("take", "two", 30_000)
        await stage.other_handle().append("s", [], expected=None, lease=take)
        trio.lowlevel.current_clock().jump(60)  # in which nothing of this process has run
        await trio.sleep(60)

    skill = stage.skill("s", stopped, timeout_ms=120_000)
    policy = EnginePolicy(max_tool_timeout_ms=120_000)
    engine = stage.engine([stage.calls("s")], skill, policy=policy)
    began = trio.current_time()
    with pytest.raises(FenceLost):
        await engine.advance(stage.request())
    assert trio.current_time() - began == pytest.approx(60)


@pytest.mark.parametrize("error", [LedgerUnavailable("away"), AppendUnknown("perhaps")])
async def test_a_heartbeat_that_fails_ends_nothing(stage: Any, error: LedgerError) -> None:
    """A ledger that is away for heartbeats alone is tried again, and does not end the step."""
    ledger = BeatingLedger(stage.ledger, raising(error))
    engine = stage.engine(waiting(35), ledger=ledger)
    assert (await engine.advance(stage.request())).outcome.response == "x"
    assert len(ledger.beats) == 3


async def test_a_heartbeat_beside_the_last_append_ends_nothing(stage: Any) -> None:
    """A heartbeat that meets a lease just freed by the outcome is no lost fence."""
    ledger = BeatingLedger(stage.ledger, answer_s=2)
    engine = stage.engine([Respond("x")], ledger=ledger, lease_ttl_ms=3_000)
    assert (await engine.advance(stage.request())).outcome.response == "x"
    assert ledger.beats != []


@pytest.mark.parametrize("failure", [LedgerCorrupt("damaged"), ExceptionGroup("two", [OSError()])])
async def test_what_a_heartbeat_raises_comes_out_as_it_is(stage: Any, failure: Any) -> None:
    """An error of the ledger cancels the step and is raised by it, not wrapped into a group."""
    engine = stage.engine(waiting(40), ledger=BeatingLedger(stage.ledger, raising(failure)))
    began = trio.current_time()
    with pytest.raises(type(failure)) as caught:
        await engine.advance(stage.request())
    assert caught.value is failure
    assert trio.current_time() - began == pytest.approx(10)


async def test_a_ledger_that_fails_a_cancelled_heartbeat_ends_nothing(stage: Any) -> None:
    """What a heartbeat raises after its step is done changes nothing of what was done."""

    async def break_off(_: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError

    engine = stage.engine(waiting(11), ledger=BeatingLedger(stage.ledger, break_off))
    assert (await engine.advance(stage.request())).outcome.response == "x"


async def test_a_heartbeat_has_the_context_of_its_advance(stage: Any) -> None:
    """A ledger finds in a heartbeat the context variables of who called `advance`."""
    seen: list[str] = []

    async def look(_: str) -> None:
        seen.append(caller.get())

    engine = stage.engine(waiting(11), ledger=BeatingLedger(stage.ledger, look))
    caller.set("host")
    await engine.advance(stage.request())
    assert seen == ["host"]


async def test_steps_do_not_wait_for_each_others_heartbeats(stage: Any, together: Any) -> None:
    """A heartbeat that hangs delays none of another session."""

    async def hang(session_id: str) -> None:
        if session_id == "a":
            await trio.sleep_forever()

    ledger = BeatingLedger(stage.ledger, hang)
    engine = stage.engine(waiting(35), ledger=ledger)
    await together([lambda s=s: engine.advance(stage.request(session_id=s)) for s in ("a", "b")])
    assert sorted(ledger.beats) == ["a", "b", "b", "b"]


async def test_an_earlier_step_moves_the_alarm(stage: Any) -> None:
    """A step whose lease is older than those of the steps before it gets its heartbeat in time."""

    async def slowly(request: Any) -> Any:
        if request.context.session_id == "old" and request.context.step == 1:
            return Continue()
        await trio.sleep(9)
        return Respond("x")

    ledger = BeatingLedger(stage.ledger)
    engine = stage.engine(slowly, ledger=ledger)
    await engine.advance(stage.request(session_id="old"))
    await trio.sleep(8)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.advance, stage.request(session_id="new"))
        await trio.testing.wait_all_tasks_blocked()
        await engine.advance(ContinueRequest(session_id="old"))
        assert ledger.beats == ["old"]


async def test_a_clock_that_is_set_back_stops_no_heartbeat(stage: Any) -> None:
    """A lease is extended as often as before after the wall clock was set back by an hour."""
    ledger = BeatingLedger(stage.ledger)

    async def set_back(_: Any) -> Respond:
        stage.clock.jump(-3_600_000)
        await trio.sleep(35)
        return Respond("x")

    await stage.engine(set_back, ledger=ledger).advance(stage.request())
    assert len(ledger.beats) == 3


async def test_steps_under_way_share_one_task(stage: Any, together: Any) -> None:
    """However many sessions are worked on, one task watches over them until one needs more."""
    tasks: list[int] = []

    async def count(_: Any) -> Respond:
        await trio.sleep(5)
        tasks.append(living())
        return Respond("x")

    engine = stage.engine(count)
    before = living()
    await together(
        [lambda n=n: engine.advance(stage.request(session_id=f"s{n}")) for n in range(9)]
    )
    assert tasks[0] == before + 9 + 1


async def test_nothing_runs_between_advances(stage: Any) -> None:
    """An engine has no task while none of its advances is under way, also after a heartbeat."""
    before = living()
    ledger = BeatingLedger(stage.ledger)
    await stage.play(stage.engine(waiting(25), ledger=ledger))
    assert (len(ledger.beats), living()) == (2, before)


@pytest.mark.parametrize("seconds", [5, 10.5], ids=["before a beat", "during one"])
async def test_a_cancelled_advance_leaves_nothing(stage: Any, seconds: float) -> None:
    """Cancelled at any time, an advance ends its heartbeat and leaves no task."""

    async def slowly(_: str) -> None:
        await trio.sleep(1)

    before = living()
    engine = stage.engine(waiting(40), ledger=BeatingLedger(stage.ledger, slowly))
    await stage.interrupt(engine, after=seconds)
    assert living() == before


async def test_a_step_waits_for_the_end_of_its_heartbeat(stage: Any, together: Any) -> None:
    """A heartbeat that cannot be broken off is over when its advance returns, if others go on."""
    ended: list[float] = []

    async def stubborn(_: str) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)
        ended.append(trio.current_time())

    async def slowly(request: Any) -> Any:
        await trio.sleep(12 if request.context.session_id == "a" else 18)
        return Respond("x")

    engine = stage.engine(slowly, ledger=BeatingLedger(stage.ledger, stubborn))

    async def advance(session_id: str) -> int:
        await engine.advance(stage.request(session_id=session_id))
        return len(ended)

    assert (await together([lambda: advance("a"), lambda: advance("b")]))[0] >= 1


def test_an_engine_may_be_used_in_several_runs_of_trio(new_stage: Any, run_trio: Any) -> None:
    """Nothing of a heartbeat is kept from one run of trio to the next."""
    stage = new_stage()
    ledger = BeatingLedger(stage.ledger)
    engine = stage.engine(waiting(15), ledger=ledger)
    for text in ("a", "b"):
        run_trio(partial(engine.advance, stage.request(text=text)))
    assert len(ledger.beats) == 2


@settings(deadline=None, max_examples=40)
@given(steps=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 44)), min_size=1, max_size=6))
def test_no_lease_runs_out_under_a_step(new_stage: Any, run_trio: Any, steps: Any) -> None:
    """However steps overlap, each has its lease for as long as it lasts."""
    stage = new_stage()
    left: list[int] = []

    async def slowly(request: Any) -> Respond:
        for _ in range(int(request.trigger.content)):
            await trio.sleep(1)
            lease = await stage.ledger.lease_of(request.context.session_id)
            left.append(lease.expires_at_ms - stage.clock.now_ms())
        return Respond("x")

    engine = stage.engine(slowly)

    async def live(number: int, start_s: int, seconds: int) -> None:
        await trio.sleep(start_s)
        await engine.advance(stage.request(session_id=f"s{number}", text=f"{seconds}"))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number, (start_s, seconds) in enumerate(steps):
                nursery.start_soon(live, number, start_s, seconds)

    run_trio(main)
    assert min(left, default=20_000) >= 19_000
