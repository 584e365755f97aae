"""What providers of models that call tools have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rainengine.core.abc import InvalidAnswer, ProviderRequest
from rainengine.core.records import (
    Action,
    CallSkills,
    Continue,
    Delegate,
    DelegatedTask,
    DelegationTarget,
    MemoryArchive,
    MemorySearch,
    Plan,
    PlannedSkillCall,
    ProviderConfig,
    Respond,
    SkillManifest,
    Suspend,
    ToolFailure,
    ToolResultPart,
    Yield,
)
from rainengine.core.testing import provider_request
from rainengine.core.testing.strategies import texts
from rainengine.core.tool_calling import (
    RESERVED,
    ModelAnswer,
    ToolUse,
    action_tools,
    offered_tools,
    read_answer,
    result_text,
    shortened,
    tool_name,
    unique_ids,
)

KINDS: frozenset[Any] = frozenset(
    {"plan", "yield", "continue", "memory_search", "memory_archive", "suspend", "delegate"}
)
REQUEST = provider_request(
    available_skills=(
        SkillManifest(name="look_up", description="Looks up.", input_schema={"type": "object"}),
        SkillManifest(name="röntgen", description="X-rays.", input_schema={}),
    ),
    actions=KINDS | {"respond", "call_skills"},
)


def use(name: str, args: Any = None, call_id: str | None = "a") -> ToolUse:
    """Call a tool."""
    return ToolUse(name=name, args=args, call_id=call_id)


def read(text: str = "", *uses: ToolUse, request: ProviderRequest = REQUEST) -> Action:
    """Read an answer with this text and these calls."""
    return read_answer(ModelAnswer(text=text, uses=uses), request)


def reason_of(action: Action) -> str:
    """Return why an answer was invalid."""
    assert isinstance(action, InvalidAnswer), action
    return action.reason


def call(name: str = "look_up", call_id: str = "a", **args: Any) -> PlannedSkillCall:
    """Return a call as it is planned."""
    return PlannedSkillCall(call_id=call_id, name=name, args=args)


# Text.


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("Good morning.", Respond("Good morning.")),
        ('{"type":"yield"}', Yield()),
        (' {"type": "yield", "reason": "done"}\n', Yield("done")),
        ('Use {"type":"yield"}', Respond('Use {"type":"yield"}')),
        ('{"type":"yield","more":1}', Respond('{"type":"yield","more":1}')),
        ('{"type":"yield","reason":1}', Respond('{"type":"yield","reason":1}')),
        ('{"type":"respond"}', Respond('{"type":"respond"}')),
        ("{", Respond("{")),
    ],
)
def test_text(text: str, action: Action) -> None:
    """Text is the answer, unless it is exactly a JSON object that means to yield."""
    assert read(text) == action


def test_yield_has_to_be_offered() -> None:
    """Where the engine cannot follow a yield, its JSON is an answer like any other."""
    request = attrs.evolve(REQUEST, actions=frozenset({"respond"}))
    text = '{"type":"yield"}'
    assert read(text, request=request) == Respond(text)


@pytest.mark.parametrize("text", ["", " \n"])
def test_nothing_is_no_answer(text: str) -> None:
    """An answer without text and calls is told to the model."""
    assert "was empty" in reason_of(read(text))


def test_cut_short() -> None:
    """An answer that ended for want of tokens means nothing, whatever it holds."""
    answer = ModelAnswer(text="Once upon", uses=(use("look_up"),), cut_short=True)
    action = read_answer(answer, REQUEST)
    assert "cut short" in reason_of(action)
    assert isinstance(action, InvalidAnswer)
    assert action.raw == "Once upon\nlook_up(None)"


def test_json_is_wanted() -> None:
    """Where a schema asks for JSON, any other text is told to the model."""
    config = ProviderConfig(response_schema={"type": "object"})
    request = attrs.evolve(REQUEST, config=config)
    assert read('{"a":1}', request=request) == Respond('{"a":1}')
    assert "no JSON" in reason_of(read("a is 1", request=request))


# Calls of skills.


def test_calls_of_skills() -> None:
    """Calls become one graph, in order, under the skills' own names; text beside them is left."""
    action = read("Let me see.", use("look_up", '{"x":1}'), use(tool_name("röntgen"), {}, "b"))
    assert action == CallSkills([call(x=1), call("röntgen", "b")])


def test_a_call_keeps_what_its_provider_wants_back() -> None:
    """`opaque` goes with the call."""
    action = read("", ToolUse(name="look_up", args={}, call_id="a", opaque="sealed"))
    assert action == CallSkills([attrs.evolve(call(), opaque="sealed")])


