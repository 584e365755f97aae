"""Gates: when a run may not take another step."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rainengine.core import Continue, EnginePolicy, Message, Plan, ProviderConfig, Respond
from rainengine.core.abc import ProviderDecision, Usage
from rainengine.core.errors import ProviderError
from rainengine.core.kernel import AskProvider, Finish, RunGraph, next_effect
from rainengine.core.projection import Graph, Run, SessionProjection
from rainengine.core.records import AgentRef, ModelDecision, OutcomeRecord, ProviderUsage


def run_with(**changes: Any) -> Run:
    """A run that began at 1,000 ms and may take a step."""
    run = Run(
        trigger_id="t",
        trigger=Message(user_id="u", content=""),
        sequence=1,
        idempotency_key=None,
        agent=AgentRef(),
        granted_scopes=(),
        policy=EnginePolicy(),
        provider=ProviderConfig(),
        traceparent=None,
        body_hash="",
        started_at_ms=1_000,
    )
    return attrs.evolve(run, **changes)


CLOSED: list[tuple[str, dict[str, Any], int, int]] = [
    ("cancelled", {"cancel_reason": "stop"}, 0, 0),
    ("deadline_exceeded", {}, 121_000, 0),
    ("max_steps_reached", {"steps": 16}, 0, 0),
    ("policy_aborted", {"failure_steps": 20}, 0, 0),
    ("policy_aborted", {}, 0, 5_000_000),
]


@pytest.mark.parametrize("first", range(len(CLOSED)))
def test_gates_are_asked_in_order(first: int) -> None:
    """Of several closed gates the first counts: cancelled, deadline, steps, failures, cost."""
    changes: dict[str, Any] = {}
    now_ms = cost = 0
    for _, change, time, spent in CLOSED[first:]:
        changes |= change
        now_ms, cost = max(now_ms, time), max(cost, spent)
    projection = SessionProjection(run=run_with(**changes))
    projection.usage.cost_micros = cost
    effect = next_effect(projection, EnginePolicy(), now_ms)
    assert isinstance(effect, Finish)
    assert effect.stop_reason == CLOSED[first][0]


@pytest.mark.parametrize(
    ("changes", "now_ms", "cost"),
    [({}, 120_999, 0), ({"steps": 15}, 0, 0), ({"failure_steps": 19}, 0, 0), ({}, 0, 4_999_999)],
    ids=["deadline", "steps", "failures", "cost"],
)
def test_a_gate_is_open_until_its_limit(changes: dict[str, Any], now_ms: int, cost: int) -> None:
    """One below a limit the model is asked."""
    projection = SessionProjection(run=run_with(**changes))
    projection.usage.cost_micros = cost
    run = projection.run
    assert run is not None
    assert next_effect(projection, EnginePolicy(), now_ms) == AskProvider(run, run.steps + 1)


def test_reserved_cost_counts_as_spent() -> None:
    """What is reserved and not settled counts towards the session's cost."""
    projection = SessionProjection(run=run_with())
    projection.usage.cost_micros = projection.usage.reserved_micros = 2_500_000
    assert isinstance(next_effect(projection, EnginePolicy(), 0), Finish)


def test_suspended_time_does_not_count() -> None:
    """The deadline moves by the time that a run was suspended."""
    projection = SessionProjection(run=run_with(suspended_ms=10_000))
    assert isinstance(next_effect(projection, EnginePolicy(), 130_999), AskProvider)
    assert isinstance(next_effect(projection, EnginePolicy(), 131_000), Finish)


@given(st.sampled_from(["steps", "failures", "cost"]))
def test_an_open_graph_is_finished_whatever_its_step_used_up(gate: str) -> None:
    """Before an unfinished graph goes on, only cancellation and the deadline are asked."""
    run = run_with(
        graph=Graph(graph_id="g", step=1, nodes={}),
        steps=99 if gate == "steps" else 1,
        failure_steps=99 if gate == "failures" else 0,
    )
    projection = SessionProjection(run=run)
    projection.usage.cost_micros = 10**9 if gate == "cost" else 0
    assert next_effect(projection, EnginePolicy(), 0) == RunGraph(run)
    assert isinstance(next_effect(projection, EnginePolicy(), 10**9), Finish)


