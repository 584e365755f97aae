"""Gemini's `generateContent`: what is asked, and the shapes of answers and errors.

https://ai.google.dev/api/generate-content
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast, get_args

from rainengine.core.errors import FailureKind
from rainengine.core.records import (
    ChatMessage,
    JsonObject,
    JsonPart,
    JsonValue,
    Part,
    TextPart,
    ToolCallPart,
    ToolFailure,
    ToolResultPart,
)
from rainengine.model_servers._messages import Request
from rainengine.model_servers._script import Answer, Asked, Call, Tokens

_FINISH = {"end": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_ROLES = {"user": "user", "model": "assistant"}


def asked(
    request: Request,
    body: Mapping[str, Any],
    cached: Mapping[str, Any],
    *,
    model: str,
    stream: bool,
) -> Asked:
    """Read a request that no rule complains of; what its cache holds comes first."""
    shared = {**cached, **body}
    contents = [*cached.get("contents", ()), *body["contents"]]
    instruction = shared.get("systemInstruction", {}).get("parts", ())
    system = [ChatMessage("system", (TextPart(part["text"]),)) for part in instruction]
    tools = [one for tool in shared.get("tools", ()) for one in tool["functionDeclarations"]]
    return Asked(
        model=model,
        messages=(*system, *(one for content in contents for one in _messages(content))),
        tools=tuple(declaration["name"] for declaration in tools),
        stream=stream,
        request=request,
    )


def _messages(content: Mapping[str, Any]) -> Iterable[ChatMessage]:
    """Return a turn as a message, or as two where results and words stand in one."""
    results = [part for part in content["parts"] if "functionResponse" in part]
    others = [part for part in content["parts"] if "functionResponse" not in part]
    if results:
        yield ChatMessage("tool", tuple(_result(part["functionResponse"]) for part in results))
    if others:
        role = cast(Any, _ROLES[content["role"]])
        yield ChatMessage(role, tuple(map(_part, others)))


def _part(part: Mapping[str, Any]) -> Part:
    if "functionCall" in part:
        call = part["functionCall"]
        return ToolCallPart(
            call_id=call.get("id", ""),
            name=call["name"],
            args=call.get("args", {}),
            opaque=part.get("thoughtSignature"),
        )
    return TextPart(part["text"]) if "text" in part else JsonPart(dict(part))


def _result(response: Mapping[str, Any]) -> ToolResultPart:
    given = response["response"]
    call_id, name = response.get("id", ""), response["name"]
    failure = _failure(given.get("error"))
    if failure is not None:
        return ToolResultPart(call_id=call_id, name=name, failure=failure)
    return ToolResultPart(call_id=call_id, name=name, value=given.get("output", given))


def _failure(error: object) -> ToolFailure | None:
    if not isinstance(error, Mapping):
        return None
    told = cast(Mapping[str, object], error)
    kind = told.get("kind")
    known = cast(FailureKind, kind) if kind in get_args(FailureKind) else "internal"
    return ToolFailure(kind=known, message=str(told.get("message", "")))


def response(answer: Answer, answer_id: str) -> JsonObject:
    """Return the body of a whole answer."""
    parts = list(_pieces(answer, (answer.text,) if answer.text else ()))
    return _body(answer, answer_id, parts, ended=True)


def chunks(answer: Answer, answer_id: str) -> Iterable[JsonObject]:
    """Return the pieces of a stream, each of which is a response of its own."""
    for piece in _pieces(answer, answer.text_pieces()):
        yield _body(answer, answer_id, [piece], ended=False)
    yield _body(answer, answer_id, [], ended=True)


def _pieces(answer: Answer, texts: Iterable[str]) -> Iterable[JsonObject]:
    if answer.refusal is not None or _is_malformed(answer):
        return
    if answer.thoughts is not None:
        yield {"text": answer.thoughts, "thought": True}
    for text in texts:
        yield {"text": text}
    if answer.opaque is not None:
        yield {"text": "", "thoughtSignature": answer.opaque}
    for call in answer.calls:
        yield _call(call)


def _call(call: Call) -> JsonObject:
    args: Any = json.loads(call.args) if isinstance(call.args, str) else call.args
    called: JsonObject = {"name": call.name, "args": args}
    if call.call_id is not None:
        called["id"] = call.call_id
    signed: JsonObject = {} if call.opaque is None else {"thoughtSignature": call.opaque}
    return {"functionCall": called, **signed}


def _is_malformed(answer: Answer) -> bool:
    """Whether there are arguments that are no object: this API would not pass them on."""
    return any(isinstance(call.args, str) and not _is_object(call.args) for call in answer.calls)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _body(answer: Answer, answer_id: str, parts: list[JsonObject], *, ended: bool) -> JsonObject:
    body: JsonObject = {"modelVersion": answer.model, "responseId": f"response-{answer_id}"}
    if answer.tokens is not None:
        body["usageMetadata"] = _usage(answer.tokens)
    if answer.refusal is not None:
        blocked: JsonObject = {"blockReason": "OTHER", "blockReasonMessage": answer.refusal}
        return {**body, "promptFeedback": blocked}
    candidate: JsonObject = {"index": 0}
    if parts:
        candidate["content"] = {"role": "model", "parts": list[JsonValue](parts)}
    if ended:
        malformed = _is_malformed(answer)
        candidate["finishReason"] = "MALFORMED_FUNCTION_CALL" if malformed else _FINISH[answer.stop]
    return {**body, "candidates": [candidate]}


def _usage(tokens: Tokens) -> JsonObject:
    usage: JsonObject = {
        "promptTokenCount": tokens.input,
        "candidatesTokenCount": tokens.output - tokens.thinking,
        "totalTokenCount": tokens.input + tokens.output,
    }
    if tokens.cached:
        usage["cachedContentTokenCount"] = tokens.cached
    if tokens.thinking:
        usage["thoughtsTokenCount"] = tokens.thinking
    return usage


def error(
    status: int, message: str, *, code: str | None = None, details: Sequence[JsonValue] = ()
) -> JsonObject:
    """Return the body of an error; `code` is its name, by default the one of the HTTP status."""
    server = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    fallback = "INTERNAL" if server else "FAILED_PRECONDITION"
    named = code or _STATUSES.get(status, fallback)
    described: JsonObject = {"code": status, "message": message, "status": named}
    if details:
        described["details"] = list(details)
    return {"error": described}