def test_ids_that_are_missing_or_stand_twice() -> None:
    """Such ids are left out, for the engine to make up."""
    uses = [use("look_up", {}, call_id) for call_id in (None, "", "a", "a", "b")]
    action = read("", *uses)
    assert isinstance(action, CallSkills)
    assert [one.call_id for one in action.calls] == ["", "", "a", "", "b"]


def test_an_unknown_name_is_kept() -> None:
    """The engine refuses a call of a skill that is not there, and so tells the model."""
    assert read("", use("functions.look_up")) == CallSkills([call("functions.look_up")])


@pytest.mark.parametrize("args", [None, "", "  ", "{}", '"{}"', {}])
def test_no_arguments(args: Any) -> None:
    """However a model says that a call has no arguments, it has none."""
    assert read("", use("look_up", args)) == CallSkills([call()])


@pytest.mark.parametrize("args", ['{"x":', "[1]", "7", '"x"', "{'x': 1}", '{"x":1}}', "[" * 9999])
def test_malformed_arguments(args: str) -> None:
    """Arguments that are no JSON object make the answer void: none of its calls is made."""
    reason = reason_of(read("", use("look_up", "{}"), use("look_up", args, "b")))
    assert reason == "the arguments of the call to look_up are no JSON object"


@pytest.mark.parametrize("purpose", ["plan", "summarise"])
def test_only_who_acts_may_call(purpose: Any) -> None:
    """A model that is to plan or to summarise is offered nothing, and may call nothing."""
    request = attrs.evolve(REQUEST, purpose=purpose)
    assert offered_tools(request) == ()
    assert "answer with a text" in reason_of(read("", use("look_up"), request=request))
    assert read('{"type":"yield"}', request=request) == Respond('{"type":"yield"}')


# Reserved tools.

DECISIONS: dict[str, tuple[dict[str, Any], Action]] = {
    "yield": ({"reason": "done"}, Yield("done")),
    "continue": ({}, Continue()),
    "plan": (
        {"summary": "s", "confidence": 1, "candidate_actions": ["a"]},
        Plan(summary="s", confidence=1, candidate_actions=("a",)),
    ),
    "memory_search": ({"query": "q", "limit": None}, MemorySearch(query="q", limit=8)),
    "memory_archive": ({"content": "c"}, MemoryArchive("c")),
    "suspend": ({"reason": "r"}, Suspend(reason="r")),
    "delegate": (
        {"stream": "s", "task_type": "t", "payload": {"p": 1}, "extra": 1},
        Delegate(
            target=DelegationTarget(stream="s"),
            task=DelegatedTask(task_type="t", payload={"p": 1}),
        ),
    ),
}


@pytest.mark.parametrize("kind", DECISIONS)
def test_an_action_is_a_tool(kind: str) -> None:
    """Each action is offered as a tool with a schema, and a call of it is that action."""
    args, action = DECISIONS[kind]
    assert read("", use(RESERVED + kind, args)) == action
    (tool,) = action_tools(frozenset({kind}))  # type: ignore[arg-type]
    assert tool.name == RESERVED + kind
    assert tool.description
    assert tool.parameters["type"] == "object"


def test_all_actions_are_tried() -> None:
    """The table above leaves none out."""
    assert DECISIONS.keys() == KINDS


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_action_that_is_not_offered(kind: str) -> None:
    """The model is told that what it called is not offered."""
    request = attrs.evolve(REQUEST, actions=frozenset({"respond", "call_skills"}))
    called = use(RESERVED + kind, DECISIONS[kind][0])
    assert reason_of(read("", called, request=request)) == f"{RESERVED}{kind} is not offered"
    assert [tool.name for tool in offered_tools(request)] == ["look_up", tool_name("röntgen")]


@pytest.mark.parametrize(
    ("kind", "args", "reason"),
    [
        ("plan", {"confidence": 1}, "without summary"),
        ("plan", {"summary": "s", "confidence": "high"}, "with confidence of another type"),
        ("plan", {"summary": "s", "confidence": True}, "with confidence of another type"),
        ("memory_search", {"query": None}, "without query"),
        ("memory_search", {"query": "q", "limit": 1.5}, "with limit of another type"),
        ("delegate", {"stream": "s", "task_type": "t", "payload": 1}, "with payload of another"),
        ("yield", {"reason": 1}, "with reason of another type"),
        ("unheard_of", {}, "is not offered"),
    ],
)
def test_an_action_without_what_it_needs(kind: str, args: Any, reason: str) -> None:
    """The model is told what was missing or wrong."""
    assert reason in reason_of(read("", use(RESERVED + kind, args)))


