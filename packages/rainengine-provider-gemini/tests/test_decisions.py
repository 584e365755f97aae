"""What the model answers, as decisions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from rainengine.core.abc import InvalidAnswer
from rainengine.core.errors import ProviderError
from rainengine.core.records import CallSkills, MemorySearch, Respond, SkillManifest, Yield
from rainengine.provider_gemini._answers import Answer, Counted
from rainengine.provider_gemini._decisions import action_of
from rainengine.provider_gemini._opaque import unpack
from rainengine.provider_gemini._requests import ANSWER_TOOL

MODEL = "gemini-2.5-flash"


def response(*parts: Any, ending: str | None = "STOP", **fields: Any) -> Any:
    """A body with one candidate."""
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}}
    if ending is not None:
        candidate["finishReason"] = ending
    return {"candidates": [candidate], **fields}


def called(name: str, args: Any = None, call_id: str | None = None, **fields: Any) -> Any:
    """A part with a call."""
    call = {"name": name, "args": {} if args is None else args}
    return {"functionCall": call if call_id is None else {**call, "id": call_id}, **fields}


def answered(*pieces: Any) -> Answer:
    """An answer put together."""
    answer = Answer()
    for piece in pieces:
        answer.add(piece)
    return answer


@pytest.fixture
def action(asking: Any, look_up: SkillManifest) -> Callable[..., Any]:
    """Return a function that says what an answer means."""

    def decide(*pieces: Any, **changes: Any) -> Any:
        request = asking(available_skills=(look_up,), **changes)
        return action_of(answered(*pieces), request, MODEL)

    return decide


def test_text_is_the_answer(action: Any) -> None:
    """Text is the answer, without what the model only thought."""
    thought = {"text": "Hm", "thought": True}
    assert Respond("Hello you") == action(response(thought, {"text": "Hello"}, {"text": " you"}))


def test_pieces_make_one_answer(action: Any) -> None:
    """The pieces of a stream are one answer, and each brings its text."""
    answer = Answer()
    pieces = [
        response({"text": "Hm", "thought": True}, ending=None),
        response({"text": "Hel"}, ending=None),
        response({"text": "lo"}, ending=None),
        response(ending="STOP"),
    ]
    assert ["", "Hel", "lo", ""] == [answer.add(piece) for piece in pieces]
    assert Respond("Hello") == action(*pieces)


def test_calls(action: Any) -> None:
    """Calls are one graph in the model's order, with their ids where they have any."""
    decided = action(
        response(called("look_up", {"city": "Oslo"}, "a"), called("look_up", {"city": "Rome"}))
    )
    assert isinstance(decided, CallSkills)
    assert [("a", {"city": "Oslo"}), ("", {"city": "Rome"})] == [
        (call.call_id, call.args) for call in decided.calls
    ]


def test_id_that_comes_twice_is_left_out(action: Any) -> None:
    """Of two calls with one id, the second has none, and the engine makes one up."""
    decided = action(response(called("look_up", {}, "a"), called("look_up", {}, "a")))
    assert ["a", ""] == [call.call_id for call in decided.calls]


def test_name_that_is_no_skills_is_kept(action: Any) -> None:
    """The engine tells the model that there is no such tool."""
    assert ["nonsense"] == [call.name for call in action(response(called("nonsense"))).calls]


def test_signatures_are_carried(action: Any) -> None:
    """Each call carries its signature, the first also what was said and signed before it."""
    decided = action(
        response(
            {"text": "Thinking", "thought": True},
            {"text": "I look"},
            {"text": "", "thoughtSignature": "eA=="},
            called("look_up", thoughtSignature="c2ln"),
            called("look_up"),
        )
    )
    before = [{"text": "I look"}, {"text": "", "thoughtSignature": "eA=="}]
    assert ("c2ln", before) == unpack(MODEL, decided.calls[0].opaque)
    assert decided.calls[1].opaque is None


def test_what_stood_before_is_not_carried_by_a_reserved_call(action: Any) -> None:
    """A reserved call beside skills is left out; the first skill carries what was said."""
    decided = action(response({"text": "I look"}, called("rainengine_yield"), called("look_up")))
    assert ["look_up"] == [call.name for call in decided.calls]
    assert (None, [{"text": "I look"}]) == unpack(MODEL, decided.calls[0].opaque)


def test_reserved_calls_are_actions(action: Any) -> None:
    """A reserved function stands for its action."""
    every = frozenset({"respond", "yield", "call_skills", "memory_search"})
    searched = called("rainengine_memory_search", {"query": "x"})
    assert MemorySearch(query="x") == action(response(searched), actions=every)
    assert Yield("done") == action(response(called("rainengine_yield", {"reason": "done"})))


