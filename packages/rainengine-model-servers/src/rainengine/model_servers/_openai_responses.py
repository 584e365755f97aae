"""The responses API: what is asked, and the shapes of answers.

https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rainengine.core.records import (
    ChatMessage,
    JsonPart,
    JsonValue,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from rainengine.model_servers._messages import Request
from rainengine.model_servers._openai_chat import arguments, parsed, parts_of, text_of
from rainengine.model_servers._script import Answer, Asked, Call, Tokens

SEALED = "reasoning.encrypted_content"
"""What a request has to include for its reasoning to come sealed."""

_CUT_OFF = {"length": "max_output_tokens", "content_filter": "content_filter"}


def asked(request: Request, body: Mapping[str, Any]) -> Asked:
    """Read a request that no rule complains of."""
    names: dict[str, str] = {}
    given = body["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    return Asked(
        model=body["model"],
        messages=(*_instructions(body), *(_message(item, names) for item in items)),
        tools=tuple(tool["name"] for tool in body.get("tools", ())),
        stream=bool(body.get("stream")),
        request=request,
    )


def _instructions(body: Mapping[str, Any]) -> tuple[ChatMessage, ...]:
    text = body.get("instructions")
    return (ChatMessage("system", (TextPart(text),)),) if text else ()


def _message(item: Mapping[str, Any], names: dict[str, str]) -> ChatMessage:
    match item.get("type", "message"):
        case "message":
            role: Role = "system" if item["role"] == "developer" else item["role"]
            return ChatMessage(role, parts_of(item["content"]))
        case "function_call":
            call_id, name = item["call_id"], item["name"]
            names[call_id] = name
            args = json.loads(item["arguments"])
            return ChatMessage("assistant", (ToolCallPart(call_id=call_id, name=name, args=args),))
        case "function_call_output":
            call_id = item["call_id"]
            value = parsed(text_of(item["output"]))
            result = ToolResultPart(call_id=call_id, name=names.get(call_id, ""), value=value)
            return ChatMessage("tool", (result,))
        case _:
            return ChatMessage("assistant", (JsonPart(dict(item)),))


def response(answer: Answer, answer_id: str) -> dict[str, Any]:
    """Return the body of a whole answer."""
    status, details = _status(answer)
    head = _head(answer, answer_id, status)
    output: list[Any] = list(_items(answer, answer_id))
    usage = _usage(answer.tokens)
    return {**head, "incomplete_details": details, "output": output, "usage": usage}


def _status(answer: Answer) -> tuple[str, JsonValue]:
    if answer.stop == "end":
        return "completed", None
    return "incomplete", {"reason": _CUT_OFF[answer.stop]}


def _head(answer: Answer, answer_id: str, status: str) -> dict[str, Any]:
    return {
        "id": f"resp_{answer_id}",
        "object": "response",
        "created_at": 0,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": answer.model,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
    }


def _items(answer: Answer, answer_id: str) -> Iterable[dict[str, Any]]:
    if answer.thoughts is not None or answer.opaque is not None:
        yield _reasoning(answer, answer_id)
    contents = _contents(answer)
    if contents:
        yield {
            "id": f"msg_{answer_id}",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": contents,
        }
    for index, call in enumerate(answer.calls):
        yield _call(call, f"fc_{answer_id}_{index}")


def _reasoning(answer: Answer, answer_id: str) -> dict[str, Any]:
    thoughts = answer.thoughts
    summary = [] if thoughts is None else [{"type": "summary_text", "text": thoughts}]
    item = {"id": f"rs_{answer_id}", "type": "reasoning", "summary": summary}
    return {**item, "encrypted_content": answer.opaque}


def _contents(answer: Answer) -> list[Any]:
    contents: list[Any] = []
    if answer.text is not None:
        contents.append({"type": "output_text", "text": answer.text, "annotations": []})
    if answer.refusal is not None:
        contents.append({"type": "refusal", "refusal": answer.refusal})
    return contents


def _call(call: Call, item_id: str) -> dict[str, Any]:
    return {
        "id": item_id,
        "type": "function_call",
        "status": "completed",
        "call_id": call.call_id,
        "name": call.name,
        "arguments": arguments(call),
    }


def events(answer: Answer, answer_id: str) -> Iterable[str]:
    """Return the events of a stream, numbered."""
    for number, event in enumerate(_events(answer, answer_id)):
        data = json.dumps({**event, "sequence_number": number}, ensure_ascii=False)
        yield f"event: {event['type']}\ndata: {data}"


def _events(answer: Answer, answer_id: str) -> Iterable[dict[str, Any]]:
    begun = _head(answer, answer_id, "in_progress")
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(_items(answer, answer_id)):
        place = {"output_index": index, "item_id": item["id"]}
        yield {"type": "response.output_item.added", "output_index": index, "item": _empty(item)}
        yield from _MAKING[item["type"]](item, place, answer)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    whole = response(answer, answer_id)
    yield {"type": f"response.{whole['status']}", "response": whole}


def _empty(item: dict[str, Any]) -> dict[str, Any]:
    emptied: dict[str, Any] = {
        "message": {"content": [], "status": "in_progress"},
        "function_call": {"arguments": "", "status": "in_progress"},
        "reasoning": {"summary": []},
    }
    return {**item, **emptied[str(item["type"])]}


def _making_message(item: Any, place: dict[str, Any], answer: Answer) -> Iterable[dict[str, Any]]:  # noqa: ANN401
    for index, content in enumerate(item["content"]):
        at = {**place, "content_index": index}
        text = content["type"] == "output_text"
        kind, field = ("output_text", "text") if text else ("refusal", "refusal")
        started = {**content, field: ""}
        yield {"type": "response.content_part.added", **at, "part": started}
        for piece in answer.text_pieces() if text else (content[field],):
            yield {"type": f"response.{kind}.delta", **at, "delta": piece, "logprobs": []}
        yield {"type": f"response.{kind}.done", **at, field: content[field], "logprobs": []}
        yield {"type": "response.content_part.done", **at, "part": content}


def _making_call(item: Any, place: dict[str, Any], answer: Answer) -> Iterable[dict[str, Any]]:  # noqa: ANN401
    text = item["arguments"]
    for half in (text[: len(text) // 2], text[len(text) // 2 :]):
        yield {"type": "response.function_call_arguments.delta", **place, "delta": half}
    done = {"type": "response.function_call_arguments.done", **place}
    yield {**done, "arguments": text, "name": item["name"]}


def _making_thoughts(item: Any, place: dict[str, Any], answer: Answer) -> Iterable[dict[str, Any]]:  # noqa: ANN401
    for index, summary in enumerate(item["summary"]):
        at = {**place, "summary_index": index}
        text = summary["text"]
        yield {"type": "response.reasoning_summary_text.delta", **at, "delta": text}
        yield {"type": "response.reasoning_summary_text.done", **at, "text": text}


_MAKING: dict[Any, Any] = {
    "message": _making_message,
    "function_call": _making_call,
    "reasoning": _making_thoughts,
}


def _usage(tokens: Tokens | None) -> JsonValue:
    if tokens is None:
        return None
    return {
        "input_tokens": tokens.input,
        "input_tokens_details": {"cached_tokens": tokens.cached},
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": tokens.thinking},
        "total_tokens": tokens.input + tokens.output,
    }
