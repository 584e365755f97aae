"""Calls of the model that fail are made again: recorded, counted, and within the run's time."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from rainengine.core import AgentProfile, Continue, EnginePolicy, Respond, RetryPolicy
from rainengine.core.errors import ProviderError
from rainengine.core.records import MemoryPolicy, ModelDecision, OutcomeRecord, ProviderUsage
from rainengine.core.testing import CrashingLedger, ScriptedIds, SimulatedCrash


def failure(retry_after_ms: Any = None, **details: Any) -> ProviderError:
    """A failure that may pass."""
    facts: dict[str, Any] = {"kind": "rate_limited", "retryable": True} | details
    return ProviderError("busy", retry_after_ms=retry_after_ms, **facts)


async def failures_of(stage: Any) -> list[tuple[int, int | None]]:
    """The step of each failed call, and when it was to be made again."""
    return [
        (usage.step, usage.retry_at_ms)
        for usage in await stage.records(ProviderUsage)
        if usage.status == "failed"
    ]


async def test_a_call_that_failed_is_made_again(stage: Any) -> None:
    """Each attempt is a record and a step, and the answer in the end is followed."""
    engine = stage.engine([failure(), failure(), Respond("hi")])
    results = await stage.play(engine)
    outcome = results[-1].outcome
    assert [result.outcome for result in results[:-1]] == [None, None]
    assert (outcome.response, outcome.steps_executed) == ("hi", 3)
    assert [step for step, _ in await failures_of(stage)] == [1, 2]
    assert [request.context.step for request in stage.provider.requests] == [1, 2, 3]


async def test_the_wait_is_drawn_below_a_growing_bound(stage: Any) -> None:
    """The waits before the attempts follow the policy's backoff, with full jitter."""
    policy = EnginePolicy(provider_retry=RetryPolicy(initial_interval_ms=1_000, max_attempts=4))
    engine = stage.engine(
        [failure(), failure(), failure(), Respond("hi")],
        policy=policy,
        ids=ScriptedIds(1, [0.0, 1.0, 0.5]),
    )
    began = stage.clock.now_ms()
    await stage.play(engine)
    waits = [at - began for _, at in await failures_of(stage) if at is not None]
    assert waits == [0, 2_000, 4_000]
    assert stage.clock.now_ms() - began == 4_000


async def test_the_providers_advice_is_taken(stage: Any) -> None:
    """A provider that says when it can be asked again is asked then, and not before."""
    engine = stage.engine([failure(7_000), Respond("hi")])
    began = stage.clock.now_ms()
    await stage.play(engine)
    assert await failures_of(stage) == [(1, began + 7_000)]
    assert stage.clock.now_ms() - began == 7_000


@pytest.mark.parametrize(
    "advice",
    [-1, 0, float("nan"), float("inf"), "soon", True, 1.5, None, 10**40],
)
async def test_hostile_advice_does_no_harm(stage: Any, advice: Any) -> None:
    """Advice that makes no sense is not taken."""
    engine = stage.engine([failure(advice), Respond("hi")])
    began = stage.clock.now_ms()
    assert (await stage.play(engine))[-1].outcome.response == "hi"
    assert stage.clock.now_ms() - began <= 250


@pytest.mark.parametrize("advice", [120_000, 2**31, 2**53])
async def test_nothing_is_waited_for_beyond_the_deadline(stage: Any, advice: int) -> None:
    """Where the wait would outlast the run, it ends at once with the provider's failure."""
    engine = stage.engine([failure(advice), Respond("hi")])
    began = stage.clock.now_ms()
    (result,) = await stage.play(engine)
    assert result.outcome.stop_reason == "provider_failure"
    assert result.outcome.detail == "rate_limited: busy"
    assert await failures_of(stage) == [(1, None)]
    assert stage.clock.now_ms() == began


async def test_after_the_last_attempt_the_run_ends(stage: Any) -> None:
    """After as many attempts as the policy allows, the run is a failure of the provider."""
    policy = EnginePolicy(provider_retry=RetryPolicy(max_attempts=2))
    results = await stage.play(stage.engine([failure(), failure(kind="timeout")], policy=policy))
    outcome = results[-1].outcome
    assert (outcome.stop_reason, outcome.steps_executed) == ("provider_failure", 2)
    assert outcome.detail == "timeout: busy"


async def test_what_cannot_pass_is_not_tried_again(stage: Any) -> None:
    """A failure that the provider calls final ends the run."""
    (result,) = await stage.play(stage.engine([failure(retryable=False), Respond("hi")]))
    assert result.outcome.stop_reason == "provider_failure"
    assert len(stage.provider.requests) == 1


async def test_attempts_in_a_row_are_counted(stage: Any) -> None:
    """An answer in between, of which no usage is known, starts the count of failures anew."""
    policy = EnginePolicy(provider_retry=RetryPolicy(max_attempts=2))
    engine = stage.engine(
        [failure(), Continue(), failure(), Continue(), failure(), Respond("hi")], policy=policy
    )
    assert (await stage.play(engine))[-1].outcome.response == "hi"


