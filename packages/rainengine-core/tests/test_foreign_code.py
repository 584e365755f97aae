"""What a model, a provider and a host's own code hand to the engine, and what it makes of it."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import pytest
import trio
import trio.testing

from rainengine.core import (
    AgentProfile,
    CallSkills,
    Continue,
    Delegate,
    EnginePolicy,
    MemorySearch,
    Message,
    Respond,
    Suspend,
)
from rainengine.core.abc import (
    MemoryHit,
    PlannerOutput,
    PlanningQuestion,
    ProposedPlan,
    ProviderDecision,
    Usage,
)
from rainengine.core.errors import InvalidConfiguration
from rainengine.core.records import (
    ChatMessage,
    DelegatedTask,
    DelegationTarget,
    ExecutionPlan,
    KernelEventRecord,
    MemoryPolicy,
    ModelDecision,
    ObservationAppended,
    OutcomeRecord,
    ProviderUsage,
    ReviewPolicy,
    TextPart,
    TriggerRecord,
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


# Usage and caches.


@pytest.mark.parametrize(
    "record",
    [
        TriggerRecord(trigger_id="t", trigger=Message(user_id="x", content="y"), body_hash=""),
        OutcomeRecord(trigger_id="t", stop_reason="responded", steps_executed=1),
    ],
    ids=["trigger", "outcome"],
)
async def test_a_provider_writes_no_records_but_of_its_cache(stage: Any, record: Any) -> None:
    """What stands in the place of the cache is left out: it might start a run, or end one."""
    engine = stage.engine([ProviderDecision(action=Respond("hi"), cache=record)])
    await engine.advance(stage.request())
    assert (1, 1) == (
        len(await stage.records(TriggerRecord)),
        len(await stage.records(type(record))),
    )
    assert (await engine.advance(stage.go_on)).idle


async def test_figures_that_cannot_be_looked_at_are_left_out(stage: Any) -> None:
    """They are as good as figures that cannot be."""

    class Raising(Usage):
        def __getattribute__(self, name: str) -> Any:
            raise OSError(name)

    usage = Raising(input_tokens=1, output_tokens=1)
    engine = stage.engine([ProviderDecision(action=Continue(), usage=usage), Respond("hi")])
    await stage.play(engine)
    (used,) = await usages_of(stage)
    assert ("settled", 0) == (used.status, used.input_tokens)
    assert used.error.startswith("the provider reported input_tokens=None")


# Memory.


class Found:
    """A retrieval that finds this."""

    def __init__(self, found: Any) -> None:
        self._found = found

    async def search(self, *_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return self._found


async def searched(stage: Any, found: Any) -> Any:
    """What is recorded of a search that finds this."""
    script = [MemorySearch(query="x", limit=2), Respond("done")]
    results = await stage.play(stage.engine(script, retrieval=Found(found)))
    assert "done" == results[-1].outcome.response
    events = [record.event for record in await stage.records(KernelEventRecord)]
    made = [event for event in events if isinstance(event, ObservationAppended)]
    return made[-1].content


async def test_a_retrieval_that_returns_nothing_is_told_as_it_is(stage: Any) -> None:
    """It is not taken for a run that is to be stopped."""
    assert "TypeError" in (await searched(stage, None))["error"]


async def test_of_memories_without_end_the_first_are_taken(stage: Any) -> None:
    """No more of them are looked at than may be shown."""
    found = repeat(MemoryHit(sequence=1, text="a", score=1.0))
    assert 2 == len((await searched(stage, found))["hits"])


# Agents.


@pytest.mark.parametrize(
    ("profile", "path"),
    [
        ({"memory": MemoryPolicy(max_recent_items="5")}, "$.profile.memory.max_recent_items"),  # type: ignore[arg-type]
        ({"default_scopes": (5,)}, "$.profile.default_scopes"),
        ({"prompt_version": "\ud800"}, "$.profile.prompt_version"),
        ({"delegates": "diggers"}, "$.profile.delegates"),
    ],
)
def test_a_profile_is_checked_when_the_engine_is_made(
    stage: Any, profile: dict[str, Any], path: str
) -> None:
    """A value of another type than is declared is named by its path, before any run meets it."""
    with pytest.raises(InvalidConfiguration) as caught:
        stage.engine([], profile=AgentProfile(**profile))
    assert ("agent", True) == (caught.value.field, caught.value.reason.startswith(path))


# Being let go of.


async def test_a_provider_that_fails_while_it_is_let_go_of(stage: Any) -> None:
    """The run is cancelled; what is raised by then comes too late to matter."""

    async def answer(_: Any) -> Any:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise OSError("the connection broke")

    engine, results = stage.engine(answer), []

    async def advance() -> None:
        results.append(await engine.advance(stage.request()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(advance)
        await trio.testing.wait_all_tasks_blocked()
        await engine.cancel("s", "stop")
    assert ["cancelled"] == [result.outcome.stop_reason for result in results]
