"""JSON Schemas as the API takes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rainengine.core.records import JsonObject
from rainengine.core.tool_calling import json_text
from rainengine.provider_openai._values import as_object, as_objects

SCHEMA_NAME = "answer"

_PLAIN = frozenset(
    {
        *("type", "description", "title", "enum", "const", "$ref", "required"),
        *("additionalProperties", "properties", "items", "anyOf", "$defs", "definitions"),
        *("pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
        *("multipleOf", "minItems", "maxItems"),
    }
)


def is_strict(schema: JsonObject) -> bool:
    """Whether answers can be held to the schema to the letter.

    https://platform.openai.com/docs/guides/structured-outputs#supported-schemas: only some
    keywords, and each object requires all of its properties and allows no others.
    """
    is_object = schema.get("type") == "object" and "anyOf" not in schema
    return is_object and all(_is_plain(part) for part in _parts(schema))


def _parts(schema: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Return a schema and all schemas in it."""
    yield schema
    inner = as_objects([schema.get("items")]) + as_objects(schema.get("anyOf"))
    for name in ("properties", "$defs", "definitions"):
        inner += as_objects(list(as_object(schema.get(name)).values()))
    for part in inner:
        yield from _parts(part)


def _is_plain(schema: dict[str, Any]) -> bool:
    if not schema.keys() <= _PLAIN:
        return False
    if schema.get("type") != "object" and "properties" not in schema:
        return True
    required: list[str] = schema.get("required") or []
    names = as_object(schema.get("properties")).keys()
    return schema.get("additionalProperties") is False and sorted(names) == sorted(required)


def asked_for(schema: JsonObject) -> str:
    """Return the words that ask for JSON where the API takes no schema."""
    return f"Answer with one JSON document that fits this JSON Schema: {json_text(schema)}"
