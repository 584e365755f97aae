"""A server that speaks OpenAI's wire formats: chat completions, responses, embeddings."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from itertools import count
from typing import Any, TypeAlias, cast

import attrs

from rainengine.core.records import JsonObject, JsonValue
from rainengine.model_servers import _openai_chat as chat
from rainengine.model_servers import _openai_responses as responses
from rainengine.model_servers._messages import Reply, Request
from rainengine.model_servers._openai_complaints import openai_complaints
from rainengine.model_servers._script import (
    Answer,
    Answering,
    Asked,
    Failure,
    Script,
    Turn,
    follow,
)
from rainengine.model_servers._server import Server, open_server

Embed: TypeAlias = Callable[[Sequence[str]], Sequence[Sequence[float]] | Failure | Reply]
"""Turns texts into vectors."""

_DIMENSIONS = 8
_TYPES = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}


def digest_vectors(texts: Sequence[str]) -> list[list[float]]:
    """Return a vector for each text that is made of nothing but its digest."""
    digests = [hashlib.sha256(text.encode()).digest() for text in texts]
    return [[byte / 255 for byte in digest[:_DIMENSIONS]] for digest in digests]


@asynccontextmanager
async def open_openai_server(
    script: Script = (),
    *,
    embed: Embed = digest_vectors,
    api_key: str | None = None,
    port: int = 0,
) -> AsyncGenerator[Server]:
    """Serve chat completions, responses and embeddings under `server.url` + `/v1`.

    The script gives the answers to the first two, in the API and the form (whole, or streamed)
    that a request asks for. A request that breaks a rule of its API is refused with 400 and all
    `openai_complaints` about it. With an `api_key`, any other is refused with 401.
    """
    model = _Model(follow(script), embed, api_key)
    async with open_server(model.reply, port=port) as server:
        yield server


@attrs.define(eq=False)
class _Model:
    _answer: Answering
    _embed: Embed
    _api_key: str | None
    _ids: Iterable[int] = attrs.field(factory=lambda: count(1), init=False)

    async def reply(self, request: Request) -> Reply:
        if self._api_key and request.headers.get("authorization") != f"Bearer {self._api_key}":
            return _failed(Failure(status=401, message="wrong key", code="invalid_api_key"))
        reply = self._replies().get(request.path.removeprefix("/v1"))
        if reply is None:
            return _failed(Failure(status=404, message=f"nothing is at {request.path}"))
        try:
            body = request.json
        except ValueError as error:
            return _failed(Failure(status=400, message=f"the body is no JSON: {error}"))
        return await reply(request, body)

    def _replies(self) -> dict[str, Callable[[Request, Any], Awaitable[Reply]]]:
        return {
            "/chat/completions": self._reply_with_completion,
            "/responses": self._reply_with_response,
            "/embeddings": self._reply_with_vectors,
        }

    async def _reply_with_completion(self, request: Request, body: Any) -> Reply:  # noqa: ANN401
        if complaints := openai_complaints(body):
            return _refused(complaints)
        asked = chat.asked(request, body)
        answer, name = self._complete(await self._answer(asked), asked)
        if not isinstance(answer, Answer):
            return answer
        if not asked.stream:
            return _sent(answer, Reply.of_json(chat.completion(answer, name)))
        options: dict[str, Any] = body.get("stream_options") or {}
        usage = bool(options.get("include_usage"))
        return _sent(answer, Reply.of_events(chat.chunks(answer, name, usage=usage)))

    async def _reply_with_response(self, request: Request, body: Any) -> Reply:  # noqa: ANN401
        if complaints := openai_complaints(body):
            return _refused(complaints)
        asked = responses.asked(request, body)
        answer, name = self._complete(await self._answer(asked), asked)
        if not isinstance(answer, Answer):
            return answer
        if responses.SEALED not in body.get("include", ()):
            answer = attrs.evolve(answer, opaque=None)
        if not asked.stream:
            return _sent(answer, Reply.of_json(responses.response(answer, name)))
        return _sent(answer, Reply.of_events(responses.events(answer, name)))

    async def _reply_with_vectors(self, request: Request, body: Any) -> Reply:  # noqa: ANN401
        given = body.get("input")
        texts = [given] if isinstance(given, str) else given
        if not texts or not all(isinstance(text, str) and text for text in texts):
            return _refused(["$.input: a text, or a list of them, none of them empty"])
        vectors = self._embed(texts)
        if isinstance(vectors, Failure):
            return _failed(vectors)
        return vectors if isinstance(vectors, Reply) else _embedded(vectors, texts, body)

    def _complete(self, turn: Turn, asked: Asked) -> tuple[Answer | Reply, str]:
        """Give an answer what the server makes up: its model, and an id to it and its calls."""
        name = str(self._next())
        if isinstance(turn, Failure):
            return _failed(turn), name
        if isinstance(turn, Reply):
            return turn, name
        calls = tuple(
            call if call.call_id is not None else attrs.evolve(call, call_id=f"call_{self._next()}")
            for call in turn.calls
        )
        return attrs.evolve(turn, calls=calls, model=turn.model or asked.model), name

    def _next(self) -> int:
        return next(cast("count[int]", self._ids))


def _sent(answer: Answer, reply: Reply) -> Reply:
    if answer.sending is None:
        return reply
    return attrs.evolve(reply, moves=answer.sending(tuple(reply.moves)))


def _refused(complaints: Sequence[str]) -> Reply:
    return _failed(Failure(status=400, message="; ".join(complaints)))


def _failed(failure: Failure) -> Reply:
    fallback = "server_error" if failure.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "error"
    error: dict[str, JsonValue] = {
        "message": failure.message,
        "type": _TYPES.get(failure.status, fallback),
        "param": None,
        "code": failure.code,
    }
    return Reply.of_json({"error": error}, status=failure.status, headers=failure.headers)


def _as_base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _embedded(vectors: Sequence[Sequence[float]], texts: Sequence[str], body: Any) -> Reply:  # noqa: ANN401
    encode = _as_base64 if body.get("encoding_format") == "base64" else list
    data: list[JsonValue] = [
        {"object": "embedding", "index": index, "embedding": encode(vector)}
        for index, vector in enumerate(vectors)
    ]
    tokens = sum(len(text.split()) for text in texts)
    usage: JsonObject = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Reply.of_json(
        {"object": "list", "data": data, "model": body.get("model"), "usage": usage}
    )
