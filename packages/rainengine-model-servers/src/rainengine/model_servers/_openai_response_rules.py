"""The rules of the responses API.

https://platform.openai.com/docs/api-reference/responses/create
"""

from __future__ import annotations

from collections.abc import Mapping
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

_CALL_ID = matching(r"[\x21-\x7e]{1,64}")

_RESPONSE_FILE: Mapping[str, Check] = {
    "file_data": filled,
    "file_id": filled,
    "file_url": a_url,
    "filename": filled,
}


def _input_image(value: object, path: str) -> Complaints:
    optional: dict[str, Check] = {
        "image_url": a_url,
        "file_id": filled,
        "detail": one_of("auto", "low", "high", "original"),
    }
    yield from fields(value, path, {"type": one_of("input_image")}, optional)
    given = as_object(value)
    if given is not None and ("image_url" in given) == ("file_id" in given):
        yield f"{path}: either image_url or file_id is wanted"


def _input_file(value: object, path: str) -> Complaints:
    yield from fields(value, path, {"type": one_of("input_file")}, _RESPONSE_FILE)
    sources = {"file_data", "file_id", "file_url"}
    given = as_object(value)
    if given is not None and len(sources & given.keys()) != 1:
        yield f"{path}: one of {', '.join(sorted(sources))} is wanted"


_INPUTS = text_or(
    a_list(
        by_field(
            "type",
            {
                "input_text": a_part("input_text", "text", text),
                "input_image": _input_image,
                "input_file": _input_file,
            },
        )
    )
)


def _output_text(value: object, path: str) -> Complaints:
    required = {"type": one_of("output_text"), "text": text}
    yield from fields(value, path, required, {"annotations": anything, "logprobs": anything})


_OUTPUTS = text_or(
    a_list(
        by_field(
            "type", {"output_text": _output_text, "refusal": a_part("refusal", "refusal", text)}
        )
    )
)
_STATUS: Mapping[str, Check] = {
    "id": null_or(filled),
    "status": null_or(one_of("in_progress", "completed", "incomplete")),
}


def _input_message(value: Any, path: str) -> Complaints:  # noqa: ANN401  # JSON
    said = value.get("role") == "assistant"
    roles = one_of("user", "assistant", "system", "developer")
    required = {"role": roles, "content": _OUTPUTS if said else _INPUTS}
    more = {**_STATUS, "phase": null_or(one_of("commentary", "final_answer"))} if said else {}
    yield from fields(value, path, required, {"type": one_of("message"), **more})


def _function_call(value: object, path: str) -> Complaints:
    required = {"type": text, "call_id": _CALL_ID, "name": NAME, "arguments": json_object_text}
    yield from fields(value, path, required, _STATUS)


def _call_output(value: object, path: str) -> Complaints:
    required = {"type": text, "call_id": _CALL_ID, "output": _INPUTS}
    yield from fields(value, path, required, _STATUS)


def _reasoning(value: object, path: str) -> Complaints:
    required = {"type": text, "id": filled, "summary": anything}
    optional = {"encrypted_content": null_or(filled), "content": anything, **_STATUS}
    yield from fields(value, path, required, optional)


_ITEM = by_field(
    "type",
    {
        "message": _input_message,
        "function_call": _function_call,
        "function_call_output": _call_output,
        "reasoning": _reasoning,
    },
)


def _item(value: object, path: str) -> Complaints:
    given = as_object(value) or {}
    bare = "type" not in given and "role" in given
    yield from (_input_message if bare else _ITEM)(value, path)


def _response_tool(value: object, path: str) -> Complaints:
    yield from fields(value, path, {"type": one_of("function"), "name": NAME}, FUNCTION)


def _text_config(value: object, path: str) -> Complaints:
    def of_format(inner: object, inner_path: str) -> Complaints:
        required = {"type": text, "name": NAME, "schema": of_schema}
        yield from fields(inner, inner_path, required, FORMAT)

    kinds: dict[str, Check] = {
        "text": anything,
        "json_object": anything,
        "json_schema": of_format,
    }
    yield from fields(value, path, {}, {"format": by_field("type", kinds), "verbosity": text})


def of_response(body: dict[str, Any]) -> Complaints:
    """Check the body of a request to the responses API."""
    required = {"model": filled, "input": text_or(a_list(_item))}
    optional: dict[str, Check] = {
        **SETTINGS,
        "tools": a_list(_response_tool),
        "text": _text_config,
        "instructions": null_or(text),
        "max_output_tokens": null_or(number(16, 10_000_000)),
        "include": a_list(text),
        "reasoning": anything,
        "truncation": one_of("auto", "disabled"),
    }
    complaints = gathered(fields(body, "$", required, optional))
    if complaints:
        yield from complaints
        return
    yield from about_tools(body, (tool["name"] for tool in body.get("tools", ())))
    if not isinstance(body["input"], str):
        yield from _about_items(body["input"])


def _about_items(items: list[dict[str, Any]]) -> Complaints:
    """Each call has one output after it, and reasoning is followed by what it led to."""
    calls: set[str] = set()
    done: set[str] = set()
    for index, item in enumerate(items):
        path, kind = f"$.input[{index}]", item.get("type", "message")
        if kind == "function_call":
            if item["call_id"] in calls:
                yield f"{path}: call_id {item['call_id']!r} stands twice"
            calls.add(item["call_id"])
        elif kind == "function_call_output":
            if item["call_id"] not in calls - done:
                yield f"{path}: {item['call_id']!r} is the output of no open call before it"
            done.add(item["call_id"])
        elif kind == "reasoning" and not _led_to_something(items[index + 1 :]):
            yield f"{path}: reasoning without the item that has to follow it"
    yield from (f"$.input: no output of {one!r}" for one in sorted(calls - done))
    ids = [item["id"] for item in items if item.get("id")]
    yield from unique(ids, "$.input", "id")


def _led_to_something(rest: list[dict[str, Any]]) -> bool:
    for item in rest:
        if item.get("type") != "reasoning":
            return item.get("type") == "function_call" or item.get("role") == "assistant"
    return False
