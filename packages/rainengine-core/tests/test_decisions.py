"""What follows from each decision of a model, and from those that cannot be followed."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from rainengine.core import (
    Agent,
    AgentProfile,
    CallSkills,
    Continue,
    Delegate,
    EnginePolicy,
    InMemoryLedger,
    MemoryArchive,
    MemorySearch,
    Plan,
    PlannedSkillCall,
    Respond,
    RetryPolicy,
    Suspend,
    Yield,
)
from rainengine.core.abc import ProviderDecision
from rainengine.core.kernel import complaint
from rainengine.core.records import (
    Action,
    ChatMessage,
    DelegatedTask,
    DelegationTarget,
    Deliberation,
    JsonPart,
    ModelDecision,
    OutcomeRecord,
    ToolExecutionGraph,
    ToolResult,
)


def call(call_id: str = "c1", name: str = "read", **options: Any) -> PlannedSkillCall:
    """A call of a skill."""
    return PlannedSkillCall(call_id=call_id, name=name, **({"args": {}} | options))


async def test_respond_ends_the_run(stage: Any) -> None:
    """The answer is the outcome's response, stored in one append with its decision."""
    result = await stage.engine([Respond("hi")]).advance(stage.request())
    (outcome,) = await stage.records(OutcomeRecord)
    assert outcome == OutcomeRecord(
        trigger_id=result.trigger_id, stop_reason="responded", steps_executed=1, response="hi"
    )
    assert stage.ledger.stats().commits == 2


async def test_yield_ends_the_run_without_an_answer(stage: Any) -> None:
    """The reason of a yield is the outcome's detail."""
    outcome = (await stage.engine([Yield("nothing to do")]).advance(stage.request())).outcome
    assert (outcome.stop_reason, outcome.response, outcome.detail) == (
        "yielded",
        None,
        "nothing to do",
    )


@pytest.mark.parametrize("reason", ["tool_result_appended", "model_requested"])
async def test_continue_takes_another_step(stage: Any, reason: Any) -> None:
    """After a continue there is no outcome, and the model is asked again."""
    engine = stage.engine([Continue(reason), Respond("hi")])
    first, second = await stage.play(engine)
    assert (first.outcome, second.outcome.steps_executed) == (None, 2)


@pytest.mark.parametrize(
    ("confidence", "status"),
    [
        (0.0, "needs_refinement"),
        (0.6999, "needs_refinement"),
        (0.7, "ready_to_act"),
        (1.0, "ready_to_act"),
    ],
)
async def test_a_plan_is_deliberation(stage: Any, confidence: float, status: Any) -> None:
    """A plan is recorded as a deliberation, ready to act from a confidence of 0.7."""
    plan = Plan(summary="think", candidate_actions=("a", "b"), confidence=confidence)
    first, _ = await stage.play(stage.engine([plan, Respond("hi")]))
    assert first.outcome is None
    assert await stage.records(Deliberation) == [
        Deliberation(
            step=1,
            summary="think",
            candidate_actions=("a", "b"),
            confidence=confidence,
            status=status,
        )
    ]


async def test_the_graph_is_named_by_run_and_step(stage: Any) -> None:
    """A graph's id is made of the trigger's id and the step, so no two runs share one."""
    engine = stage.engine(
        lambda r: stage.calls("read") if r.context.step == 1 else Respond("x"), stage.skill("read")
    )
    runs = [(await stage.play(engine))[-1].trigger_id for _ in range(2)]
    assert [graph.graph_id for graph in await stage.records(ToolExecutionGraph)] == [
        f"{run}:1" for run in runs
    ]
    assert [result.value for result in await stage.records(ToolResult)] == ["done", "done"]


async def test_calls_without_an_id_get_one(stage: Any) -> None:
    """A call that came without an id gets one that no other call of the graph has."""
    calls = CallSkills([call("", args={"n": 1}), call("call_1"), call(""), call("call_3_")])
    await stage.engine([calls], stage.skill("read")).advance(stage.request())
    (graph,) = await stage.records(ToolExecutionGraph)
    ids = [planned.call_id for planned in graph.calls]
    assert ids == ["call_1_", "call_1", "call_3", "call_3_"]
    assert await stage.results() == dict.fromkeys(ids, "done")


