"""A server that speaks OpenAI's wire formats, as the official SDK sees it."""

from __future__ import annotations

import gc
import warnings
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx2
import openai
import pytest

from rainengine.core.records import TextPart, ToolCallPart, ToolResultPart
from rainengine.model_servers import (
    Answer,
    Asked,
    Call,
    Failure,
    Reply,
    Server,
    Tokens,
    broken_off,
    open_openai_server,
)

HI: Any = [{"role": "user", "content": "hi"}]
RICH = Answer(
    text="hello big world",
    calls=(Call(name="f", args={"x": 1}, call_id="c1"), Call(name="g")),
    thoughts="hm",
    opaque="sealed",
    tokens=Tokens(input=9, output=4, cached=3, thinking=2),
)

Serve = Callable[..., AbstractAsyncContextManager[tuple[openai.AsyncOpenAI, Server]]]


@pytest.fixture(autouse=True)
def garbage() -> Iterator[None]:
    """Collect what the SDK leaves behind: generators, of which trio warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


@pytest.fixture
def serve() -> Serve:
    """Return what opens a server with a script, and a client of it."""

    @asynccontextmanager
    async def opened(*script: Any, **options: Any) -> AsyncGenerator[Any]:
        turns = script[0] if script and callable(script[0]) else script
        async with open_openai_server(turns, **options) as server:
            url = f"{server.url}/v1"
            async with openai.AsyncOpenAI(api_key="k", base_url=url, max_retries=0) as client:
                yield client, server

    return opened


async def test_a_completion(serve: Serve) -> None:
    """A whole completion has text, calls with ids, its end and its usage."""
    async with serve(RICH) as (client, _):
        completion = await client.chat.completions.create(model="m", messages=HI)
    message, usage = completion.choices[0].message, completion.usage
    assert (completion.model, completion.choices[0].finish_reason) == ("m", "tool_calls")
    assert message.content == "hello big world"
    calls: Any = message.tool_calls
    assert [(one.function.name, one.function.arguments) for one in calls] == [
        ("f", '{"x": 1}'),
        ("g", "{}"),
    ]
    assert calls[0].id == "c1"
    assert calls[1].id
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (9, 4)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 3


async def test_a_streamed_completion(serve: Serve) -> None:
    """A stream has the same in pieces."""
    async with serve(RICH) as (client, _):
        stream = await client.chat.completions.create(
            model="m", messages=HI, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    deltas = [choice.delta for choice in choices]
    assert [delta.content for delta in deltas if delta.content] == ["hello ", "big ", "world"]
    pieces = [call for delta in deltas for call in delta.tool_calls or ()]
    texts = dict.fromkeys((0, 1), "")
    for piece in pieces:
        texts[piece.index] += (piece.function and piece.function.arguments) or ""
    assert texts == {0: '{"x": 1}', 1: "{}"}
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["tool_calls"]
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [13]


async def test_a_response(serve: Serve) -> None:
    """A whole response has reasoning, text and calls as items."""
    async with serve(RICH) as (client, _):
        response = await client.responses.create(model="m", input=HI)
    assert [item.type for item in response.output] == [
        "reasoning",
        "message",
        "function_call",
        "function_call",
    ]
    assert (response.status, response.output_text) == ("completed", "hello big world")
    assert response.usage is not None
    assert response.usage.input_tokens_details.cached_tokens == 3


@pytest.mark.parametrize(
    ("asked", "sealed"), [({}, None), ({"include": ["reasoning.encrypted_content"]}, "sealed")]
)
async def test_sealed_reasoning(serve: Serve, asked: Any, sealed: str | None) -> None:
    """Reasoning comes sealed where a request asks for it."""
    async with serve(RICH) as (client, _):
        response = await client.responses.create(model="m", input=HI, **asked)
    reasoning: Any = response.output[0]
    assert reasoning.encrypted_content == sealed


async def test_a_streamed_response(serve: Serve) -> None:
    """A stream has its events in order, the whole response last."""
    async with serve(RICH) as (client, _):
        stream = await client.responses.create(model="m", input=HI, stream=True)
        events: list[Any] = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert deltas == ["hello ", "big ", "world"]
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == "hello big world"


@pytest.mark.parametrize(
    ("stop", "finish", "reason"),
    [
        ("length", "length", "max_output_tokens"),
        ("content_filter", "content_filter", "content_filter"),
    ],
)
async def test_ways_to_stop(serve: Serve, stop: Any, finish: str, reason: str) -> None:
    """An answer can be cut short or filtered, in the words of each API."""
    answer = Answer(text="x", stop=stop)
    async with serve(answer, answer) as (client, _):
        completion = await client.chat.completions.create(model="m", messages=HI)
        response = await client.responses.create(model="m", input=HI)
    assert completion.choices[0].finish_reason == finish
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == reason


async def test_a_refusal(serve: Serve) -> None:
    """A refusal stands where each API has it."""
    answer = Answer(refusal="no")
    async with serve(answer, answer) as (client, _):
        completion = await client.chat.completions.create(model="m", messages=HI)
        response: Any = await client.responses.create(model="m", input=HI)
    assert (completion.choices[0].message.content, completion.choices[0].message.refusal) == (
        None,
        "no",
    )
    assert response.output[0].content[0].refusal == "no"


async def test_a_failure(serve: Serve) -> None:
    """A failure has its status, headers and the vendor's body."""
    failure = Failure(status=429, message="slow down", code="x", headers={"retry-after": "3"})
    async with serve(failure) as (client, _):
        with pytest.raises(openai.RateLimitError, match="slow down") as caught:
            await client.chat.completions.create(model="m", messages=HI)
    assert (caught.value.code, caught.value.response.headers["retry-after"]) == ("x", "3")