def test_skills_go_first() -> None:
    """Of an answer that mixes both, the calls of skills count."""
    action = read("", use(RESERVED + "yield"), use("look_up"), use(RESERVED + "continue"))
    assert action == CallSkills([call()])


def test_suspended_with_its_calls() -> None:
    """Calls of skills beside `suspend` are what the person decides about."""
    action = read("", use("look_up"), use(RESERVED + "suspend", {"reason": "may I?"}))
    assert action == Suspend(reason="may I?", pending_calls=(call(),))


def test_the_first_action_counts() -> None:
    """Of several reserved calls, the first is followed."""
    action = read("", use(RESERVED + "continue"), use(RESERVED + "yield"))
    assert action == Continue()


def test_text_beside_a_yield() -> None:
    """A text is the reason of a yield that has none, and none of one that has."""
    assert read("All is well.", use(RESERVED + "yield")) == Yield("All is well.")
    assert read("All is well.", use(RESERVED + "yield", {"reason": "x"})) == Yield("x")


# Names and ids.


@pytest.mark.parametrize("name", ["look_up", "a", "A-1_b", "_x", "x" * 64])
def test_a_name_that_is_taken_everywhere_stays(name: str) -> None:
    """No name is changed without need."""
    assert tool_name(name) == name


@given(st.lists(texts(80) | st.sampled_from([RESERVED, RESERVED + "yield", "1a"]), unique=True))
def test_names_are_sound_and_apart(names: list[str]) -> None:
    """Whatever skills are called, models see sound names, each its own, none reserved."""
    seen = [tool_name(name) for name in names]
    assert len(set(seen)) == len(names)
    assert all(tool_name(name) == name for name in seen)  # sound ones stay
    assert not any(name.startswith(RESERVED) for name in seen)


@given(st.lists(st.sampled_from(["a", "b", "", "ü", "x" * 41]) | texts(50)))
def test_ids_are_sound_and_apart(call_ids: Sequence[str]) -> None:
    """Ids of a conversation are made unique, plain and short; the first of its kind stays."""
    given_ids = unique_ids(call_ids)
    assert len(set(given_ids)) == len(call_ids)
    assert all(len(one) <= 40 and one.isascii() and one.isprintable() for one in given_ids)
    assert unique_ids(given_ids) == given_ids
    assert unique_ids(["a", "a"])[0] == "a"


def test_ids_do_not_depend_on_what_follows() -> None:
    """A conversation that grows keeps its ids, so that a vendor's cache of it holds."""
    assert unique_ids(["a", "a", "a", "b"])[:2] == unique_ids(["a", "a"])


# Tools.


def test_a_schema_has_a_type() -> None:
    """APIs want the schema of an object, also where the skill leaves that open."""
    tools = offered_tools(attrs.evolve(REQUEST, actions=frozenset({"call_skills"})))
    assert [tool.parameters for tool in tools] == [{"type": "object"}, {"type": "object"}]


def test_skills_that_cannot_be_called_are_not_offered() -> None:
    """Where the engine takes no calls, only reserved tools are left."""
    request = attrs.evolve(REQUEST, actions=frozenset({"respond", "yield"}))
    assert [tool.name for tool in offered_tools(request)] == [f"{RESERVED}yield"]


# Results.


@pytest.mark.parametrize(
    ("value", "text"),
    [("plain ü", "plain ü"), (None, "null"), ({"ü": [1, True]}, '{"ü":[1,true]}'), ("", "")],
)
def test_a_result_as_text(value: Any, text: str) -> None:
    """A text is shown as it is, anything else as JSON."""
    assert result_text(ToolResultPart(call_id="a", name="n", value=value)) == text


def test_a_failure_as_text() -> None:
    """A failure is shown as content, with its kind."""
    failure = ToolFailure(kind="timeout", message="too slow")
    result = ToolResultPart(call_id="a", name="n", failure=failure)
    assert result_text(result) == '{"error":{"kind":"timeout","message":"too slow"}}'


def test_what_fits_is_not_shortened() -> None:
    """A text of exactly the limit stays."""
    assert shortened("äö", 4) == "äö"


def test_shortened_between_characters() -> None:
    """A text is cut at a character, and says how much is missing."""
    assert shortened("äöü", 3) == "ä\n[4 of 6 bytes were left out]"


@given(texts(40), st.integers(0, 50))
def test_shortened_begins_as_the_text_does(text: str, limit: int) -> None:
    """What is kept is the text's beginning, and no longer than the limit."""
    kept, _, _ = shortened(text, limit).rpartition("\n[")
    assert text.startswith(kept) or shortened(text, limit) == text
    assert len(kept.encode()) <= max(limit, len(text.encode()))
