"""What becomes of errors: by status, by the API's word, by class, and what is advised."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rainengine.core.errors import ProviderError
from rainengine.core.records import Respond
from rainengine.core.settings import Secret
from rainengine.model_servers import (
    Answer,
    Cut,
    Failure,
    Hang,
    Reply,
    Reset,
    Send,
    SendUnframed,
    open_openai_server,
)
from rainengine.provider_openai._advice import advised_wait_ms, should_retry
from rainengine.provider_openai._chat import ENDINGS
from rainengine.provider_openai._failures import (
    BY_CLASS,
    BY_CODE,
    BY_STATUS,
    Verdict,
    failure_of,
    presentable,
    told_failure,
    verdict_of,
)

PAGE = Path(__file__).parents[3] / "docs/reference/provider-openai.md"
REQUEST = httpx2.Request("POST", "http://test/v1")
_RESETS = ["x-ratelimit-reset-tokens", "x-ratelimit-reset-requests"]
NOW = 1_790_000_000_000
SECRET = Secret("sk-canary")


def told(error: Exception) -> ProviderError:
    """Return what the engine is told."""
    return failure_of(error, now_ms=NOW)


async def failed(on_stage: Any, ask: Any, turn: Any, *, stream: bool, **others: Any) -> Any:
    """Have a call fail, and return what it failed with."""
    async with on_stage([turn], **others) as stage:
        provider = stage.provider
        answering = (
            provider.stream_action(ask(), [].append) if stream else provider.generate_action(ask())
        )
        with pytest.raises(ProviderError) as caught:
            await answering
    return caught.value


# By the SDK, over HTTP.


@pytest.mark.parametrize("status", [*BY_STATUS, 418, 451, 507, 529])
async def test_a_status(on_stage: Any, ask: Any, api: Any, status: int) -> None:
    """Each status, whole or streamed, is what the table says."""
    wanted = BY_STATUS.get(status) or BY_STATUS[500 if status >= 500 else 400]
    for stream in (False, True):
        failure = Failure(status=status, message="so it is")
        error = await failed(on_stage, ask, failure, stream=stream, api=api)
        assert (error.kind, error.retryable) == (wanted.kind, wanted.retryable)
        assert f"({status})" in str(error)
        assert "so it is" in str(error)


@pytest.mark.parametrize("code", BY_CODE)
async def test_a_word_of_the_api(on_stage: Any, ask: Any, code: str) -> None:
    """The API's own word counts more than the status."""
    error = await failed(on_stage, ask, Failure(status=429, code=code), stream=False)
    assert (error.kind, error.retryable) == (BY_CODE[code].kind, BY_CODE[code].retryable)


BROKEN: dict[str, tuple[Reply, str, bool]] = {
    "no answer": (Reply(moves=(Cut(),)), "transport", True),
    "reset": (Reply(moves=(Reset(),)), "transport", True),
    "half a body": (
        Reply(headers={"content-length": "9"}, moves=(Send(b"{"), Cut())),
        "transport",
        True,
    ),
    "no HTTP": (Reply(moves=(Send(b""), SendUnframed(b"\0\0\0"), Cut())), "transport", True),
    "no JSON": (
        Reply(headers={"content-type": "application/json"}, moves=(Send(b"{"),)),
        "invalid_response",
        True,
    ),
    "a page": (
        Reply(headers={"content-type": "text/html"}, moves=(Send(b"<html>"),)),
        "invalid_response",
        True,
    ),
    "nothing": (Reply(), "invalid_response", True),
}


