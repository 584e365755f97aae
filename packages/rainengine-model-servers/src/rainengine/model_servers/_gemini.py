"""A server that speaks the Gemini API's REST formats: answers, streams, caches, embeddings."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from itertools import count
from typing import Any, TypeAlias

import attrs

from rainengine.core.abc import Clock
from rainengine.core.environment import SystemClock
from rainengine.core.records import JsonObject, JsonValue
from rainengine.model_servers import _gemini_wire as wire
from rainengine.model_servers._complaining import as_object
from rainengine.model_servers._gemini_caches import CacheRefused, Caches
from rainengine.model_servers._gemini_complaints import gemini_complaints
from rainengine.model_servers._gemini_names import camel_cased
from rainengine.model_servers._messages import Reply, Request
from rainengine.model_servers._moves import Send
from rainengine.model_servers._openai import Embed, digest_vectors
from rainengine.model_servers._script import Answer, Answering, Asked, Failure, Script, follow
from rainengine.model_servers._server import Server, open_server

_METHOD = re.compile(r"/v1(?:beta)?/(models|tunedModels)/(?P<model>[^/:]+):(?P<method>\w+)")
_CACHES = re.compile(r"/v1(?:beta)?/(?P<name>cachedContents(?:/[^/]+)?)")

_Answered: TypeAlias = Callable[[Request, Any, str], Awaitable[Reply]]


@asynccontextmanager
async def open_gemini_server(
    script: Script = (),
    *,
    embed: Embed = digest_vectors,
    api_key: str | None = None,
    bearer_token: str | None = None,
    min_cache_tokens: int = 0,
    clock: Clock | None = None,
    port: int = 0,
) -> AsyncGenerator[Server]:
    """Serve the Gemini API at `server.url`, as `v1beta` and as `v1`.

    The script gives the answers to `generateContent` and `streamGenerateContent`, the latter as
    server-sent events or, without `alt=sse`, as a JSON array. A request that breaks a rule is
    refused with 400 and all `gemini_complaints` about it. With an `api_key` or a `bearer_token`,
    whoever sends neither is refused.

    A call without a `call_id` goes out without one, as from older models, and one whose arguments
    are no object ends the answer with `MALFORMED_FUNCTION_CALL`. A refusal is a blocked prompt.
    Caches have a token for every four characters, expire by the `clock`, and are refused below
    `min_cache_tokens`.
    """
    keys = frozenset(key for key in (api_key, bearer_token) if key is not None)
    caches = Caches(clock or SystemClock(), min_cache_tokens)
    model = _Model(follow(script), embed, keys, caches)
    async with open_server(model.reply, port=port) as server:
        yield server


def gemini_error(
    status: int,
    message: str = "the script says so",
    *,
    code: str | None = None,
    details: Sequence[JsonValue] = (),
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Return an error in Google's form, with details such as `google.rpc.RetryInfo`."""
    body = wire.error(status, message, code=code, details=details)
    return Reply.of_json(body, status=status, headers=headers or {})


