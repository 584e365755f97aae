"""JSON Schemas as the API takes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from rainengine.core.records import JsonObject
from rainengine.core.tool_calling import json_text
from rainengine.provider_openai._values import as_object

SCHEMA_NAME = "answer"

_PLAIN = frozenset(
    {
        *("type", "description", "title", "enum", "const", "$ref", "required"),
        *("additionalProperties", "properties", "items", "anyOf", "$defs", "definitions"),
        *("pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
        *("multipleOf", "minItems", "maxItems"),
    }
)

_TYPES = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
)


def is_strict(schema: JsonObject) -> bool:
    """Whether answers can be held to the schema to the letter.

    https://platform.openai.com/docs/guides/structured-outputs#supported-schemas: only some
    keywords, and each object requires all of its properties and allows no others. Whatever is not
    known to be taken is not.
    """
    return schema.get("type") == "object" and "anyOf" not in schema and _is_plain(schema)


def _is_plain(schema: object) -> bool:
    if not isinstance(schema, dict):
        return False
    given = cast(dict[str, Any], schema)
    types = _types(given)
    says_what = bool(types) or any(word in given for word in ("anyOf", "$ref", "enum", "const"))
    known = given.keys() <= _PLAIN and types <= _TYPES
    formatted = given.get("format", "date-time") in _FORMATS
    return (
        says_what
        and known
        and formatted
        and ("object" not in types or _is_closed(given))
        and ("array" not in types or "items" in given)
        and all(_is_plain(part) for part in _parts(given))
    )


def _types(schema: dict[str, Any]) -> set[object]:
    given = schema.get("type", [])
    listed = cast(list[object], given) if isinstance(given, list) else [given]
    return {one if isinstance(one, str) else None for one in listed}


def _is_closed(schema: dict[str, Any]) -> bool:
    required, names = schema.get("required", []), as_object(schema.get("properties")).keys()
    all_required = isinstance(required, list) and names == set(cast(list[object], required))
    return schema.get("additionalProperties") is False and all_required


def _parts(schema: dict[str, Any]) -> Iterable[object]:
    """Return the schemas right in a schema."""
    if "items" in schema:
        yield schema["items"]
    options = schema.get("anyOf")
    yield from cast(list[object], options) if isinstance(options, list) else []
    for name in ("properties", "$defs", "definitions"):
        yield from as_object(schema.get(name)).values()


def asked_for(schema: JsonObject) -> str:
    """Return the words that ask for JSON where the API takes no schema."""
    return f"Answer with one JSON document that fits this JSON Schema: {json_text(schema)}"
