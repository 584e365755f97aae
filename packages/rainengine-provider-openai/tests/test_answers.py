"""What comes over the wire: answers of both APIs, whole and in pieces, read without HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rainengine.core.abc import InvalidAnswer
from rainengine.core.errors import ProviderError
from rainengine.core.records import CallSkills, Respond, TokenPrice, ToolCallPart, ToolResultPart
from rainengine.core.tool_calling import read_answer
from rainengine.model_servers import Answer, Call, Tokens, openai_complaints
from rainengine.model_servers._openai_chat import chunks, completion
from rainengine.model_servers._openai_responses import events, response
from rainengine.provider_openai import OpenAISettings
from rainengine.provider_openai._events import DONE, EventReader, parsed
from rainengine.provider_openai._wire import WIRES

TOKENS = Tokens(input=9, output=4, cached=3, thinking=2)
WHOLE = {"chat": completion, "responses": response}


def read(answer: Answer, request: Any, settings: Any, *, stream: bool = False) -> Any:
    """Read an answer as the API would send it."""
    wire = WIRES[settings.api]
    if not stream:
        return wire.read(WHOLE[settings.api](answer, "1"), request, settings)
    streamed = chunks(answer, "1", usage=True) if settings.api == "chat" else events(answer, "1")
    return wire.read(put_together(settings, [f"{one}\n\n" for one in streamed]), request, settings)


def put_together(settings: OpenAISettings, pieces: list[str]) -> dict[str, Any]:
    """Put a stream together to a whole answer."""
    stream, reader = WIRES[settings.api].new_stream(settings), EventReader()
    ended = False
    for piece in pieces:
        for data in reader.feed(piece.encode()):
            ended = ended or data == DONE
            if data != DONE:
                stream.feed(parsed(data))
    return stream.whole(ended=ended)


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def stream(request: pytest.FixtureRequest) -> bool:
    """Whether an answer comes in pieces."""
    return bool(request.param)


def test_text(ask: Any, settings: Any, api: Any, stream: bool) -> None:  # noqa: FBT001
    """Text comes as it was sent, with its usage and the model that answered."""
    answer = Answer(text="hello  big\nworld ", tokens=TOKENS, model="gpt-test-2025")
    reading = read(answer, ask(), settings(api=api), stream=stream)
    assert read_answer(reading.answer, ask()) == Respond("hello  big\nworld ")
    tokens = reading.tokens
    assert (tokens.input, tokens.output, tokens.cached) == (9, 4, 3)
    assert reading.model == "gpt-test-2025"


def test_calls(ask: Any, settings: Any, api: Any, stream: bool) -> None:  # noqa: FBT001
    """Parallel calls come in order, with names, ids and arguments."""
    calls = (
        Call(name="look_up", args={"city": "Köln", "deep": [{"x": "}"}]}, call_id="c1"),
        Call(name="nobody", args={}, call_id="c2"),
    )
    reading = read(Answer(calls=calls), ask(), settings(api=api), stream=stream)
    action = read_answer(reading.answer, ask())
    assert isinstance(action, CallSkills)
    assert [(call.name, call.args, call.call_id) for call in action.calls] == [
        ("look_up", {"city": "Köln", "deep": [{"x": "}"}]}, "c1"),
        ("nobody", {}, "c2"),
    ]


def test_odd_calls(ask: Any, settings: Any, api: Any, stream: bool) -> None:  # noqa: FBT001
    """Ids that are missing or repeated are left out, malformed arguments void the answer."""
    twice = (Call(name="look_up", call_id="c"), Call(name="look_up", call_id=""))
    reading = read(Answer(calls=twice), ask(), settings(api=api), stream=stream)
    action = read_answer(reading.answer, ask())
    assert isinstance(action, CallSkills)
    assert [call.call_id for call in action.calls] == ["c", ""]
    broken = Answer(calls=(Call(name="look_up", args='{"city": ', call_id="c"),))
    reading = read(broken, ask(), settings(api=api), stream=stream)
    assert isinstance(read_answer(reading.answer, ask()), InvalidAnswer)


def test_cut_short(ask: Any, settings: Any, api: Any, stream: bool) -> None:  # noqa: FBT001
    """An answer at the limit of its length is not taken for a whole one."""
    answer = Answer(text="Once upon", stop="length", tokens=TOKENS)
    reading = read(answer, ask(), settings(api=api), stream=stream)
    assert isinstance(read_answer(reading.answer, ask()), InvalidAnswer)
    assert reading.tokens.input == 9


def test_filtered(ask: Any, settings: Any, api: Any, stream: bool) -> None:  # noqa: FBT001
    """What a content filter withheld is an error, and the same question gets it again."""
    answer = Answer(text="Once", stop="content_filter")
    with pytest.raises(ProviderError, match="content filter") as caught:
        read(answer, ask(), settings(api=api), stream=stream)
    assert (caught.value.kind, caught.value.retryable) == ("invalid_response", False)


def test_refused(ask: Any, settings: Any, api: Any, stream: bool) -> None:  # noqa: FBT001
    """A refusal is the answer, but an error where the answer has to fit a schema."""
    answer, chosen = Answer(refusal="I will not."), settings(api=api)
    reading = read(answer, ask(), chosen, stream=stream)
    assert read_answer(reading.answer, ask()) == Respond("I will not.")
    with pytest.raises(ProviderError, match="refused to answer: I will not") as caught:
        read(answer, ask(response_schema={"type": "object"}), chosen, stream=stream)
    assert (caught.value.kind, caught.value.retryable) == ("invalid_response", False)


def test_without_usage(ask: Any, settings: Any, api: Any, stream: bool) -> None:  # noqa: FBT001
    """Where the endpoint tells no usage, none is made up."""
    answer = Answer(text="x", tokens=None)
    assert read(answer, ask(), settings(api=api), stream=stream).tokens is None


def test_a_model_that_is_not_told(ask: Any, settings: Any) -> None:
    """Where the endpoint does not say who answered, it was whoever was asked."""
    bare = {"choices": [{"message": {"content": "x"}, "finish_reason": None}]}
    reading = WIRES["chat"].read(bare, ask(model="gpt-other"), settings())
    assert reading.model == "gpt-other"


def test_usage_as_others_tell_it(ask: Any, settings: Any) -> None:
    """Cache reads are found where DeepSeek has them; figures that are none count nothing."""
    usage = {"prompt_tokens": 9, "completion_tokens": "4", "prompt_cache_hit_tokens": 3}
    body = {"choices": [{"message": {"content": "x"}}], "usage": usage}
    tokens = WIRES["chat"].read(body, ask(), settings()).tokens
    assert tokens is not None
    assert (tokens.input, tokens.output, tokens.cached) == (9, 0, 3)
    price = TokenPrice(input_micros=1_000_000, output_micros=1, cached_micros=0)
    assert tokens.usage(price).cost_micros == 6


def test_content_in_parts(ask: Any, settings: Any) -> None:
    """Some endpoints give a text in parts, with thinking among them."""
    content = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "x"}]
    body = {"choices": [{"message": {"content": content}}]}
    assert WIRES["chat"].read(body, ask(), settings()).answer.text == "x"


NONSENSE: list[object] = [None, "<html>", [], {}, {"choices": []}, {"choices": ["x"]}, 7]


@pytest.mark.parametrize("body", NONSENSE)
def test_nonsense(ask: Any, settings: Any, api: Any, body: object) -> None:
    """What is no answer is an error that may not come again."""
    with pytest.raises(ProviderError, match="cannot be read") as caught:
        WIRES[api].read(body, ask(), settings(api=api))
    assert (caught.value.kind, caught.value.retryable) == ("invalid_response", True)


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        ({"code": "server_error", "message": "oops"}, "internal", True),
        ({"code": "rate_limit_exceeded", "message": "oops"}, "rate_limited", True),
        ({"code": "invalid_prompt", "message": "oops"}, "invalid_response", False),
        ({"code": "unheard_of", "message": "oops"}, "internal", True),
        (None, "internal", True),
    ],
)
def test_a_failed_response(ask: Any, settings: Any, error: Any, kind: str, retryable: Any) -> None:
    """A response that failed is an error, by its code."""
    body = {"status": "failed", "error": error, "output": []}
    with pytest.raises(ProviderError, match="the endpoint failed") as caught:
        WIRES["responses"].read(body, ask(), settings(api="responses"))
    assert (caught.value.kind, caught.value.retryable) == (kind, retryable)


@pytest.mark.parametrize("finish", ["abort", "insufficient_system_resource", "new", 5])
def test_an_end_that_nobody_knows(ask: Any, settings: Any, finish: Any) -> None:
    """An answer that ended for an unknown reason may be half an answer, and is asked for again."""
    body = {"choices": [{"message": {"content": "half"}, "finish_reason": finish}]}
    with pytest.raises(ProviderError, match=str(finish)) as caught:
        WIRES["chat"].read(body, ask(), settings())
    assert (caught.value.kind, caught.value.retryable) == ("internal", True)


@pytest.mark.parametrize(
    "finish", [None, "", "stop", "tool_calls", "function_call", "eos", "stop_sequence"]
)
def test_ends_of_answers(ask: Any, settings: Any, finish: Any) -> None:
    """An answer may be told to be finished in several words, or in none."""
    body = {"choices": [{"message": {"content": "whole"}, "finish_reason": finish}]}
    assert WIRES["chat"].read(body, ask(), settings()).answer.text == "whole"


def test_a_model_that_failed(ask: Any, settings: Any) -> None:
    """OpenRouter ends an answer with `error` where the model behind it failed."""
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "error"}]}
    with pytest.raises(ProviderError, match="failed while answering") as caught:
        WIRES["chat"].read(body, ask(), settings())
    assert (caught.value.kind, caught.value.retryable) == ("internal", True)


# What is carried from an answer to the next request.


def again(action: CallSkills, request: Any, chosen: Any) -> list[dict[str, Any]]:
    """Show the calls of an answer again; return what is sent after the user's words."""
    calls = [
        ToolCallPart(call_id=call.call_id, name=call.name, args=call.args, opaque=call.opaque)
        for call in action.calls
    ]
    results = [ToolResultPart(call_id=call.call_id, name=call.name, value=1) for call in calls]
    shown = request(("user", "hi"), ("assistant", calls), ("tool", results))
    body = WIRES[chosen.api].body(shown, chosen, {})
    assert openai_complaints(body) == []
    messages: list[dict[str, Any]] = body.get("messages") or body["input"]
    return messages[1:]