@attrs.define(eq=False)
class _Model:
    _answer: Answering
    _embed: Embed
    _keys: frozenset[str]
    _caches: Caches
    _ids: count[int] = attrs.field(factory=lambda: count(1), init=False)

    async def reply(self, request: Request) -> Reply:
        if self._keys and _key_of(request) not in self._keys:
            return _unauthorized()
        if found := _CACHES.fullmatch(request.path):
            return self._reply_about_caches(request, found["name"])
        found = _METHOD.fullmatch(request.path)
        reply = self._methods().get(found["method"]) if found else None
        if found is None or reply is None:
            return gemini_error(404, f"nothing is at {request.path}")
        try:
            body = camel_cased(request.json)
        except ValueError as error:
            return gemini_error(400, f"Invalid JSON payload received: {error}")
        return await reply(request, body, found["model"])

    def _methods(self) -> dict[str, _Answered]:
        return {
            "generateContent": self._generate,
            "streamGenerateContent": self._stream,
            "embedContent": self._embed_one,
            "batchEmbedContents": self._embed_batch,
            "countTokens": _count,
        }

    async def _generate(self, request: Request, body: Any, model: str) -> Reply:  # noqa: ANN401
        turn = await self._turn(request, body, model, stream=False)
        if not isinstance(turn, Answer):
            return turn
        return _sent(turn, Reply.of_json(wire.response(turn, self._next())))

    async def _stream(self, request: Request, body: Any, model: str) -> Reply:  # noqa: ANN401
        turn = await self._turn(request, body, model, stream=True)
        as_events = request.query.get("alt") == "sse"
        if not isinstance(turn, Answer):
            return turn if as_events else _in_array(turn)
        chunks = wire.chunks(turn, self._next())
        return _sent(turn, _events(chunks) if as_events else _array(chunks))

    async def _turn(
        self,
        request: Request,
        body: Any,  # noqa: ANN401
        model: str,
        *,
        stream: bool,
    ) -> Answer | Reply:
        try:
            cached = self._caches.used_by(body)
        except CacheRefused as error:
            return gemini_error(error.status, str(error))
        if complaints := gemini_complaints(body, model=model, cached=cached):
            return gemini_error(400, "; ".join(complaints))
        asked: Asked = wire.asked(request, body, cached or {}, model=model, stream=stream)
        turn = await self._answer(asked)
        if isinstance(turn, Failure):
            return _failed(turn)
        if isinstance(turn, Reply):
            return turn
        return attrs.evolve(turn, model=turn.model or model)

    def _reply_about_caches(self, request: Request, name: str) -> Reply:
        try:
            body = camel_cased(request.json) if request.method == "POST" else None
            return Reply.of_json(self._caches.reply(request.method, name, body))
        except CacheRefused as error:
            return gemini_error(error.status, str(error))
        except ValueError as error:
            return gemini_error(400, f"Invalid JSON payload received: {error}")

    async def _embed_one(self, request: Request, body: Any, model: str) -> Reply:  # noqa: ANN401
        return self._vectors([body], lambda vectors: {"embedding": vectors[0]})

    async def _embed_batch(self, request: Request, body: Any, model: str) -> Reply:  # noqa: ANN401
        requests: list[Any] = body.get("requests") or []
        named = [one for one in requests if one.get("model") == f"models/{model}"]
        if not requests or len(named) < len(requests):
            return gemini_error(400, f"$.requests: each has to name models/{model}")
        return self._vectors(requests, lambda vectors: {"embeddings": vectors})

    def _vectors(
        self, requests: list[Any], shaped: Callable[[list[JsonValue]], JsonObject]
    ) -> Reply:
        texts = [_text_of(request) for request in requests]
        if not all(texts):
            return gemini_error(400, "$.content: a text that is not empty is wanted")
        vectors = self._embed(texts)
        if isinstance(vectors, Failure):
            return _failed(vectors)
        if isinstance(vectors, Reply):
            return vectors
        return Reply.of_json(shaped([{"values": list(vector)} for vector in vectors]))

    def _next(self) -> str:
        return str(next(self._ids))


def _key_of(request: Request) -> str | None:
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    return request.headers.get("x-goog-api-key") or request.query.get("key") or bearer


def _unauthorized() -> Reply:
    info: JsonValue = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
    }
    message = "API key not valid. Please pass a valid API key."
    return gemini_error(400, message, details=[info])


def _failed(failure: Failure) -> Reply:
    return gemini_error(failure.status, failure.message, code=failure.code, headers=failure.headers)


def _sent(answer: Answer, reply: Reply) -> Reply:
    if answer.sending is None:
        return reply
    return attrs.evolve(reply, moves=answer.sending(tuple(reply.moves)))


def _events(chunks: Iterable[JsonObject]) -> Reply:
    return Reply.of_events(f"data: {_text(chunk)}" for chunk in chunks)


def _array(chunks: Iterable[JsonObject]) -> Reply:
    """Return the form without events: one array, that comes in piece by piece."""
    texts = [_text(chunk) for chunk in chunks]
    pieces = [f"{',' if index else '['}{text}\n" for index, text in enumerate(texts)]
    moves = tuple(Send(piece.encode()) for piece in (*pieces, "]"))
    return Reply(headers={"content-type": "application/json"}, moves=moves)


def _in_array(error: Reply) -> Reply:
    """Return an error as it comes where an array was asked for: in one."""
    moves = tuple(error.moves)
    if error.status < HTTPStatus.BAD_REQUEST or not all(isinstance(one, Send) for one in moves):
        return error
    body = b"".join(one.data for one in moves if isinstance(one, Send))
    headers = {name: value for name, value in error.headers.items() if name != "content-length"}
    return attrs.evolve(error, headers=headers, moves=(Send(b"[" + body + b"]"),))


def _text(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False)


def _text_of(request: Any) -> str:  # noqa: ANN401  # JSON
    content = as_object(request.get("content")) or {}
    parts: list[Any] = content.get("parts") or []
    return "".join(str(part.get("text") or "") for part in parts)


async def _count(request: Request, body: Any, model: str) -> Reply:  # noqa: ANN401
    return Reply.of_json({"totalTokens": len(_text(body)) // 4})