async def test_attempts_are_steps(stage: Any) -> None:
    """A provider that fails for ever reaches `max_steps`, however many attempts are allowed."""
    policy = EnginePolicy(max_steps=3, provider_retry=RetryPolicy(max_attempts=100))
    results = await stage.play(stage.engine(lambda _: failure(), policy=policy))
    outcome = results[-1].outcome
    assert (outcome.stop_reason, outcome.steps_executed) == ("max_steps_reached", 3)


async def test_a_wait_survives_a_crash(stage: Any) -> None:
    """A process that takes the run over asks no earlier than the one that died would have."""
    asked: list[int] = []

    def answer(_: Any) -> Any:
        asked.append(stage.clock.now_ms())
        return failure(30_000) if len(asked) == 1 else Respond("hi")

    await stage.engine(answer).advance(stage.request())
    await trio.sleep(10)
    result = await stage.engine(answer).advance(stage.go_on)
    assert result.outcome.response == "hi"
    assert asked[1] - asked[0] == 30_000


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_the_record_of_a_failure(stage: Any, when: Any) -> None:
    """A failure that was stored is not repeated; one that was not, is: one call a crash."""
    asked = 0

    def answer(_: Any) -> Any:
        nonlocal asked
        asked += 1
        return failure(1_000) if asked <= 2 else Respond("hi")

    dying = stage.engine(answer, ledger=CrashingLedger(stage.ledger, 2, when))
    with pytest.raises(SimulatedCrash):
        await dying.advance(stage.request())
    results = await stage.play(stage.engine(answer), stage.go_on)
    assert results[-1].outcome.response == "hi"
    assert asked == 3
    assert len(await failures_of(stage)) == (2 if when == "after" else 1)


async def test_a_cancel_ends_the_wait(stage: Any) -> None:
    """A run that waits to ask again is stopped at once."""
    engine = stage.engine([failure(60_000), Respond("hi")])
    await engine.advance(stage.request())
    began = stage.clock.now_ms()
    results: list[Any] = []

    async def go_on() -> None:
        results.append(await engine.advance(stage.go_on))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_on)
        await trio.sleep(1)
        assert await engine.cancel("s", "never mind")
    (result,) = results
    assert (result.outcome.stop_reason, result.outcome.detail) == ("cancelled", "never mind")
    assert stage.clock.now_ms() - began == 1_000
    assert len(stage.provider.requests) == 1


async def test_a_clock_that_was_set_back_does_not_hold_a_run_up(stage: Any) -> None:
    """The wait is never longer than the run may take."""
    policy = EnginePolicy(max_execution_time_ms=20_000)
    engine = stage.engine([failure(5_000), Respond("hi")], policy=policy)
    await engine.advance(stage.request())
    stage.clock.jump(-86_400_000)
    began = trio.current_time()
    assert (await engine.advance(stage.go_on)).outcome.response == "hi"
    assert trio.current_time() - began == 20


async def test_a_run_that_comes_to_its_time_in_the_wait_is_not_asked_about(stage: Any) -> None:
    """Where the clock leaps past the deadline during the wait, the run ends by it."""
    engine = stage.engine([failure(5_000), Respond("hi")])
    await engine.advance(stage.request())
    results: list[Any] = []

    async def go_on() -> None:
        results.append(await engine.advance(stage.go_on))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_on)
        await trio.sleep(1)
        stage.clock.jump(10**6)
    assert results[0].outcome.stop_reason == "deadline_exceeded"
    assert len(stage.provider.requests) == 1


async def test_a_summary_that_cannot_be_had_is_gone_without(stage: Any) -> None:
    """After its last attempt at a summary has failed, the run acts without one."""
    policy = EnginePolicy(provider_retry=RetryPolicy(max_attempts=2))
    profile = AgentProfile(memory=MemoryPolicy(max_recent_items=2))

    def answer(request: Any) -> Any:
        return failure() if request.purpose == "summarise" else Respond("hi")

    engine = stage.engine(answer, profile=profile, policy=policy)
    for _ in range(2):
        last = (await stage.play(engine))[-1].outcome
    assert last.response == "hi"
    assert [request.purpose for request in stage.provider.requests] == [
        "act",
        "summarise",
        "summarise",
        "act",
    ]
    (given_up,) = [d for d in await stage.records(ModelDecision) if d.purpose == "summarise"]
    assert given_up.invalid == "rate_limited: busy"


async def test_an_open_run_is_taken_up_in_its_wait_by_anybody(stage: Any) -> None:
    """The record of the failure holds the time, so any process that replays waits for it."""
    await stage.engine([failure(9_000)]).advance(stage.request())
    projection = await stage.replayed()
    ((_, at_ms),) = await failures_of(stage)
    assert (projection.run.retry_at_ms, projection.run.provider_failures) == (at_ms, 1)
    assert await stage.records(OutcomeRecord) == []