def test_reasoning_goes_back(ask: Any, settings: Any, stream: bool) -> None:  # noqa: FBT001
    """Sealed reasoning and what was said with calls go back before them, once."""
    calls = (Call(name="look_up", call_id="c1"), Call(name="look_up", call_id="c2"))
    answer = Answer(text="Let me see.", thoughts="hm", opaque="sealed", calls=calls)
    chosen = settings(api="responses")
    reading = read(answer, ask(), chosen, stream=stream)
    items = again(read_answer(reading.answer, ask()), ask, chosen)  # type: ignore[arg-type]
    assert [item.get("type") for item in items] == [
        "reasoning",
        "message",
        "function_call",
        "function_call",
        "function_call_output",
        "function_call_output",
    ]
    assert items[0] == {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "hm"}],
        "encrypted_content": "sealed",
    }
    assert items[1]["content"][0]["text"] == "Let me see."


def test_reasoning_that_is_not_there(ask: Any, settings: Any) -> None:
    """Reasoning that only the endpoint would have, where nothing is stored, does not go back."""
    calls = (Call(name="look_up", call_id="c1"),)
    chosen = settings(api="responses")
    reading = read(Answer(thoughts="hm", calls=calls), ask(), chosen)
    action = read_answer(reading.answer, ask())
    assert isinstance(action, CallSkills)
    assert action.calls[0].opaque is None