def test_yield_as_text(action: Any) -> None:
    """The text that is the JSON of a yield means one."""
    assert Yield("") == action(response({"text": '{"type": "yield"}'}))


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def test_answer_by_the_tool_for_it(action: Any) -> None:
    """Arguments of the tool to answer with are the answer, and calls of skills go first."""
    given = called(ANSWER_TOOL, {"a": 1})
    assert Respond('{"a":1}') == action(response(given), response_schema=SCHEMA)
    beside = action(response(given, called("look_up")), response_schema=SCHEMA)
    assert ["look_up"] == [call.name for call in beside.calls]
    wrapped = called(ANSWER_TOOL, {"answer": [1]})
    assert Respond("[1]") == action(response(wrapped), response_schema={"type": "array"})


@pytest.mark.parametrize("ending", ["MAX_TOKENS", "CONTINUATION"])
def test_answer_cut_short_is_invalid(action: Any, ending: str) -> None:
    """An answer that was cut is no answer: the model is told, and what it said is kept."""
    decided = action(response({"text": "Once upon"}, ending=ending))
    assert isinstance(decided, InvalidAnswer)
    assert ("cut short" in decided.reason, decided.raw) == (True, "Once upon")


def test_malformed_call_is_invalid(action: Any) -> None:
    """The model is told of a call that could not be read, in the API's own words."""
    body = response(ending="MALFORMED_FUNCTION_CALL")
    body["candidates"][0]["finishMessage"] = "look_up(city="
    decided = action(body)
    assert InvalidAnswer("the function call could not be read: look_up(city=") == decided


@pytest.mark.parametrize("args", ["x", [1], 3])
def test_arguments_that_are_no_object_are_invalid(action: Any, args: Any) -> None:
    """The model is told of arguments that are no object."""
    assert isinstance(action(response(called("look_up", args))), InvalidAnswer)


def test_empty_answer_is_invalid(action: Any) -> None:
    """An answer without text and calls is none."""
    assert isinstance(action(response()), InvalidAnswer)


@pytest.mark.parametrize(
    ("body", "expected", "again"),
    [
        (response({"text": "x"}, ending="SAFETY"), "ended with SAFETY", False),
        (response({"text": "x"}, ending="RECITATION"), "ended with RECITATION", True),
        (response(ending="NEVER_HEARD_OF"), "ended with NEVER_HEARD_OF", False),
        (response(ending=7), "ended with 7", False),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, "blocked for SAFETY", False),
        (response(called("")), "a function call has no name", True),
        (response({"functionCall": 3}), "a function call has no name", True),
    ],
)
def test_what_is_no_answer_is_an_error(
    action: Any, body: Any, expected: str, again: object
) -> None:
    """Blocked prompts, blocked answers and nonsense are errors that say why."""
    with pytest.raises(ProviderError, match=expected) as caught:
        action(body)
    assert ("invalid_response", again) == (caught.value.kind, caught.value.retryable)


def test_answer_without_an_end_is_broken_off(action: Any) -> None:
    """A stream that stops without a reason has lost its connection."""
    with pytest.raises(ProviderError, match="broke off") as caught:
        action(response({"text": "Hel"}, ending=None))
    assert ("transport", True) == (caught.value.kind, caught.value.retryable)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "x",
        {"candidates": {}},
        {"candidates": [3]},
        response("x"),
        response({"text": [1]}),
    ],
)
def test_nonsense_is_an_invalid_response(action: Any, body: Any) -> None:
    """A body of another shape is an error of its own kind, and no other exception."""
    with pytest.raises(ProviderError, match="cannot be read") as caught:
        action(body)
    assert ("invalid_response", True) == (caught.value.kind, caught.value.retryable)


def test_tokens() -> None:
    """Input includes what is cached and tools' prompts, output what was thought."""
    usage = {
        "promptTokenCount": 10,
        "toolUsePromptTokenCount": 2,
        "cachedContentTokenCount": 4,
        "candidatesTokenCount": 5,
        "thoughtsTokenCount": 6,
        "totalTokenCount": "23",
    }
    answer = answered(response(usageMetadata=usage))
    assert Counted(prompt=12, cached=4, output=11) == answer.counted


@pytest.mark.parametrize("usage", [{"promptTokenCount": -1}, {"promptTokenCount": "x"}, [1], "x"])
def test_tokens_that_make_no_sense_are_unknown(action: Any, usage: Any) -> None:
    """An answer is not lost over figures that cannot be: then nothing is known of its tokens."""
    body = {**response({"text": "x"}), "usageMetadata": usage}
    assert answered(body).counted is None
    assert Respond("x") == action(body)


def test_thinking_is_found_in_the_total() -> None:
    """An SDK without a field for thoughts has them in the total."""
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 21}
    assert (
        Counted(prompt=10, cached=0, output=11) == answered(response(usageMetadata=usage)).counted
    )


def test_what_is_carried_is_json() -> None:
    """What a call carries can be stored anywhere as text."""
    use = answered(response({"text": "ä"}, called("f", thoughtSignature="c2ln"))).uses(MODEL)[0]
    carried = json.loads(use.opaque or "")
    assert {"api", "model", "signature", "before"} == carried.keys()
    assert attrs.evolve(use, opaque=None).opaque is None