async def test_a_broken_rule(serve: Serve) -> None:
    """A request that breaks a rule is refused with all complaints, and the script goes on."""
    alone: Any = [{"role": "tool", "tool_call_id": "a", "content": "x"}]
    output: Any = [{"type": "function_call_output", "call_id": "a", "output": "x"}]
    async with serve(Answer(text="x")) as (client, _):
        with pytest.raises(openai.BadRequestError, match="'a' answers no call"):
            await client.chat.completions.create(model="m", messages=alone)
        with pytest.raises(openai.BadRequestError, match="output of no open call"):
            await client.responses.create(model="m", input=output)
        assert (await client.responses.create(model="m", input="hi")).output_text == "x"


async def test_a_script_that_is_used_up(serve: Serve) -> None:
    """Asked more often than the script is long, the server says so."""
    async with serve() as (client, _):
        with pytest.raises(openai.BadRequestError, match="script of 0 turns is used up"):
            await client.responses.create(model="m", input="hi")


async def test_a_raw_reply(serve: Serve) -> None:
    """A reply of the script is sent as it is."""
    async with serve(Reply.of_json({"choices": 7})) as (client, _):
        completion: Any = await client.chat.completions.create(model="m", messages=HI)
    assert completion.choices == 7


async def test_an_answer_that_is_sent_otherwise(serve: Serve) -> None:
    """An answer, whole or streamed, can break off."""
    answer = Answer(text="hello world", sending=broken_off(after=2))
    async with serve(answer) as (client, _):
        stream = await client.chat.completions.create(model="m", messages=HI, stream=True)
        first = [await anext(stream) for _ in range(2)]
        assert [chunk.choices[0].delta.content for chunk in first] == ["", "hello "]
        with pytest.raises(openai.APIConnectionError):
            await anext(stream)


async def test_what_was_asked(serve: Serve) -> None:
    """A script that is a function sees the conversation, whichever API it came by."""
    seen: list[Asked] = []

    async def script(asked: Asked) -> Answer:
        seen.append(asked)
        return Answer(text="x", model="m-2025")

    called = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
    messages: Any = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "look"}]},
        {"role": "assistant", "content": "hm", "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "a", "content": '{"y":2}'},
    ]
    items: Any = [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": "hm"},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": '{"x":1}'},
        {"type": "function_call_output", "call_id": "a", "output": '{"y":2}'},
    ]
    async with serve(script) as (client, _):
        completion = await client.chat.completions.create(model="m", messages=messages)
        await client.responses.create(model="m", input=items, instructions="s")
    parts = [[part for message in one.messages for part in message.parts] for one in seen]
    assert parts[0] == parts[1]
    assert parts[0] == [
        TextPart("s"),
        TextPart("look"),
        TextPart("hm"),
        ToolCallPart(call_id="a", name="f", args={"x": 1}),
        ToolResultPart(call_id="a", name="f", value={"y": 2}),
    ]
    assert (completion.model, seen[0].model, seen[0].stream) == ("m-2025", "m", False)


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings(serve: Serve, encoding: Any) -> None:
    """Each text has its vector, the same each time."""
    async with serve() as (client, _):
        ask = client.embeddings.create
        both = await ask(model="m", input=["a", "b"], encoding_format=encoding)
        again = await ask(model="m", input="b")
    assert len(both.data) == 2
    if encoding == "float":
        assert both.data[1].embedding == pytest.approx(again.data[0].embedding, abs=1e-6)
    assert len(again.data[0].embedding) == 8


async def test_embeddings_that_fail(serve: Serve) -> None:
    """Embeddings can fail, and take no empty text."""
    failing: Any = lambda _: Failure(status=500)  # noqa: E731
    async with serve(embed=failing) as (client, _):
        with pytest.raises(openai.InternalServerError):
            await client.embeddings.create(model="m", input="a")
        with pytest.raises(openai.BadRequestError):
            await client.embeddings.create(model="m", input=[""])


async def test_a_wrong_key(serve: Serve) -> None:
    """A server with a key refuses any other."""
    async with serve(Answer(text="x"), api_key="other") as (client, _):
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(model="m", messages=HI)


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [("/v1/nowhere", b"{}", 404), ("/v1/responses", b"{", 400), ("/v1/responses", b"[]", 400)],
)
async def test_other_requests(path: str, content: bytes, status: int) -> None:
    """What is no request of the API is refused."""
    async with open_openai_server() as server, httpx2.AsyncClient() as client:
        response = await client.post(server.url + path, content=content)
    assert response.status_code == status
    assert response.json()["error"]["message"]