def chat_answer(**message: Any) -> dict[str, Any]:
    """Return a completion with a call, and more in its message."""
    function = {"name": "look_up", "arguments": "{}"}
    call = {
        "id": "c1",
        "type": "function",
        "function": function,
        "extra_content": {"google": {"thought_signature": "sig"}},
    }
    return {"choices": [{"message": {"tool_calls": [call], **message}}]}


def test_what_endpoints_add_goes_back(ask: Any, settings: Any) -> None:
    """Reasoning of a message, and fields of a call of an endpoint's own, go back with it."""
    body = chat_answer(content="Let me see.", reasoning_content="hm")
    reading = WIRES["chat"].read(body, ask(), settings())
    items = again(read_answer(reading.answer, ask()), ask, settings())  # type: ignore[arg-type]
    assert items[0]["content"] == "Let me see."
    assert items[0]["reasoning_content"] == "hm"
    assert items[0]["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "sig"}}


@pytest.mark.parametrize(
    "others", [{"api": "responses"}, {"model": "gpt-other"}], ids=["other API", "other model"]
)
def test_others_do_not_see_it(ask: Any, settings: Any, others: dict[str, Any]) -> None:
    """What one model or API left is not shown to another."""
    reading = WIRES["chat"].read(chat_answer(reasoning_content="hm"), ask(), settings())
    chosen = settings(**others)
    items = again(read_answer(reading.answer, ask()), ask, chosen)  # type: ignore[arg-type]
    assert "hm" not in json.dumps(items)
    assert "thought_signature" not in json.dumps(items)


@pytest.mark.parametrize("opaque", ["", "x", "[1]", '{"api":"chat"}', "[" * 9999])
def test_what_somebody_else_left(ask: Any, settings: Any, api: Any, opaque: str) -> None:
    """What another provider left with a call is left out."""
    call = ToolCallPart(call_id="a", name="look_up", args={}, opaque=opaque)
    result = ToolResultPart(call_id="a", name="look_up")
    body = WIRES[api].body(ask(("assistant", call), ("tool", result)), settings(api=api), {})
    assert len(body.get("messages") or body["input"]) == 2


def test_reserved_calls_carry_nothing(ask: Any, settings: Any, api: Any) -> None:
    """What came with calls stays with the first that is shown again."""
    calls = (Call(name="rainengine_suspend", args={"reason": "r"}), Call(name="look_up"))
    answer = Answer(text="Hm.", opaque="sealed", calls=calls)
    chosen = settings(api=api)
    uses = read(answer, ask(), chosen).answer.uses
    assert uses[1].opaque is not None
    assert "Hm." in uses[1].opaque


# Streams of all kinds.


def chunk(**delta: Any) -> str:
    """Return an event of chat completions."""
    finish = delta.pop("finish", None)
    return f"data: {json.dumps({'choices': [{'delta': delta, 'finish_reason': finish}]})}\n\n"


def call_piece(**piece: Any) -> str:
    """Return an event with a piece of a call."""
    function = {name: piece.pop(name) for name in ("name", "arguments") if name in piece}
    return chunk(tool_calls=[{**piece, "function": function}])


CALL_STREAMS: dict[str, list[str]] = {
    "as documented": [
        call_piece(index=0, id="c1", name="look_up", arguments=""),
        call_piece(index=0, arguments='{"x"'),
        call_piece(index=1, id="c2", name="search", arguments='{"y"'),
        call_piece(index=0, arguments=":1}"),
        call_piece(index=1, arguments=":2}"),
    ],
    "one index for all": [
        call_piece(index=0, id="c1", name="look_up", arguments='{"x":1}'),
        call_piece(index=0, id="c2", name="search", arguments='{"y":2}'),
    ],
    "no index, with ids": [
        call_piece(id="c1", name="look_up", arguments='{"x"'),
        call_piece(arguments=":1}"),
        call_piece(id="c2", name="search", arguments='{"y":2}'),
    ],
    "an index that is null": [
        call_piece(index=None, name="look_up", arguments='{"x":1}'),
        call_piece(index=None, name="search", arguments='{"y":2}'),
    ],
    "ids and names each time": [
        call_piece(index=0, id="c1", name="look_up", arguments='{"x"'),
        call_piece(index=0, id="c1", name="look_up", arguments=":1}"),
        call_piece(index=1, id="c2", name="search", arguments='{"y":2}'),
    ],
    "all at once": [
        chunk(
            tool_calls=[
                {"id": "c1", "function": {"name": "look_up", "arguments": '{"x":1}'}},
                {"id": "c2", "function": {"name": "search", "arguments": '{"y":2}'}},
            ]
        )
    ],
}


@pytest.mark.parametrize("pieces", CALL_STREAMS.values(), ids=CALL_STREAMS)
def test_calls_in_pieces(ask: Any, settings: Any, pieces: list[str]) -> None:
    """Calls are put together, in whatever way an endpoint tells them apart."""
    whole = put_together(settings(), [*pieces, chunk(finish="tool_calls")])
    action = read_answer(WIRES["chat"].read(whole, ask(), settings()).answer, ask())
    assert isinstance(action, CallSkills)
    assert [(call.name, call.args) for call in action.calls] == [
        ("look_up", {"x": 1}),
        ("search", {"y": 2}),
    ]
    assert {call.call_id for call in action.calls} in ({"c1", "c2"}, {""})


PARTS = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hello"}]


def test_parts_are_read_alike(ask: Any, settings: Any) -> None:
    """What is said in a list of parts is said alike whole, streamed, and before calls."""
    streamed = put_together(settings(), [chunk(content=PARTS), chunk(finish="stop")])
    whole = {"choices": [{"message": {"content": PARTS}, "finish_reason": "stop"}]}
    for one in (whole, streamed):
        reading = WIRES["chat"].read(one, ask(), settings())
        assert read_answer(reading.answer, ask()) == Respond("hello")
    call = {"id": "c", "function": {"name": "look_up", "arguments": "{}"}}
    message = {"content": PARTS, "tool_calls": [call]}
    reading = WIRES["chat"].read({"choices": [{"message": message}]}, ask(), settings())
    assert again(read_answer(reading.answer, ask()), ask, settings())[0]["content"] == "hello"  # type: ignore[arg-type]


def test_a_response_that_repeats_nothing(ask: Any, settings: Any) -> None:
    """Text that was only streamed is the answer of a response whose end repeats none of it."""
    told = [
        {"type": "response.output_text.delta", "delta": "hel"},
        {"type": "response.output_text.delta", "delta": "lo"},
        {"type": "response.completed", "response": {"status": "completed", "output": []}},
    ]
    chosen = settings(api="responses")
    whole = put_together(chosen, [f"data: {json.dumps(one)}\n\n" for one in told])
    reading = WIRES["responses"].read(whole, ask(), chosen)
    assert read_answer(reading.answer, ask()) == Respond("hello")


ARGUMENTS: dict[str, list[Any]] = {
    "an object": [{"city": "Rome"}],
    "an object, and nothing more": ["", {"city": "Rome"}, None, ""],
    "a list": [[1]],
    "a number": [7],
    "false": [False],
    "a text and an object": ['{"city": ', {"city": "Rome"}],
    "an object and a text": [{"city": "Rome"}, '{"city": "Oslo"}'],
    "two objects": [{"city": "Rome"}, {"city": "Oslo"}],
}


@pytest.mark.parametrize("given", ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_that_are_no_text(ask: Any, settings: Any, given: list[Any]) -> None:
    """Arguments are what they would be in a whole answer, and are never made up."""
    pieces = [call_piece(index=0, id="c", name="look_up", arguments=one) for one in given]
    streamed = put_together(settings(), [*pieces, chunk(finish="tool_calls")])
    said = [one for one in given if one not in ("", None)]
    arguments = said[0] if len(said) == 1 else said
    call = {"id": "c", "function": {"name": "look_up", "arguments": arguments}}
    whole = {"choices": [{"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    read_whole, read_streamed = (
        read_answer(WIRES["chat"].read(one, ask(), settings()).answer, ask())
        for one in (whole, streamed)
    )
    assert read_whole == read_streamed
    if arguments == {"city": "Rome"}:
        assert isinstance(read_streamed, CallSkills)
        assert [{"city": "Rome"}] == [one.args for one in read_streamed.calls]
    else:
        assert isinstance(read_streamed, InvalidAnswer)


def test_calls_in_pieces_without_ids(settings: Any) -> None:
    """Without index and id, a name begins another call."""
    pieces = [
        call_piece(name="look_up", arguments='{"x"'),
        call_piece(arguments=":1}"),
        call_piece(name="search", arguments="{}"),
    ]
    whole = put_together(settings(), [*pieces, chunk(finish="stop")])
    calls = whole["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["arguments"] for call in calls] == ['{"x":1}', "{}"]


@pytest.mark.parametrize(
    "pieces",
    [[], [chunk(content="Once")], [chunk(content="Once"), ": still there\n\n"]],
    ids=["nothing", "in the middle", "after a comment"],
)
def test_a_completion_that_breaks_off(settings: Any, pieces: list[str]) -> None:
    """A stream that ends before its answer is an error, and no half an answer."""
    with pytest.raises(ProviderError, match="ended before the answer did") as caught:
        put_together(settings(), pieces)
    assert (caught.value.kind, caught.value.retryable) == ("transport", True)


def test_a_response_that_breaks_off(settings: Any) -> None:
    """A stream without its last event is an error, however much came before."""
    most = [f"{event}\n\n" for event in events(Answer(text="hello"), "1")][:-1]
    with pytest.raises(ProviderError, match="ended before the answer did"):
        put_together(settings(api="responses"), most)


def test_an_end_without_a_reason(ask: Any, settings: Any) -> None:
    """`[DONE]` alone ends an answer too."""
    whole = put_together(settings(), [chunk(content="x"), "data: [DONE]\n\n"])
    assert WIRES["chat"].read(whole, ask(), settings()).answer.text == "x"


def test_a_response_whose_end_does_not_repeat_it(ask: Any, settings: Any) -> None:
    """Where the last event has no output, the items that were streamed count."""
    pieces = [f"{event}\n\n" for event in events(Answer(text="hello"), "1")]
    last = parsed(pieces[-1].partition("data: ")[2])
    last["response"]["output"] = []
    chosen = settings(api="responses")
    whole = put_together(chosen, [*pieces[:-1], f"data: {json.dumps(last)}\n\n"])
    assert WIRES["responses"].read(whole, ask(), chosen).answer.text == "hello"


def test_an_error_event(settings: Any) -> None:
    """An error told within a stream of responses is an error."""
    event = {"type": "error", "code": "rate_limit_exceeded", "message": "slow down"}
    with pytest.raises(ProviderError, match="slow down") as caught:
        put_together(settings(api="responses"), [f"data: {json.dumps(event)}\n\n"])
    assert (caught.value.kind, caught.value.retryable) == ("rate_limited", True)


# Server-sent events.

SSE = (
    ": comment\r\nid: 1\r\nevent: message\r\ndata: one\r\n\r\n"
    "data: a\r\ndata: b\r\n\r\ndata:two\ndata: lines\n\nretry: 5\n\ndata\n\rdata: ü🙂\r\r"
)


def test_events_are_read_as_the_standard_says() -> None:
    """Line ends of three kinds, comments, other fields, and data of several lines."""
    assert list(EventReader().feed(SSE.encode())) == ["one", "a\nb", "two\nlines", "", "ü🙂"]


@pytest.mark.parametrize("size", range(1, len(SSE.encode())))
def test_events_do_not_depend_on_pieces(size: int) -> None:
    """However the bytes are cut, in two or into many, the events are the same."""
    data, wanted = SSE.encode(), list(EventReader().feed(SSE.encode()))
    in_two, into_many = EventReader(), EventReader()
    assert [*in_two.feed(data[:size]), *in_two.feed(data[size:])] == wanted
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert [event for piece in pieces for event in into_many.feed(piece)] == wanted


def test_a_byte_order_mark() -> None:
    """A stream may begin with one; it is no part of the first line."""
    reader = EventReader()
    assert [*reader.feed(b"\xef\xbb"), *reader.feed(b"\xbfdata: one\n\ndata: two\n\n")] == [
        "one",
        "two",
    ]


def test_the_last_event_may_lack_its_end() -> None:
    """An event that the end of the stream cuts off after its line is still read."""
    reader = EventReader()
    assert list(reader.feed(b"data: [DONE]")) == []
    assert list(reader.finish()) == ["[DONE]"]


def test_mixed_line_ends() -> None:
    """A line feed belongs to the carriage return before it, and only to that one."""
    whole = b"data: a\r\n\ndata: b\r\n\n"
    reader = EventReader()
    assert [event for byte in whole for event in reader.feed(bytes([byte]))] == ["a", "b"]


@pytest.mark.parametrize("data", ["", "x", "[1]", "7", "{"])
def test_an_event_that_is_no_object(data: str) -> None:
    """An event that is no JSON object is an error."""
    with pytest.raises(ProviderError, match="no JSON object"):
        parsed(data)
