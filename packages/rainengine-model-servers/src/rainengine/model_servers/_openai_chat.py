"""Chat completions: what is asked, and the shapes of answers.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rainengine.core.records import (
    ChatMessage,
    JsonPart,
    JsonValue,
    Part,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from rainengine.model_servers._messages import Request
from rainengine.model_servers._script import Answer, Asked, Call, Tokens

_FINISH = {"end": "stop", "length": "length", "content_filter": "content_filter"}


def asked(request: Request, body: Mapping[str, Any]) -> Asked:
    """Read a request that no rule complains of."""
    names: dict[str, str] = {}
    return Asked(
        model=body["model"],
        messages=tuple(_message(message, names) for message in body["messages"]),
        tools=tuple(tool["function"]["name"] for tool in body.get("tools", ())),
        stream=bool(body.get("stream")),
        request=request,
    )


def _message(message: Mapping[str, Any], names: dict[str, str]) -> ChatMessage:
    role: Role = "system" if message["role"] == "developer" else message["role"]
    if role == "tool":
        call_id = message["tool_call_id"]
        value = parsed(text_of(message["content"]))
        result = ToolResultPart(call_id=call_id, name=names.get(call_id, ""), value=value)
        return ChatMessage("tool", (result,))
    calls = message.get("tool_calls") or ()
    names.update({call["id"]: call["function"]["name"] for call in calls})
    return ChatMessage(role, (*parts_of(message.get("content")), *map(_call_part, calls)))


def _call_part(call: Mapping[str, Any]) -> ToolCallPart:
    function = call["function"]
    args = json.loads(function["arguments"])
    return ToolCallPart(call_id=call["id"], name=function["name"], args=args)


def parts_of(content: Any) -> tuple[Part, ...]:  # noqa: ANN401  # JSON
    """Return texts as they are, and any other part as JSON."""
    if isinstance(content, str):
        return (TextPart(content),) if content else ()
    return tuple(
        TextPart(part["text"]) if "text" in part else JsonPart(part) for part in content or ()
    )


def text_of(content: Any) -> str:  # noqa: ANN401  # JSON
    """Return the text of a content, be it a text or parts."""
    return "".join(part.text for part in parts_of(content) if isinstance(part, TextPart))


def parsed(text: str) -> JsonValue:
    """Return the JSON value that a text is, or the text."""
    try:
        value: JsonValue = json.loads(text)
    except ValueError:
        return text
    return value


def arguments(call: Call) -> str:
    """Return a call's arguments as they go over the wire."""
    return call.args if isinstance(call.args, str) else json.dumps(call.args, ensure_ascii=False)


def completion(answer: Answer, answer_id: str) -> dict[str, Any]:
    """Return the body of a whole answer."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.text,
        "refusal": answer.refusal,
    }
    if answer.calls:
        message["tool_calls"] = [_call(call) for call in answer.calls]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(answer)}
    head = _head(answer, answer_id, "chat.completion")
    return {**head, "choices": [choice], "usage": _usage(answer.tokens)}


def chunks(answer: Answer, answer_id: str, *, usage: bool) -> Iterable[str]:
    """Return the events of a stream."""
    head = _head(answer, answer_id, "chat.completion.chunk")
    for delta in _deltas(answer):
        yield _chunk(head, delta, None)
    yield _chunk(head, {}, _finish(answer))
    if usage:
        yield _event({**head, "choices": [], "usage": _usage(answer.tokens)})
    yield "data: [DONE]"


def _deltas(answer: Answer) -> Iterable[dict[str, Any]]:
    yield {"role": "assistant", "content": None if answer.text is None else "", "refusal": None}
    for piece in answer.text_pieces():
        yield {"content": piece}
    if answer.refusal is not None:
        yield {"refusal": answer.refusal}
    for index, call in enumerate(answer.calls):
        yield {"tool_calls": [{"index": index, **_call(call, arguments_text="")}]}
        text = arguments(call)
        for half in (text[: len(text) // 2], text[len(text) // 2 :]):
            yield {"tool_calls": [{"index": index, "function": {"arguments": half}}]}


def _head(answer: Answer, answer_id: str, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{answer_id}", "object": kind, "created": 0, "model": answer.model}


def _chunk(head: dict[str, Any], delta: dict[str, Any], finish: str | None) -> str:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _event({**head, "choices": [choice]})


def _event(value: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}"


def _call(call: Call, *, arguments_text: str | None = None) -> dict[str, Any]:
    text = arguments(call) if arguments_text is None else arguments_text
    function = {"name": call.name, "arguments": text}
    return {"id": call.call_id, "type": "function", "function": function}


def _finish(answer: Answer) -> str:
    return "tool_calls" if answer.calls and answer.stop == "end" else _FINISH[answer.stop]


def _usage(tokens: Tokens | None) -> JsonValue:
    if tokens is None:
        return None
    return {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": tokens.thinking, "audio_tokens": 0},
    }