@pytest.mark.parametrize(("reply", "kind", "retryable"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_answer(
    on_stage: Any, ask: Any, reply: Reply, kind: str, retryable: Any
) -> None:
    """Whatever comes instead of an answer is an error with its kind."""
    error = await failed(on_stage, ask, reply, stream=False)
    assert (error.kind, error.retryable) == (kind, retryable)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_redirect(on_stage: Any, ask: Any, stream: bool) -> None:  # noqa: FBT001
    """A request, and the key with it, goes nowhere but to the endpoint that the settings name."""
    async with open_openai_server([Answer(text="x")]) as other:
        there = {"location": f"{other.url}/v1/chat/completions", "content-length": "0"}
        error = await failed(on_stage, ask, Reply(status=307, headers=there), stream=stream)
        assert other.requests == []
    assert (error.kind, error.retryable) == ("configuration", False)
    assert "(307)" in str(error)


STREAM = {"content-type": "text/event-stream"}
CHUNK = Send(b'data: {"choices":[{"delta":{"content":"Once"}}]}\n\n')
BROKEN_STREAMS: dict[str, tuple[Reply, str, bool]] = {
    "broken off": (Reply(headers=STREAM, moves=(CHUNK,)), "transport", True),
    "cut": (Reply(headers=STREAM, moves=(CHUNK, Cut())), "transport", True),
    "reset": (Reply(headers=STREAM, moves=(CHUNK, Reset())), "transport", True),
    "a broken chunk": (
        Reply(headers=STREAM, moves=(CHUNK, SendUnframed(b"zz\r\n"), Cut())),
        "transport",
        True,
    ),
    "half an event": (
        Reply(headers=STREAM, moves=(CHUNK, Send(b'data: {"choi'))),
        "invalid_response",
        True,
    ),
    "no JSON": (
        Reply(headers=STREAM, moves=(CHUNK, Send(b"data: {\n\n"), Hang())),
        "invalid_response",
        True,
    ),
    "an error told": (
        Reply(
            headers=STREAM,
            moves=(CHUNK, Send(b'data: {"error":{"code":"server_error"}}\n\n'), Hang()),
        ),
        "internal",
        True,
    ),
    "whole": (Reply.of_json({"choices": []}), "configuration", False),
}


@pytest.mark.parametrize(
    ("reply", "kind", "retryable"), BROKEN_STREAMS.values(), ids=BROKEN_STREAMS
)
async def test_a_broken_stream(
    on_stage: Any, ask: Any, reply: Reply, kind: str, retryable: Any
) -> None:
    """A stream that ends or breaks before its answer is an error, whatever came before."""
    error = await failed(on_stage, ask, reply, stream=True)
    assert (error.kind, error.retryable) == (kind, retryable)


def _event(**event: Any) -> Send:
    return Send(f"data: {json.dumps(event)}\n\n".encode())


FINISH = _event(choices=[{"delta": {}, "finish_reason": "stop"}])
USAGE = _event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 2})
ITEM = {"type": "message", "content": [{"type": "output_text", "text": "Once"}]}
RESPONSE = {"status": "completed", "output": [ITEM], "usage": {"input_tokens": 3}}
LAST = _event(type="response.completed", response=RESPONSE)
COMPLETE: dict[str, tuple[tuple[Send, ...], dict[str, Any]]] = {
    "chat, with its usage": ((CHUNK, FINISH, USAGE), {}),
    "chat, of which none was asked": ((CHUNK, FINISH), {"stream_usage": False}),
    "a response": ((LAST,), {"api": "responses"}),
}
FAULTS: dict[str, tuple[Any, ...]] = {
    "cut": (Cut(),),
    "reset": (Reset(),),
    "nothing": (Hang(),),
    "no JSON": (Send(b"data: {\n\n"), Hang()),
    "an error": (Send(b'data: {"error": "too late"}\n\n'), Hang()),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize(("moves", "others"), COMPLETE.values(), ids=COMPLETE)
async def test_what_comes_after_a_whole_answer(
    on_stage: Any, ask: Any, moves: Any, others: Any, fault: Any
) -> None:
    """An answer that is there is not thrown away for what happens to its connection."""
    reply = Reply(headers=STREAM, moves=(*moves, *fault))
    async with on_stage([reply], **others) as stage:
        decision = await stage.provider.stream_action(ask(), [].append)
    assert decision.action == Respond("Once")
    assert (decision.usage is None) == ("stream_usage" in others)


TOLD: dict[str, tuple[Any, str, bool]] = {
    "a number": ({"code": 429, "message": "boom"}, "rate_limited", True),
    "digits": ({"code": "401", "message": "boom"}, "configuration", False),
    "a word": ({"code": "server_error", "message": "boom"}, "internal", True),
    "no code": ({"message": "boom"}, "internal", True),
    "a text": ("boom", "internal", True),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", TOLD.values(), ids=TOLD)
async def test_an_error_told_with_success(
    on_stage: Any, ask: Any, api: Any, case: tuple[Any, str, bool], *, stream: bool
) -> None:
    """An error in an answer of status 200 is that error, whatever else is missing."""
    error, kind, retryable = case
    reply = Reply.of_json({"error": error})
    failure = await failed(on_stage, ask, reply, stream=stream, api=api)
    assert (failure.kind, failure.retryable) == (kind, retryable)
    assert "boom" in str(failure)


async def test_an_answer_that_lacks_its_usage(on_stage: Any, ask: Any) -> None:
    """An answer that breaks off before the usage that was asked for is not whole."""
    reply = Reply(headers=STREAM, moves=(CHUNK, FINISH, Cut()))
    error = await failed(on_stage, ask, reply, stream=True)
    assert (error.kind, error.retryable) == ("transport", True)


async def test_usage_that_was_not_asked_for(on_stage: Any, ask: Any) -> None:
    """Usage that comes after the last of an answer counts, asked for or not."""
    reply = Reply(headers=STREAM, moves=(CHUNK, FINISH, USAGE, Hang()))
    async with on_stage([reply], stream_usage=False) as stage:
        decision = await stage.provider.stream_action(ask(), [].append)
    assert decision.usage.input_tokens == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_an_endpoint_that_is_silent(on_stage: Any, ask: Any, *, stream: bool) -> None:
    """Who says nothing for as long as the settings allow has not answered in time."""
    moves = (Hang(),) if not stream else (CHUNK, Hang())
    reply = Reply(headers=STREAM, moves=moves)
    error = await failed(on_stage, ask, reply, stream=stream, timeout_s=0.05)
    assert (error.kind, error.retryable) == ("timeout", True)


async def test_nobody_listens(settings: Any, ask: Any, on_stage: Any) -> None:
    """An endpoint that is not there is a failure of transport."""
    async with on_stage() as stage:
        provider = stage.provider
        await stage.server.until(lambda it: it.open_connections == 0)
        gone = stage.server.url
    from rainengine.provider_openai import open_openai_provider

    async with open_openai_provider(settings(base_url=f"{gone}/v1")) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.generate_action(ask())
    assert (caught.value.kind, caught.value.retryable) == ("transport", True)


# By class.

OF_THE_SDK = sorted(
    name
    for name, one in list(vars(openai).items())
    if inspect.isclass(one) and issubclass(one, Exception) and not name.startswith("_")
)


@pytest.mark.parametrize("name", OF_THE_SDK)
def test_a_class_of_the_sdk(name: str) -> None:
    """Every error class that the SDK exports is a row of the table, or of a kind that is."""
    cls: Any = getattr(openai, name)
    error = cls.__new__(cls)
    verdict = verdict_of(error)
    rows = {one.__name__ for one in cls.__mro__} & BY_CLASS.keys()
    status = getattr(cls, "status_code", None)
    assert rows - {"Exception"} or issubclass(cls, ValueError)
    if isinstance(status, int):
        assert verdict == BY_STATUS[status]


CLASSES: list[tuple[Exception, str, bool]] = [
    (
        openai.APIResponseValidationError(httpx2.Response(200, request=REQUEST), None),
        "invalid_response",
        True,
    ),
    (openai.APITimeoutError(REQUEST), "timeout", True),
    (openai.APIConnectionError(request=REQUEST), "transport", True),
    (openai.APIError("x", REQUEST, body=None), "internal", True),
    (openai.APIError("x", REQUEST, body={"type": "rate_limit_error"}), "rate_limited", True),
    (openai.OpenAIError("x"), "configuration", False),
    (httpx2.ReadTimeout("x"), "timeout", True),
    (httpx2.ReadError("x"), "transport", True),
    (httpx2.DecodingError("x"), "invalid_response", True),
    (json.JSONDecodeError("x", "", 0), "invalid_response", True),
    (RuntimeError("x"), "internal", False),
]


@pytest.mark.parametrize(
    ("error", "kind", "retryable"), CLASSES, ids=[type(one[0]).__name__ for one in CLASSES]
)
def test_an_error_without_a_status(error: Exception, kind: str, retryable: Any) -> None:
    """An error is what its class, or the nearest of its bases in the table, says."""
    assert (told(error).kind, told(error).retryable) == (kind, retryable)
    assert type(error).__name__ in str(told(error))


def test_an_error_of_ours_stays() -> None:
    """A `ProviderError` passes through."""
    error = ProviderError("x", kind="internal", retryable=False)
    assert told(error) is error


def test_a_long_message_is_cut() -> None:
    """What an endpoint says is told in short."""
    for error in (told(RuntimeError("x" * 9999)), told_failure({"message": "x" * 9999})):
        assert len(str(presentable(error, SECRET))) == 400


# Advice.


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3_000),
        ({"retry-after": "0.25"}, 250),
        ({"retry-after": "-1"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e308"}, 86_400_000),
        ({"retry-after": "-1e308"}, 0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "x"}, None),
        (
            {
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": f"{'9' * 400}s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": f"{'9' * 5000}d",
            },
            86_400_000,
        ),
        ({"retry-after": "999999999"}, 86_400_000),
        ({"retry-after": "Mon, 21 Sep 2026 14:13:25 GMT"}, 5_000),
        ({"retry-after": "Mon Sep 21 14:13:25 2026"}, 5_000),
        ({"retry-after": "Mon, 21 Sep 2026 14:13:25 -0000"}, 5_000),
        ({"retry-after": "Mon, 21 Sep 2026 14:13:00 GMT"}, 0),
        ({"retry-after-ms": "120.5", "retry-after": "3"}, 121),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360_000),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "120ms"}, 120),
        ({"x-ratelimit-remaining-requests": "7", "x-ratelimit-reset-requests": "120ms"}, None),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "1.5s",
            },
            1_500,
        ),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], wait_ms: int | None) -> None:
    """The endpoint's advice, in whichever header it stands, bounded by a day."""
    assert advised_wait_ms(headers, NOW) == wait_ms