async def test_max_steps_ends_the_run(stage: Any) -> None:
    """After `max_steps` decisions the next advance ends the run without asking the model."""
    engine = stage.engine(lambda _: Continue(), policy=EnginePolicy(max_steps=3))
    results = await stage.play(engine)
    outcome = results[-1].outcome
    assert (outcome.stop_reason, outcome.steps_executed) == ("max_steps_reached", 3)
    assert len(stage.provider.requests) == 3


async def test_no_steps_at_all_ends_the_run_at_once(stage: Any) -> None:
    """With `max_steps=0` the model is never asked."""
    (result,) = await stage.play(stage.engine([], policy=EnginePolicy(max_steps=0)))
    assert (result.outcome.stop_reason, stage.provider.requests) == ("max_steps_reached", [])


async def test_plans_are_steps(stage: Any) -> None:
    """A model that plans for ever reaches `max_steps`."""
    engine = stage.engine(
        lambda _: Plan(summary="think", confidence=0.9), policy=EnginePolicy(max_steps=4)
    )
    outcome = (await stage.play(engine))[-1].outcome
    assert (outcome.stop_reason, outcome.steps_executed) == ("max_steps_reached", 4)


async def test_invalid_decisions_are_steps(stage: Any) -> None:
    """A model that always answers nonsense reaches `max_steps`."""
    engine = stage.engine(
        lambda _: Plan(summary="", confidence=7), policy=EnginePolicy(max_steps=4)
    )
    outcome = (await stage.play(engine))[-1].outcome
    assert (outcome.stop_reason, outcome.steps_executed) == ("max_steps_reached", 4)


async def test_the_deadline_counts_from_the_trigger(stage: Any) -> None:
    """Continuing does not start the time anew: it counts from the beginning of the run."""
    engine = stage.engine(lambda _: Continue(), policy=EnginePolicy(max_execution_time_ms=10_000))
    await engine.advance(stage.request())
    for _ in range(3):
        stage.clock.jump(3_000)
        assert (await engine.advance(stage.go_on)).outcome is None
    stage.clock.jump(1_000)
    result = await engine.advance(stage.go_on)
    assert result.outcome.stop_reason == "deadline_exceeded"
    assert len(stage.provider.requests) == 4


async def test_another_process_keeps_the_deadline(stage: Any) -> None:
    """A run continued by a new process ends by the time its trigger gave it."""
    policy = EnginePolicy(max_execution_time_ms=10_000)
    await stage.engine([Continue()]).advance(stage.request(policy=policy))
    stage.clock.jump(10_000)
    result = await stage.engine([Respond("late")]).advance(stage.go_on)
    assert (result.outcome.stop_reason, stage.provider.requests) == ("deadline_exceeded", [])


async def test_the_deadline_ends_a_step_under_way(stage: Any) -> None:
    """A model that takes longer than the run's time ends it as `deadline_exceeded`."""

    async def slowly(_: Any) -> Respond:
        await stage.taking(60)(None)
        return Respond("late")

    policy = EnginePolicy(max_execution_time_ms=10_000)
    began = stage.clock.now_ms()
    result = await stage.engine(slowly, policy=policy).advance(stage.request())
    assert result.outcome.stop_reason == "deadline_exceeded"
    assert stage.clock.now_ms() - began == 10_000


async def test_a_timeout_of_the_providers_own_is_no_deadline(stage: Any) -> None:
    """A provider that itself gives up is a `provider_failure`, however short the run is."""
    error = ProviderError("slow", kind="timeout", retryable=False)
    policy = EnginePolicy(max_execution_time_ms=10_000)
    result = await stage.engine([error], policy=policy).advance(stage.request())
    assert result.outcome.stop_reason == "provider_failure"


