"""The server that speaks the Gemini API."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import httpx2
import pytest

from rainengine.core.records import ChatMessage, TextPart, ToolCallPart, ToolFailure, ToolResultPart
from rainengine.model_servers import (
    Answer,
    Asked,
    Call,
    Failure,
    Script,
    Server,
    Tokens,
    gemini_error,
    open_gemini_server,
)

HELLO: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
MODEL = "/v1beta/models/gemini-2.5-flash"


@attrs.define
class StoppedClock:
    """A clock that moves when it is told to."""

    at_ms: int = 0

    def now_ms(self) -> int:
        return self.at_ms


@asynccontextmanager
async def _client(
    script: Script = (), **options: Any
) -> AsyncGenerator[tuple[Server, httpx2.AsyncClient]]:
    async with (
        open_gemini_server(script, **options) as server,
        httpx2.AsyncClient(base_url=server.url) as client,
    ):
        yield server, client


async def _post(client: httpx2.AsyncClient, path: str, body: object) -> Any:
    return (await client.post(path, json=body)).json()


async def test_whole_answer() -> None:
    """Thoughts, text, signed calls with and without ids, and tokens come in the API's shape."""
    calls = (Call(name="f", args={"a": 1}, call_id="x", opaque="c2ln"), Call(name="g"))
    tokens = Tokens(input=9, output=7, cached=4, thinking=2)
    answer = Answer(text="Hi there", thoughts="Hm", calls=calls, tokens=tokens)
    async with _client([answer]) as (_, client):
        body = await _post(client, f"{MODEL}:generateContent", HELLO)
    expected = {
        "candidates": [
            {
                "index": 0,
                "content": {
                    "role": "model",
                    "parts": [
                        {"text": "Hm", "thought": True},
                        {"text": "Hi there"},
                        {
                            "functionCall": {"name": "f", "args": {"a": 1}, "id": "x"},
                            "thoughtSignature": "c2ln",
                        },
                        {"functionCall": {"name": "g", "args": {}}},
                    ],
                },
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 9,
            "candidatesTokenCount": 5,
            "totalTokenCount": 16,
            "cachedContentTokenCount": 4,
            "thoughtsTokenCount": 2,
        },
        "modelVersion": "gemini-2.5-flash",
        "responseId": "response-1",
    }
    assert expected == body


@pytest.mark.parametrize("version", ["v1beta", "v1"])
async def test_stream_of_events(version: str) -> None:
    """With `alt=sse` each piece is an event, and the last one says why it ended."""
    async with _client([Answer(text="one two", calls=(Call(name="f"),))]) as (_, client):
        path = f"/{version}/models/m:streamGenerateContent?alt=sse"
        response = await client.post(path, json=HELLO)
    events = [json.loads(event[6:]) for event in response.text.split("\n\n") if event]
    candidates = [event["candidates"][0] for event in events]
    parts = [part for one in candidates for part in one.get("content", {}).get("parts", [])]
    expected = [{"text": "one "}, {"text": "two"}, {"functionCall": {"name": "f", "args": {}}}]
    assert expected == parts
    assert [None, None, None, "STOP"] == [one.get("finishReason") for one in candidates]


async def test_stream_as_an_array() -> None:
    """Without `alt=sse` the pieces are the items of one JSON array, and so is an error."""
    async with _client([Answer(text="one two"), Failure(status=503)]) as (_, client):
        pieces = await _post(client, f"{MODEL}:streamGenerateContent", HELLO)
        error = await _post(client, f"{MODEL}:streamGenerateContent", HELLO)
    texts = [part["text"] for p in pieces[:2] for part in p["candidates"][0]["content"]["parts"]]
    assert ["one ", "two"] == texts
    assert ["UNAVAILABLE"] == [one["error"]["status"] for one in error]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(text="x", stop="length"), "MAX_TOKENS"),
        (Answer(text="x", stop="content_filter"), "SAFETY"),
        (Answer(calls=(Call(name="f", args="{"),)), "MALFORMED_FUNCTION_CALL"),
    ],
)
async def test_other_endings(answer: Answer, reason: str) -> None:
    """An answer that is cut, filtered or malformed says so."""
    async with _client([answer]) as (_, client):
        body = await _post(client, f"{MODEL}:generateContent", HELLO)
    assert reason == body["candidates"][0]["finishReason"]


async def test_refusal_is_a_blocked_prompt() -> None:
    """A refusal comes as feedback on the prompt, without candidates."""
    async with _client([Answer(refusal="not that")]) as (_, client):
        body = await _post(client, f"{MODEL}:generateContent", HELLO)
    expected = {"blockReason": "OTHER", "blockReasonMessage": "not that"}
    assert expected == body["promptFeedback"]
    assert "candidates" not in body


