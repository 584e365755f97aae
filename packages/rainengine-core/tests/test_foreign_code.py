"""What a model, a provider and a host's own code hand to the engine, and what it makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from rainengine.core import (
    AgentProfile,
    CallSkills,
    Continue,
    Delegate,
    EnginePolicy,
    Respond,
    Suspend,
)
from rainengine.core.abc import (
    PlannerOutput,
    PlanningQuestion,
    ProposedPlan,
    ProviderDecision,
    Usage,
)
from rainengine.core.records import (
    ChatMessage,
    DelegatedTask,
    DelegationTarget,
    ExecutionPlan,
    ModelDecision,
    ProviderUsage,
    ReviewPolicy,
    TextPart,
)

SCOPES = tuple(f"scope:{number:010}" for number in range(300))
LARGE = {"text": "x" * (4 * 2**20 - 5_000)}
DIG = Delegate(
    target=DelegationTarget(stream="diggers"),
    task=DelegatedTask(task_type="dig", payload=LARGE),
)


def usages_of(stage: Any) -> Any:
    """The records of what calls of the model used."""
    return stage.records(ProviderUsage)


# Decisions that fit, and from which nothing can follow that does.


@pytest.mark.parametrize("kind", ["suspend", "delegate", "delegate unasked", "call"])
async def test_what_repeats_a_large_decision_may_not_fit(stage: Any, kind: str) -> None:
    """The decision counts as a step, with what it cost, and is told to be no good."""
    call = stage.call("pay", args=LARGE)
    actions = {"suspend": Suspend(reason="?", pending_calls=(call,)), "call": CallSkills((call,))}
    review = ReviewPolicy(require_review_for_delegation=kind != "delegate unasked")
    profile = AgentProfile(delegates=("diggers",), review=review)
    usage = Usage(input_tokens=1, output_tokens=1, cost_micros=5)
    decision = ProviderDecision(action=actions.get(kind, DIG), usage=usage)
    pay = stage.skill("pay", approval_required=True)
    options = {"profile": profile, "policy": EnginePolicy(max_steps=3)}
    engine = stage.engine(lambda _: decision, pay, **options)
    results = await stage.play(engine, stage.request(granted_scopes=SCOPES))
    assert ("max_steps_reached", 3) == (
        results[-1].outcome.stop_reason,
        len(stage.provider.requests),
    )
    decisions = await stage.records(ModelDecision)
    assert [(None, True)] * 3 == [(one.action, "bytes" in one.invalid) for one in decisions]
    assert [5, 5, 5] == [usage.cost_micros for usage in await usages_of(stage)]


async def test_a_plan_whose_action_cannot_be_stored_is_given_up(stage: Any) -> None:
    """The model is asked how to go on, as after any other plan that fails."""

    class Planning:
        def plan(self, *_: Any) -> PlannerOutput:
            plan = ProposedPlan(objective="dig", steps=(DIG,))
            return PlannerOutput(proposed_plan=plan)

    engine = stage.engine(
        [Respond("done")], profile=AgentProfile(delegates=("diggers",)), planner=Planning()
    )
    results = await stage.play(engine, stage.request(granted_scopes=SCOPES))
    assert "done" == results[-1].outcome.response
    assert ["active", "abandoned"] == [plan.status for plan in await stage.records(ExecutionPlan)]


# Answers that raise.


async def test_an_answer_that_raises_is_a_step(stage: Any) -> None:
    """Whatever a provider hands over, the call is recorded and counted."""

    class Raising(ProviderDecision):
        def __getattribute__(self, name: str) -> Any:
            if name == "model":
                raise OSError("no model")
            return super().__getattribute__(name)

    engine = stage.engine(lambda _: Raising(action=Continue()), policy=EnginePolicy(max_steps=2))
    results = await stage.play(engine)
    assert "max_steps_reached" == results[-1].outcome.stop_reason
    decisions = await stage.records(ModelDecision)
    assert ["OSError: no model"] * 2 == [one.invalid for one in decisions]


# Contexts and questions.


def message(text: str) -> ChatMessage:
    """A message with this text."""
    return ChatMessage(role="user", parts=(TextPart(text),))


STRANGE = [None, 5, ["x"], ("x",), (message("\ud800"),)]


@pytest.mark.parametrize("messages", STRANGE)
async def test_a_planner_that_asks_nonsense_makes_no_plan(stage: Any, messages: Any) -> None:
    """The provider is asked for the action alone, once."""

    class Planning:
        def question(self, *_: Any) -> PlanningQuestion:
            return PlanningQuestion(messages=messages)

        def plan_from(self, *_: Any) -> PlannerOutput:
            return PlannerOutput()

    engine = stage.engine([Respond("hi")], planner=Planning())
    result = await engine.advance(stage.request())
    assert ("hi", ["act"]) == (
        result.outcome.response,
        [request.purpose for request in stage.provider.requests],
    )


@pytest.mark.parametrize("messages", STRANGE)
async def test_a_context_that_cannot_be_built_ends_the_run(stage: Any, messages: Any) -> None:
    """No model is asked: what the host's code leaves out is not for the engine to show."""
    engine = stage.engine([Respond("hi")], build_context=lambda *_: messages)
    outcome = (await engine.advance(stage.request())).outcome
    assert ("policy_aborted", []) == (outcome.stop_reason, stage.provider.requests)
    assert outcome.detail.startswith("no context could be built: ")


async def test_a_builder_that_raises_ends_the_run(stage: Any) -> None:
    """The outcome says what it raised, and no more of it than 500 characters."""

    def build(*_: Any) -> Any:
        raise LookupError("x" * 1_000)

    outcome = (await stage.engine([], build_context=build).advance(stage.request())).outcome
    assert ("policy_aborted", 500) == (outcome.stop_reason, len(outcome.detail))