async def test_steps_in_which_everything_failed_end_the_run(stage: Any) -> None:
    """After `max_consecutive_tool_failures` steps with failed calls only, the run is aborted."""
    bad = stage.skill("bad", stage.returning(ValueError("no")), circuit_breaker_threshold=1.1)
    policy = EnginePolicy(max_consecutive_tool_failures=3)
    engine = stage.engine(lambda _: stage.calls("bad", "bad"), bad, policy=policy)
    outcome = (await stage.play(engine))[-1].outcome
    assert (outcome.stop_reason, outcome.steps_executed) == ("policy_aborted", 3)


async def test_one_success_makes_a_step_no_failure(stage: Any) -> None:
    """A step with one successful call starts the count of failure steps anew."""
    bad = stage.skill("bad", stage.returning(ValueError("no")), circuit_breaker_threshold=1.1)
    engine = stage.engine(
        [stage.calls("bad"), stage.calls("bad", "good"), stage.calls("bad"), Respond("hi")],
        bad,
        stage.skill("good"),
        policy=EnginePolicy(max_consecutive_tool_failures=2),
    )
    assert (await stage.play(engine))[-1].outcome.response == "hi"


async def test_the_sessions_cost_is_a_limit(stage: Any) -> None:
    """Once the session cost its limit, over all its runs, no model is asked any more."""
    decision = ProviderDecision(action=Respond("hi"), usage=Usage(cost_micros=600_000))
    engine = stage.engine(lambda _: decision, policy=EnginePolicy(max_cost_per_session=1.0))
    reasons = [(await engine.advance(stage.request())).outcome.stop_reason for _ in range(3)]
    assert reasons == ["responded", "responded", "policy_aborted"]
    assert len(stage.provider.requests) == 2


ODD: dict[str, dict[str, Any]] = {
    "negative cost": {"cost_micros": -1},
    "NaN cost": {"cost_micros": float("nan")},
    "infinite cost": {"cost_micros": float("inf")},
    "negative tokens": {"input_tokens": -5},
    "tokens as text": {"output_tokens": "many\0"},
    "a truth value": {"cached_tokens": True},
    "an integer that fits nowhere": {"cost_micros": 10**30},
    "nothing": {"cost_micros": None},
}


@pytest.mark.parametrize("odd", ODD)
async def test_odd_usage_is_an_invalid_decision(stage: Any, odd: str) -> None:
    """A decision with figures that cannot be is recorded as invalid, counted, and not followed."""
    decision = ProviderDecision(action=Respond("hi"), usage=Usage(**ODD[odd]))
    engine = stage.engine([decision, Respond("ok")])
    first = await engine.advance(stage.request())
    (usage,) = await stage.records(ProviderUsage)
    (invalid,) = await stage.records(ModelDecision)
    assert (first.outcome, invalid.step, invalid.action) == (None, 1, None)
    assert usage == ProviderUsage(step=1, status="settled", error=usage.error)
    assert invalid.invalid == usage.error
    assert (await engine.advance(stage.go_on)).outcome.steps_executed == 2


async def test_usage_that_is_none_at_all_is_survived(stage: Any) -> None:
    """Usage of another type than `Usage` is an invalid decision too."""
    usage: Any = {"cost": 5}
    engine = stage.engine([ProviderDecision(action=Respond("hi"), usage=usage), Respond("ok")])
    assert (await stage.play(engine))[-1].outcome.response == "ok"


async def test_a_closed_gate_is_recorded(stage: Any) -> None:
    """The outcome of a closed gate is stored with its reason and frees the session."""
    await stage.play(stage.engine([], policy=EnginePolicy(max_steps=0)))
    (outcome,) = await stage.records(OutcomeRecord)
    assert (outcome.stop_reason, outcome.detail) == ("max_steps_reached", "max_steps=0 is used up")
    assert (await stage.ledger.lease_of("s")).owner is None