async def test_script_sees_what_is_asked() -> None:
    """A function of the request is given the conversation in a form of no vendor."""
    seen: list[Asked] = []

    def script(asked: Asked) -> Answer:
        seen.append(asked)
        return Answer(text="ok")

    failure = {"kind": "timeout", "message": "late"}
    body = {
        "systemInstruction": {"parts": [{"text": "Be kind."}]},
        "contents": [
            *HELLO["contents"],
            {
                "role": "model",
                "parts": [{"functionCall": {"name": name, "id": name}} for name in "fg"],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"name": "f", "id": "f", "response": {"output": [1]}}},
                    {"functionResponse": {"name": "g", "id": "g", "response": {"error": failure}}},
                    {"text": "And?"},
                ],
            },
        ],
        "tools": [{"functionDeclarations": [{"name": "f", "description": "F."}]}],
    }
    async with _client(script) as (_, client):
        await _post(client, f"{MODEL}:generateContent", body)
    (asked,) = seen
    assert ("gemini-2.5-flash", ("f",), False) == (asked.model, asked.tools, asked.stream)
    expected = (
        ChatMessage("system", (TextPart("Be kind."),)),
        ChatMessage("user", (TextPart("Hello"),)),
        ChatMessage(
            "assistant", tuple(ToolCallPart(call_id=name, name=name, args={}) for name in "fg")
        ),
        ChatMessage(
            "tool",
            (
                ToolResultPart(call_id="f", name="f", value=[1]),
                ToolResultPart(
                    call_id="g", name="g", failure=ToolFailure(kind="timeout", message="late")
                ),
            ),
        ),
        ChatMessage("user", (TextPart("And?"),)),
    )
    assert expected == asked.messages


async def test_broken_rule_is_refused() -> None:
    """A request that breaks a rule gets 400 and the complaints."""
    async with _client([Answer(text="never")]) as (_, client):
        response = await client.post(f"{MODEL}:generateContent", json={"contents": []})
    assert 400 == response.status_code
    assert "$.contents: a list that is not empty" in response.json()["error"]["message"]


async def test_wrong_key_is_refused() -> None:
    """Whoever sends neither the key nor the token is refused, wherever it is looked for."""
    async with _client([Answer()] * 3, api_key="k", bearer_token="t") as (_, client):
        ways: list[dict[str, Any]] = [
            {"headers": {"x-goog-api-key": "k"}},
            {"headers": {"authorization": "Bearer t"}},
            {"params": {"key": "k"}},
            {"headers": {"x-goog-api-key": "wrong"}},
            {},
        ]
        path = f"{MODEL}:generateContent"
        answers = [await client.post(path, json=HELLO, **way) for way in ways]
    assert [200, 200, 200, 400, 400] == [answer.status_code for answer in answers]
    assert "API_KEY_INVALID" == answers[-1].json()["error"]["details"][0]["reason"]


async def test_errors_have_googles_form() -> None:
    """A failure has the status's name or its own code; details are given as they are."""
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"}
    script = [Failure(status=500, code="UNKNOWN"), gemini_error(429, "slow", details=[info])]
    async with _client(script) as (_, client):
        first = await _post(client, f"{MODEL}:generateContent", HELLO)
        second = await _post(client, f"{MODEL}:generateContent", HELLO)
    assert "UNKNOWN" == first["error"]["status"]
    expected = {
        "code": 429,
        "message": "slow",
        "status": "RESOURCE_EXHAUSTED",
        "details": [info],
    }
    assert expected == second["error"]


async def test_cache_is_kept_until_it_expires() -> None:
    """A cache is created, shown, listed, used as the beginning, and gone once its time is over."""
    clock, seen = StoppedClock(), []

    def script(asked: Asked) -> Answer:
        seen.append(asked.messages)
        return Answer(text="ok")

    async with _client(script, clock=clock) as (_, client):
        creation = {
            "model": "models/m",
            "contents": HELLO["contents"],
            "ttl": "60s",
            "displayName": "d",
        }
        created = await _post(client, "/v1beta/cachedContents", creation)
        listed = (await client.get("/v1beta/cachedContents")).json()
        body = {
            "cachedContent": created["name"],
            "contents": [
                {"role": "model", "parts": [{"text": "Yes?"}]},
                {"role": "user", "parts": [{"text": "Go on"}]},
            ],
        }
        await _post(client, f"{MODEL}:generateContent", body)
        clock.at_ms = 60_000
        gone = await client.post(f"{MODEL}:generateContent", json=body)
        shown = await client.get(f"/v1beta/{created['name']}")
    assert {"cachedContents": [created]} == listed
    assert ("1970-01-01T00:01:00.000Z", "d") == (created["expireTime"], created["displayName"])
    assert created["usageMetadata"]["totalTokenCount"] > 0
    assert ["user", "assistant", "user"] == [message.role for message in seen[0]]
    assert (403, 403) == (gone.status_code, shown.status_code)


async def test_small_cache_is_refused() -> None:
    """A cache below the minimum is an error of the API."""
    async with _client(min_cache_tokens=4096) as (_, client):
        body = {"model": "models/m", "contents": HELLO["contents"]}
        response = await client.post("/v1beta/cachedContents", json=body)
    assert 400 == response.status_code
    assert "too small" in response.json()["error"]["message"]


async def test_embeddings() -> None:
    """Texts become vectors, one by one or in a batch that names its model."""
    async with _client(embed=lambda texts: [[float(len(text))] for text in texts]) as (_, client):

        def request(text: str) -> dict[str, Any]:
            return {"model": "models/e", "content": {"parts": [{"text": text}]}}

        one = await _post(client, "/v1beta/models/e:embedContent", request("abc"))
        path = "/v1beta/models/e:batchEmbedContents"
        batch = await _post(client, path, {"requests": [request("a"), request("ab")]})
        wrong = await client.post(path, json={"requests": [{"content": {}}]})
    assert {"embedding": {"values": [3.0]}} == one
    assert {"embeddings": [{"values": [1.0]}, {"values": [2.0]}]} == batch
    assert 400 == wrong.status_code
