"""The rules of chat completions.

https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from typing import Any

from rainengine.model_servers._complaining import (
    Check,
    Complaints,
    a_list,
    anything,
    as_object,
    by_field,
    fields,
    filled,
    gathered,
    json_object_text,
    matching,
    null_or,
    number,
    one_of,
    text,
    text_or,
    unique,
)
from rainengine.model_servers._openai_rules import (
    FORMAT,
    FUNCTION,
    NAME,
    SETTINGS,
    a_part,
    a_url,
    about_tools,
    of_schema,
)

_CALL_ID = matching(r"[\x21-\x7e]{1,40}")


def _image_url(value: object, path: str) -> Complaints:
    yield from fields(value, path, {"url": a_url}, {"detail": one_of("auto", "low", "high")})


def _audio(value: object, path: str) -> Complaints:
    yield from fields(value, path, {"data": filled, "format": one_of("wav", "mp3")}, {})


def _file(value: object, path: str) -> Complaints:
    yield from fields(value, path, {}, {"file_data": filled, "file_id": filled, "filename": filled})
    given = as_object(value)
    if given is not None and ("file_data" in given) == ("file_id" in given):
        yield f"{path}: either file_data or file_id is wanted"


_TEXT_PART = a_part("text", "text", text)
_TEXTS = text_or(a_list(_TEXT_PART))
_SAID = text_or(
    a_list(
        by_field("type", {"text": _TEXT_PART, "refusal": a_part("refusal", "refusal", text)}),
    )
)
_USER_PARTS = text_or(
    a_list(
        by_field(
            "type",
            {
                "text": _TEXT_PART,
                "image_url": a_part("image_url", "image_url", _image_url),
                "input_audio": a_part("input_audio", "input_audio", _audio),
                "file": a_part("file", "file", _file),
            },
        )
    )
)


def _called(value: object, path: str) -> Complaints:
    yield from fields(value, path, {"name": NAME, "arguments": json_object_text}, {})


def _chat_call(value: object, path: str) -> Complaints:
    required = {"id": _CALL_ID, "type": one_of("function"), "function": _called}
    yield from fields(value, path, required, {"extra_content": anything})


def _message(content: Check, **others: Check) -> Check:
    required = {"role": text, "content": content, **others}
    return lambda value, path: fields(value, path, required, {"name": NAME})


def _assistant(value: object, path: str) -> Complaints:
    optional: dict[str, Check] = {
        "content": null_or(_SAID),
        "name": NAME,
        "refusal": null_or(text),
        "tool_calls": a_list(_chat_call),
        "reasoning_content": text,
    }
    yield from fields(value, path, {"role": text}, optional)
    given = as_object(value) or {"content": ""}
    if all(given.get(name) is None for name in ("content", "refusal", "tool_calls")):
        yield f"{path}.content: is required without tool_calls"


_MESSAGE = by_field(
    "role",
    {
        "system": _message(_TEXTS),
        "developer": _message(_TEXTS),
        "user": _message(_USER_PARTS),
        "assistant": _assistant,
        "tool": _message(_TEXTS, tool_call_id=_CALL_ID),
    },
)


def _chat_tool(value: object, path: str) -> Complaints:
    def function(inner: object, inner_path: str) -> Complaints:
        yield from fields(inner, inner_path, {"name": NAME}, FUNCTION)

    yield from fields(value, path, {"type": one_of("function"), "function": function}, {})


def _format(value: object, path: str) -> Complaints:
    yield from fields(value, path, {"name": NAME, "schema": of_schema}, FORMAT)


def _response_format(value: object, path: str) -> Complaints:
    kinds: dict[str, Check] = {
        "text": anything,
        "json_object": anything,
        "json_schema": a_part("json_schema", "json_schema", _format),
    }
    yield from by_field("type", kinds)(value, path)


def of_completion(body: dict[str, Any]) -> Complaints:
    """Check the body of a request to chat completions."""
    required = {"model": filled, "messages": a_list(_MESSAGE)}
    optional: dict[str, Check] = {
        **SETTINGS,
        "tools": a_list(_chat_tool),
        "response_format": _response_format,
        "max_tokens": null_or(number(1, 10_000_000)),
        "max_completion_tokens": null_or(number(1, 10_000_000)),
        "reasoning_effort": text,
        "seed": anything,
        "stop": anything,
        "n": one_of(1),
    }
    complaints = gathered(fields(body, "$", required, optional))
    if complaints:
        yield from complaints
        return
    yield from about_tools(body, (tool["function"]["name"] for tool in body.get("tools", ())))
    yield from _about_pairs(body["messages"])


def _about_pairs(messages: list[dict[str, Any]]) -> Complaints:
    """Each assistant message with calls is followed at once by one result for each of them."""
    every = [call["id"] for message in messages for call in message.get("tool_calls") or ()]
    yield from unique(every, "$.messages", "tool call id")
    open_calls: list[str] = []
    for index, message in enumerate(messages):
        path = f"$.messages[{index}]"
        if message["role"] == "tool":
            call_id = message["tool_call_id"]
            if call_id not in open_calls:
                yield f"{path}: {call_id!r} answers no call of the assistant message before it"
            open_calls = [one for one in open_calls if one != call_id]
            continue
        yield from (f"{path}: comes before the result of {one!r}" for one in open_calls)
        open_calls = [call["id"] for call in message.get("tool_calls") or ()]
    yield from (f"$.messages: no result of {one!r}" for one in open_calls)