NESTED: Any = []
for _ in range(10_000):
    NESTED = [NESTED]


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError


@attrs.frozen
class OwnAction(Action):
    content: str = "?"


MALFORMED: dict[str, Any] = {
    "no calls": CallSkills([]),
    "an id twice": CallSkills([call("a"), call("a")]),
    "an unknown dependency": CallSkills([call("a", depends_on=("b",))]),
    "a dependency without a name": CallSkills([call(""), call("a", depends_on=("",))]),
    "a dependency on itself": CallSkills([call("a", depends_on=("a",))]),
    "a cycle": CallSkills(
        [call("a", depends_on=("c",)), call("b", depends_on=("a",)), call("c", depends_on=("b",))]
    ),
    "too many calls": CallSkills([call(f"c{n}") for n in range(65)]),
    "confidence above 1": Plan(summary="", confidence=1.01),
    "confidence below 0": Plan(summary="", confidence=-0.01),
    "confidence that is NaN": Plan(summary="", confidence=float("nan")),
    "confidence that is text": Plan(summary="", confidence="high"),
    "NaN in arguments": CallSkills([call(args={"x": float("nan")})]),
    "a huge integer": CallSkills([call(args={"x": 2**80})]),
    "an object in arguments": CallSkills([call(args={"x": object()})]),
    "a list for arguments": CallSkills([call(args=[1])]),
    "no arguments": CallSkills([call(args=None)]),
    "deep arguments": CallSkills([call(args={"x": NESTED})]),
    "an id that is a number": CallSkills([call(5)]),
    "a priority that is text": CallSkills([call(priority="high")]),
    "dependencies that are text": CallSkills([call("a"), call("b", depends_on="a")]),
    "a negative wait": CallSkills([call(retry_policy=RetryPolicy(initial_interval_ms=-1))]),
    "a backoff that is NaN": CallSkills(
        [call(retry_policy=RetryPolicy(backoff_multiplier=float("nan")))]
    ),
    "calls that are none": CallSkills(["read"]),
    "text of 5 MB": Respond("x" * 5_000_000),
    "arguments of 5 MB": CallSkills([call(args={"x": "y" * 5_000_000})]),
    "text that is none": Respond(5),
    "nothing": None,
    "text": "respond",
    "a dict": {"type": "respond", "content": "hi"},
    "a class": Respond,
    "an action of its own": OwnAction(),
    "an action that cannot be shown": Unshowable(),
    "memory search": MemorySearch(query="x"),
    "empty memory": MemoryArchive(" "),
    "suspended cycle": Suspend(
        reason="x",
        pending_calls=[PlannedSkillCall(call_id="a", name="s", args={}, depends_on=("a",))],
    ),
    "delegate": Delegate(
        target=DelegationTarget(stream="s"), task=DelegatedTask(task_type="t", payload=None)
    ),
}


@pytest.mark.parametrize("fault", MALFORMED)
async def test_what_cannot_be_followed_is_recorded_and_counted(stage: Any, fault: str) -> None:
    """A malformed decision is one invalid step: nothing runs, the model is told and asked again."""
    skill = stage.skill("read")
    engine = stage.engine([ProviderDecision(action=MALFORMED[fault]), Respond("sorry")], skill)
    first, second = await stage.play(engine)
    decision, answer = await stage.records(ModelDecision)
    assert (first.outcome, second.outcome.response) == (None, "sorry")
    assert (decision.step, decision.action, answer.step) == (1, None, 2)
    assert decision.invalid
    assert decision.raw is not None
    assert len(decision.raw) <= 2_000
    assert (skill.invocations, await stage.records(ToolExecutionGraph)) == ([], [])
    told = stage.provider.requests[1].messages[-1]
    assert told == ChatMessage(
        "user",
        (
            JsonPart(
                {"event": "your_decision_could_not_be_followed", "reason": decision.invalid},
            ),
        ),
    )


async def test_a_calls_texts_are_cleaned(stage: Any) -> None:
    """What a ledger does not take is replaced in a call's arguments, name and id; the call runs."""
    skill = stage.skill("read")
    calls = CallSkills([stage.call("read", "c\udfff", args={"k\0": ["a\ud800", {"b": "\0"}]})])
    await stage.run_graph(calls, skill)
    (invocation,) = skill.invocations
    assert "c\ufffd" == invocation.call_id
    assert {"k\ufffd": ["a\ufffd", {"b": "\ufffd"}]} == invocation.args


