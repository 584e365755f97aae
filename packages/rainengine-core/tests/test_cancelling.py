"""Cancellation: from any process, of runs in any state, with an outcome that says what is left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from rainengine.core import AgentProfile, Approval, Continue, EnginePolicy, Respond, Suspend
from rainengine.core.errors import InadmissibleValue, LedgerUnavailable, SessionNotFound
from rainengine.core.records import (
    CallReference,
    CancelRequest,
    ModelDecision,
    NewRecord,
    OutcomeRecord,
    ToolResult,
)
from rainengine.core.testing import CrashingLedger, SimulatedCrash
from rainengine.core.testing._forwarding import Forwarding


async def hang(_: Any) -> Any:
    """A model that never answers."""
    await trio.sleep_forever()


async def meanwhile(work: Callable[[], Awaitable[Any]], then: Callable[[], Awaitable[Any]]) -> Any:
    """Do the first, and a second into it the other; return what the first returned."""
    results: list[Any] = []

    async def first() -> None:
        results.append(await work())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await trio.sleep(1)
        await then()
    return results[0]


# What it does.


async def test_a_model_is_let_go_of_at_once(stage: Any) -> None:
    """In the process that works on the run nothing is waited for."""
    engine = stage.engine(hang)
    began = trio.current_time()
    result = await meanwhile(
        lambda: engine.advance(stage.request()), lambda: engine.cancel("s", "never mind")
    )
    assert trio.current_time() - began == 1
    assert (result.outcome.stop_reason, result.outcome.detail) == ("cancelled", "never mind")
    assert await stage.records(ModelDecision) == []


async def test_another_engine_of_the_process_lets_go_of_it_too(stage: Any) -> None:
    """Engines that share a ledger handle tell each other at once."""
    engine, other = stage.engine(hang), stage.engine([])
    began = trio.current_time()
    await meanwhile(lambda: engine.advance(stage.request()), lambda: other.cancel("s", "stop"))
    assert trio.current_time() - began == 1


async def test_elsewhere_a_model_is_let_go_of_with_a_heartbeat(stage: Any) -> None:
    """Another process learns of it the next time that it extends its lease."""
    holder = stage.engine(hang, ledger=stage.other_handle(), lease_ttl_ms=9_000)
    other = stage.engine([], owner="two")
    began = trio.current_time()
    result = await meanwhile(
        lambda: holder.advance(stage.request()), lambda: other.cancel("s", "never mind")
    )
    assert trio.current_time() - began == 3
    assert result.outcome.stop_reason == "cancelled"


async def test_news_that_cannot_be_read_are_read_later(stage: Any) -> None:
    """A ledger that is away when the holder looks ends nothing; the next heartbeat looks again."""

    class Away(Forwarding):
        reads = 0

        async def read(self, *args: Any, **options: Any) -> Any:
            self.reads += 1
            if self.reads == failing:
                raise LedgerUnavailable("away")
            return await super().read(*args, **options)

    failing = 0
    ledger = Away(stage.ledger)
    holder = stage.engine(hang, ledger=ledger, lease_ttl_ms=9_000)
    other = stage.engine([], owner="two")

    async def cancel() -> None:
        nonlocal failing
        failing = ledger.reads + 1
        await other.cancel("s", "never mind")

    began = trio.current_time()
    result = await meanwhile(lambda: holder.advance(stage.request()), cancel)
    assert trio.current_time() - began == 6
    assert result.outcome.stop_reason == "cancelled"


async def test_no_call_starts_after_a_cancel(stage: Any) -> None:
    """Calls that run are left to end; of those that wait for their turn none is started."""
    slow, next_one = stage.skill("slow", stage.taking(4)), stage.skill("next")
    engine = stage.engine(
        [stage.calls("slow", "next")],
        slow,
        next_one,
        policy=EnginePolicy(max_parallel_skill_calls=1),
    )
    await meanwhile(lambda: engine.advance(stage.request()), lambda: engine.cancel("s", "stop"))
    assert (len(slow.invocations), next_one.invocations) == (1, [])
    assert await stage.results() == {"c1": "done", "c2": "cancelled"}
    result = await engine.advance(stage.go_on)
    assert result.outcome.stop_reason == "cancelled"
    assert result.outcome.done == (CallReference(step=1, call_id="c1", name="slow"),)


async def test_elsewhere_no_call_starts_after_a_heartbeat(stage: Any) -> None:
    """The holder of a graph hears of a cancellation with its heartbeat, before its next append."""
    slow, next_one = stage.skill("slow", stage.taking(4)), stage.skill("next")
    holder = stage.engine(
        [stage.calls("slow", "next")],
        slow,
        next_one,
        ledger=stage.other_handle(),
        lease_ttl_ms=9_000,
        policy=EnginePolicy(max_parallel_skill_calls=1),
    )
    other = stage.engine([], owner="two")
    await meanwhile(lambda: holder.advance(stage.request()), lambda: other.cancel("s", "stop"))
    assert next_one.invocations == []


async def test_no_attempt_is_repeated_after_a_cancel(stage: Any) -> None:
    """A call that failed and would be tried again is not."""
    from rainengine.core import RetryPolicy

    async def fail(_: Any) -> Any:
        await trio.sleep(5)
        raise ConnectionError

    flaky = stage.skill("flaky", fail, retry=RetryPolicy(max_attempts=3))
    engine = stage.engine([stage.calls("flaky")], flaky)
    await meanwhile(lambda: engine.advance(stage.request()), lambda: engine.cancel("s", "stop"))
    assert len(flaky.invocations) == 1


async def test_the_outcome_lists_what_is_in_doubt(stage: Any) -> None:
    """What was done, and what may have happened, stand in the outcome; never that it did not."""
    read = stage.skill("read")
    send = stage.skill("send", stage.taking(60), effects="unsafe", timeout_ms=60_000)
    engine = stage.engine([stage.calls("read"), stage.calls("send")], read, send,
                          policy=EnginePolicy(max_tool_timeout_ms=60_000))  # fmt: skip
    await engine.advance(stage.request())
    await stage.interrupt(engine, stage.go_on)
    successor = stage.engine([])
    assert await successor.cancel("s", "enough")
    outcome = (await successor.advance(stage.go_on)).outcome
    assert outcome.stop_reason == "cancelled"
    assert outcome.done == (CallReference(step=1, call_id="c1", name="read"),)
    assert outcome.in_doubt == (CallReference(step=2, call_id="c1", name="send"),)
    assert [r.failure and r.failure.kind for r in await stage.records(ToolResult)] == [
        None,
        "unknown_outcome",
    ]
    (record,) = await stage.records(OutcomeRecord)
    assert (record.done, record.in_doubt) == (outcome.done, outcome.in_doubt)


# Which run.


async def test_it_says_whether_there_is_a_run(stage: Any) -> None:
    """True where a run is stopped, False where none is open, an error where there is no session."""
    engine = stage.engine([Continue(), Respond("x")])
    with pytest.raises(SessionNotFound):
        await engine.cancel("s", "x")
    await engine.advance(stage.request())
    assert await engine.cancel("s", "x")
    await engine.advance(stage.go_on)
    before = await stage.kinds()
    assert not await engine.cancel("s", "x")
    assert not await engine.cancel("s", "x", trigger_id="unknown")
    assert await stage.kinds() == before


async def test_the_active_run_is_meant(stage: Any) -> None:
    """Without an id it is the run that is worked on, and those that wait have their turn."""
    engine = stage.engine(
        lambda r: Continue() if "one" in str(r.trigger) else Respond("two is done")
    )
    first = (await engine.advance(stage.request(text="one"))).trigger_id
    await engine.submit(stage.request(text="two"))
    assert await engine.cancel("s", "stop")
    outcomes = [(await engine.advance(stage.go_on)).outcome for _ in range(2)]
    assert [(o.trigger_id == first, o.stop_reason) for o in outcomes] == [
        (True, "cancelled"),
        (False, "responded"),
    ]


async def test_a_run_can_be_named(stage: Any) -> None:
    """With an id it is that run, also while it waits for its turn; the model never sees to it."""
    engine = stage.engine(lambda _: Respond("x"))
    await engine.submit(stage.request(text="one"))
    two = await engine.submit(stage.request(text="two"))
    assert await engine.cancel("s", "stop", trigger_id=two.trigger_id)
    outcomes = [(await engine.advance(stage.go_on)).outcome for _ in range(2)]
    assert [outcome.stop_reason for outcome in outcomes] == ["responded", "cancelled"]
    assert len(stage.provider.requests) == 1


async def test_a_run_that_waits_for_an_answer_ends(stage: Any) -> None:
    """A suspended run ends cancelled, and an answer to it comes too late."""
    engine = stage.engine([Suspend(reason="sure?", pending_calls=()), Respond("x")])
    waiting = (await engine.advance(stage.request())).outcome
    assert await engine.cancel("s", "never mind")
    ended = (await engine.advance(stage.go_on)).outcome
    assert (ended.trigger_id, ended.stop_reason) == (waiting.trigger_id, "cancelled")
    late = (await engine.advance(answer_to(stage, waiting))).outcome
    assert late.stop_reason == "policy_aborted"
    assert len(stage.provider.requests) == 1


@pytest.mark.parametrize("named", [True, False])
async def test_a_cancel_overtakes_an_answer_that_waits(
    stage: Any,
    named: bool,  # noqa: FBT001
) -> None:
    """An answer that is not yet taken in is no run: what is stopped is the run that it is for."""
    engine = stage.engine([Suspend(reason="sure?", pending_calls=()), Respond("x")])
    waiting = (await engine.advance(stage.request())).outcome
    answer = await engine.submit(answer_to(stage, waiting))
    meant = answer.trigger_id if named else None
    assert await engine.cancel("s", "never mind", trigger_id=meant)
    ended = (await engine.advance(stage.go_on)).outcome
    assert (ended.trigger_id, ended.stop_reason) == (waiting.trigger_id, "cancelled")


def answer_to(stage: Any, outcome: Any) -> Any:
    """A request that approves what an outcome waits for."""
    trigger = Approval(resume_token=outcome.resume_token, decision="approved", approver="boss")
    return stage.request(trigger=trigger, granted_scopes=("scope:human_approval",))


async def test_a_worker_finds_a_run_that_is_to_end(stage: Any) -> None:
    """A run that nobody works on is listed as running once it is cancelled, to be ended."""
    from rainengine.core.abc import SessionQuery

    engine = stage.engine([Suspend(reason="sure?", pending_calls=())])
    await engine.advance(stage.request())
    await engine.cancel("s", "never mind")
    page = await stage.ledger.list_sessions(SessionQuery(states=("running",)))
    assert [session.session_id for session in page.sessions] == ["s"]
    await engine.advance(stage.go_on)
    page = await stage.ledger.list_sessions(SessionQuery(states=("running",)))
    assert page.sessions == ()


# How.


async def test_a_cancel_waits_for_nobody(stage: Any) -> None:
    """It is durable at once, beside a step that is under way in another process."""
    holder = stage.engine(hang, ledger=stage.other_handle())
    other = stage.engine([], owner="two")

    async def cancel() -> None:
        began = trio.current_time()
        await other.cancel("s", "stop")
        assert trio.current_time() == began
        (request,) = await stage.records(CancelRequest)
        assert request.reason == "stop"

    await meanwhile(lambda: holder.advance(stage.request()), cancel)


async def test_a_cancel_survives_the_holder(stage: Any) -> None:
    """Whoever takes the run over ends it, without asking the model."""
    dying = stage.engine([Continue()], ledger=CrashingLedger(stage.ledger, 2, "after"))
    with pytest.raises(SimulatedCrash):
        await dying.advance(stage.request())
    await stage.engine([], owner="two").cancel("s", "stop")
    result = await stage.engine([Respond("x")]).advance(stage.go_on)
    assert (result.outcome.stop_reason, stage.provider.requests) == ("cancelled", [])


async def test_an_answer_that_was_there_first_is_kept(stage: Any) -> None:
    """A decision that is obtained as the cancel comes in is stored, and nothing follows it."""

    async def answer(_: Any) -> Any:
        await stage.engine([], owner="two").cancel("s", "stop")
        return stage.calls("read")

    skill = stage.skill("read")
    engine = stage.engine(answer, skill)
    await engine.advance(stage.request())
    (decision,) = await stage.records(ModelDecision)
    assert decision.invalid is None
    assert (await engine.advance(stage.go_on)).outcome.stop_reason == "cancelled"


@pytest.mark.parametrize("reason", ["\0", "x\ud800", 7])
async def test_a_reason_that_no_ledger_takes_is_refused(stage: Any, reason: Any) -> None:
    """The caller is told, and nothing is stored."""
    engine = stage.engine([Continue()])
    await engine.advance(stage.request())
    before = await stage.kinds()
    with pytest.raises(InadmissibleValue):
        await engine.cancel("s", reason)
    assert await stage.kinds() == before


async def test_two_cancels_are_one_end(stage: Any) -> None:
    """Asked for twice, a run ends once, for the newest reason that was given before."""
    engine = stage.engine([Continue()])
    await engine.advance(stage.request())
    assert await engine.cancel("s", "first")
    assert await engine.cancel("s", "second")
    assert (await engine.advance(stage.go_on)).outcome.detail == "second"
    assert (await engine.advance(stage.go_on)).idle
    assert len(await stage.records(OutcomeRecord)) == 1


async def test_a_cancelled_key_is_replayed(stage: Any) -> None:
    """The same request again gets the outcome that its run was given."""
    engine = stage.engine([Continue()])
    await engine.advance(stage.request("k"))
    await engine.cancel("s", "stop")
    await engine.advance(stage.go_on)
    again = (await engine.advance(stage.request("k"))).outcome
    assert (again.stop_reason, again.idempotent_replay) == ("cancelled", True)


async def test_the_next_run_is_not_cancelled(stage: Any) -> None:
    """A cancel is for one run, and a message after it is answered."""
    engine = stage.engine(hang, profile=AgentProfile())
    await meanwhile(lambda: engine.advance(stage.request()), lambda: engine.cancel("s", "stop"))
    stage.provider._answer = lambda _: Respond("hi")
    assert (await engine.advance(stage.request())).outcome.response == "hi"


# Reasons that are too long to be repeated.

LONG = "r" * (4 * 2**20 - 150)


async def test_a_long_reason_is_cut_when_it_is_given(stage: Any) -> None:
    """Of a reason 500 characters are kept, so that the outcome can tell it again."""
    engine = stage.engine([])
    await engine.submit(stage.request())
    await engine.cancel("s", LONG)
    (request,) = await stage.records(CancelRequest)
    result = await engine.advance(stage.go_on)
    assert (LONG[:500], "cancelled") == (request.reason, result.outcome.stop_reason)
    assert LONG[:500] == result.outcome.detail


async def begin_long(stage: Any, skill: Any) -> Any:
    """Leave a session with a reason as no engine would store it, which an earlier one did."""
    engine = stage.engine([stage.calls("a")], skill)
    await stage.interrupt(engine)
    run = (await stage.replayed()).run
    request = NewRecord(CancelRequest(reason=LONG, trigger_id=run.trigger_id), 0, run.trigger_id)
    await stage.ledger.append("s", [request], expected=None)
    return stage.engine([], skill)


@pytest.mark.parametrize("effects", ["pure", "unsafe"])
async def test_a_long_reason_that_is_stored_ends_its_run(stage: Any, effects: str) -> None:
    """The outcome and the results of open calls repeat no more of it than fits."""
    engine = await begin_long(stage, stage.skill("a", stage.taking(60), effects=effects))
    result = await engine.advance(stage.go_on)
    assert "cancelled" == result.outcome.stop_reason
    assert (await stage.replayed()).run is None
    (ended,) = await stage.records(ToolResult)
    assert len(ended.failure.message) < 600