_SAID = st.text("0123456789.eE+-:, smhdinfaMon")
_HEADERS = ["retry-after-ms", "retry-after", *_RESETS]


@given(st.dictionaries(st.sampled_from(_HEADERS), _SAID | st.floats().map(repr) | st.text()))
def test_any_advice_is_a_wait_or_none(headers: dict[str, str]) -> None:
    """Whatever the headers say, there is a wait of no more than a day, or none."""
    used_up = {name.replace("reset", "remaining"): "0" for name in _RESETS}
    wait_ms = advised_wait_ms({**used_up, **headers}, NOW)
    assert wait_ms is None or 0 <= wait_ms <= 86_400_000


@pytest.mark.parametrize(
    ("headers", "default", "retry"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"x-should-retry": "false"}, True, False),
        ({"x-should-retry": "true"}, False, True),
        ({"x-should-retry": "maybe"}, True, True),
    ],
)
def test_whether_to_retry(headers: dict[str, str], *, default: bool, retry: bool) -> None:
    """The endpoint may say that asking again makes sense, or none."""
    assert should_retry(headers, default=default) == retry


async def test_a_rate_limit(on_stage: Any, ask: Any, api: Any) -> None:
    """A rate limit comes with the endpoint's advice."""
    failure = Failure(status=429, headers={"retry-after": "2"})
    for stream in (False, True):
        error = await failed(on_stage, ask, failure, stream=stream, api=api)
        assert (error.kind, error.retryable, error.retry_after_ms) == ("rate_limited", True, 2_000)


# The reference.


def _rows(table: Mapping[Any, Verdict]) -> list[str]:
    return [
        f"| `{key}` | `{verdict.kind}` | {'yes' if verdict.retryable else 'no'} |"
        for key, verdict in table.items()
    ]


def tables() -> str:
    """Return the tables as the reference has them."""
    lines: list[str] = []
    for title, key, table in (
        ("By the API's own word", "code or type", BY_CODE),
        ("By the HTTP status", "status", BY_STATUS),
        ("By the class of the error", "class", BY_CLASS),
    ):
        lines += [f"### {title}", "", f"| {key} | kind | again |", "|---|---|---|"]
        lines += [*_rows(table), ""]
    return "\n".join(lines)


def test_the_reference_names_the_endings() -> None:
    """The page in the reference names each ending of an answer that can be read."""
    assert [] == [name for name in ENDINGS if f"`{name}`" not in PAGE.read_text("utf-8")]


def test_the_reference_has_the_tables() -> None:
    """The page in the reference shows the tables as they are."""
    assert tables() in PAGE.read_text("utf-8"), f"{PAGE.name} has to have:\n\n{tables()}"
