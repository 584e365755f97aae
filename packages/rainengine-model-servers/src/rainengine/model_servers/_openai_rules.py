"""What OpenAI's two APIs demand alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rainengine.model_servers._complaining import (
    Check,
    Complaints,
    anything,
    as_object,
    boolean,
    fields,
    matching,
    null_or,
    number,
    one_of,
    text,
    unique,
)

NAME = matching(r"[a-zA-Z0-9_-]{1,64}")
_MAX_TOOLS = 128
_MAX_DESCRIPTION = 1024


def of_schema(schema: object, path: str) -> Complaints:
    """Of a tool's parameters, or of a structured output."""
    given = as_object(schema) or {}
    if given.get("type") != "object":
        yield f'{path}: a JSON schema of type "object" is wanted'
        return
    for keyword in ("oneOf", "anyOf", "allOf", "enum", "not"):
        if keyword in given:
            yield f"{path}: may not have {keyword} at its top"


def _of_parameters(schema: object, path: str) -> Complaints:
    yield from of_schema(schema, path)
    if "properties" not in (as_object(schema) or {}):
        yield f"{path}: an object schema is missing its properties"


def _description(value: object, path: str) -> Complaints:
    yield from text(value, path)
    if isinstance(value, str) and len(value) > _MAX_DESCRIPTION:
        yield f"{path}: {len(value)} characters are more than {_MAX_DESCRIPTION}"


FUNCTION: Mapping[str, Check] = {
    "description": _description,
    "parameters": _of_parameters,
    "strict": null_or(boolean),
}
FORMAT: Mapping[str, Check] = {
    "description": text,
    "strict": null_or(boolean),
}


def about_tools(body: Mapping[str, Any], names: Iterable[object]) -> Complaints:
    """Check what depends on whether tools are offered."""
    listed = list(names)
    if len(listed) > _MAX_TOOLS:
        yield f"$.tools: {len(listed)} are more than {_MAX_TOOLS}"
    yield from unique(listed, "$.tools", "name")
    if "tools" not in body:
        for name in ("tool_choice", "parallel_tool_calls"):
            if name in body:
                yield f"$.{name}: only allowed with tools"
    if "stream_options" in body and not body.get("stream"):
        yield "$.stream_options: only allowed with stream"


SETTINGS: Mapping[str, Check] = {
    "temperature": null_or(number(0, 2)),
    "top_p": null_or(number(0, 1)),
    "parallel_tool_calls": null_or(boolean),
    "stream": null_or(boolean),
    "store": null_or(boolean),
    "metadata": anything,
    "user": text,
    "service_tier": anything,
    "prompt_cache_key": text,
    "safety_identifier": text,
    "tool_choice": anything,
    "stream_options": anything,
}


def a_part(kind: str, inner: str, check: Check) -> Check:
    """Want an object of this `type` with one more field."""
    required = {"type": one_of(kind), inner: check}
    return lambda value, path: fields(value, path, required, {})


def a_url(value: object, path: str) -> Complaints:
    """Want a URL that a vendor takes."""
    if not isinstance(value, str) or not value.startswith(("https://", "http://", "data:")):
        yield f"{path}: a URL is wanted"