async def test_a_decision_larger_than_the_ledgers_records_is_refused(stage: Any) -> None:
    """Where the ledger takes small records only, a long answer is an invalid decision."""
    stage.ledger = InMemoryLedger(stage.clock, max_payload_bytes=65_536)
    for size in (60_000, 61_000, 64_000, 66_000, 70_000):
        stage.session_id = f"s{size}"
        results = await stage.play(stage.engine([Respond("x" * size), Respond("short")]))
        assert "responded" == results[-1].outcome.stop_reason
        assert results[-1].outcome.response in {"short", "x" * size}


async def test_a_result_larger_than_the_ledgers_records_is_no_doubt(stage: Any) -> None:
    """An unsafe skill whose value has no room in a record gave an invalid response, once."""
    stage.ledger = InMemoryLedger(stage.clock, max_payload_bytes=65_536)
    for size in (40_000, 49_000, 60_000, 65_000, 100_000):
        stage.session_id = f"s{size}"
        skill = stage.skill("read", stage.returning("x" * size), effects="unsafe")
        (result,) = (await stage.run_graph(stage.calls("read"), skill)).values()
        assert result in {"invalid_response", "x" * size}
        assert 1 == len(skill.invocations)


@pytest.mark.parametrize("fault", ["memory search", "delegate"])
def test_refused_actions_are_named(fault: str) -> None:
    """What this engine cannot follow is refused by its name."""
    name = type(MALFORMED[fault]).__name__
    told = complaint(MALFORMED[fault], EnginePolicy(), {"respond", "call_skills"})
    assert told == f"this engine cannot follow a {name} here"


def test_a_stream_that_is_not_the_agents_is_refused() -> None:
    """An agent delegates to the streams of its profile only."""
    told = complaint(MALFORMED["delegate"], EnginePolicy(), {"delegate"}, {"elsewhere"})
    assert told is not None
    assert "may not delegate" in told


@pytest.mark.parametrize(
    ("action", "cleaned"),
    [
        (Respond("a\0b\ud800c"), Respond("a\ufffdb\ufffdc")),
        (Yield("\0"), Yield("\ufffd")),
        (
            Plan(summary="\0", candidate_actions=("\ud800",), confidence=1),
            Plan(summary="\ufffd", candidate_actions=("\ufffd",), confidence=1.0),
        ),
    ],
)
async def test_a_models_text_is_cleaned(stage: Any, action: Action, cleaned: Action) -> None:
    """NUL and lone surrogates in a model's prose become U+FFFD; the decision is followed."""
    await stage.engine([action]).advance(stage.request())
    (decision,) = await stage.records(ModelDecision)
    assert (decision.action, decision.invalid) == (cleaned, None)


async def test_the_number_of_calls_is_the_policys(stage: Any) -> None:
    """As many calls as `max_ready_tool_nodes` are run, one more is refused."""
    calls = [CallSkills([call(f"c{n}") for n in range(count)]) for count in (4, 3)]
    engine = stage.engine(
        [*calls, Respond("x")], stage.skill("read"), policy=EnginePolicy(max_ready_tool_nodes=3)
    )
    await stage.play(engine)
    refused, followed, _ = await stage.records(ModelDecision)
    assert (refused.invalid, followed.invalid) == ("4 calls in one step, the limit is 3", None)


async def test_a_decision_says_what_it_was_made_upon(stage: Any) -> None:
    """A decision stores the range of records, a prompt hash and all versions, not the prompt."""
    profile = AgentProfile(prompt_version="p3")
    agent = Agent(name="ada", version="2", profile=profile)
    await stage.engine([Respond("hi")], stage.skill("read", version="7"), agent=agent).advance(
        stage.request(text="a very particular text")
    )
    (decision,) = await stage.records(ModelDecision)
    assert decision.context is not None
    assert (decision.context.first_sequence, decision.context.last_sequence) == (2, 3)
    assert decision.context.skills == ("read@7",)
    assert (decision.context.agent, decision.context.prompt) == ("ada@2", "p3")
    assert len(decision.context.prompt_hash) == 64
    assert "particular" not in repr(decision)
