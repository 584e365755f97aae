"""JSON Schema as the `Schema` of the API's first years, which the old SDK knows.

It has types, descriptions, enumerations of texts, lists, properties, and little else
(https://ai.google.dev/api/caching#Schema). References are put where they point, `null` becomes
`nullable`, and of alternatives the first is taken. What cannot be said is appended to the
description, for the model to read; the engine checks arguments against the real schema anyway.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from rainengine.core.records import JsonObject
from rainengine.provider_gemini._values import as_list, as_object

_Schema: TypeAlias = Mapping[str, Any]

_TYPES = {"string", "number", "integer", "boolean", "array", "object"}
_FORMATS = {"float", "double", "int32", "int64", "date-time"}
_SAID = {
    *("type", "description", "format", "enum", "const", "$ref", "$defs"),
    *("items", "minItems", "maxItems", "properties", "required"),
    *("anyOf", "oneOf", "allOf"),
}
_MEANT_FOR_OTHERS = {
    *("$schema", "$id", "$comment", "title", "examples"),
    "additionalProperties",
}


def parameters(schema: _Schema) -> JsonObject | None:
    """Return a function's parameters, or None where it has none."""
    converted = _converted(schema, schema, ())
    return converted if converted.get("properties") else None


def response_schema(schema: _Schema) -> JsonObject:
    """Return what an answer is to fit."""
    return _converted(schema, schema, ())


def _converted(given: object, root: _Schema, within: tuple[str, ...]) -> JsonObject:
    schema = as_object(given)
    if schema is None:  # `true` admits anything
        return {"type": "STRING", "description": "Any value."}
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return _referenced(reference, schema, root, within)
    for keyword in ("anyOf", "oneOf", "allOf"):
        if schema.get(keyword):
            return _first_of(schema, keyword, root, within)
    return _plain(schema, root, within)


def _referenced(
    reference: str, schema: _Schema, root: _Schema, within: tuple[str, ...]
) -> JsonObject:
    if reference in within:
        return {"type": "OBJECT", "description": f"As {reference.rpartition('/')[2]} above."}
    beside = {key: value for key, value in schema.items() if key != "$ref"}
    return _converted({**_resolved(reference, root), **beside}, root, (*within, reference))


def _resolved(reference: str, root: _Schema) -> _Schema:
    target: object = root
    for step in reference.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        target = (as_object(target) or {}).get(name)
    return as_object(target) or {}


def _first_of(schema: _Schema, keyword: str, root: _Schema, within: tuple[str, ...]) -> JsonObject:
    given = as_list(schema[keyword]) or []
    alternatives = [one for one in given if one != {"type": "null"}]
    beside = {key: value for key, value in schema.items() if key != keyword}
    first = as_object(alternatives[0]) if alternatives else None
    converted = _converted({**(first or {}), **beside}, root, within)
    if len(alternatives) < len(given):
        converted["nullable"] = True
    if len(alternatives) > 1:
        _remark(converted, {keyword: alternatives})
    return converted


def _plain(schema: _Schema, root: _Schema, within: tuple[str, ...]) -> JsonObject:
    names = schema.get("type")
    listed = as_list(names) or [names]
    types = [str(name) for name in listed if name in _TYPES]
    kind = types[0] if types else _guessed(schema)
    converted: JsonObject = {"type": kind.upper()}
    if "null" in listed:
        converted["nullable"] = True
    if isinstance(schema.get("description"), str):
        converted["description"] = schema["description"]
    if schema.get("format") in _FORMATS:
        converted["format"] = schema["format"]
    _PARTS.get(kind, _of_scalar)(converted, schema, root, within)
    unsaid = {k: v for k, v in schema.items() if k not in _SAID | _MEANT_FOR_OTHERS}
    if schema.get("format") not in {None, *_FORMATS}:
        unsaid["format"] = schema["format"]
    if len(types) > 1:
        unsaid["type"] = names
    _remark(converted, unsaid)
    return converted


def _guessed(schema: _Schema) -> str:
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema else "string"


def _of_scalar(
    converted: JsonObject, schema: _Schema, root: _Schema, within: tuple[str, ...]
) -> None:
    values = [schema["const"]] if "const" in schema else as_list(schema.get("enum"))
    if not values:
        return
    if converted["type"] == "STRING" and all(isinstance(value, str) for value in values):
        converted["enum"] = values
    else:
        _remark(converted, {"enum": values})


def _of_array(
    converted: JsonObject, schema: _Schema, root: _Schema, within: tuple[str, ...]
) -> None:
    converted["items"] = _converted(schema.get("items", True), root, within)
    for bound in ("minItems", "maxItems"):
        if bound in schema:
            converted[bound] = schema[bound]


def _of_object(
    converted: JsonObject, schema: _Schema, root: _Schema, within: tuple[str, ...]
) -> None:
    properties = as_object(schema.get("properties")) or {}
    converted["properties"] = {
        name: _converted(inner, root, within) for name, inner in properties.items()
    }
    required = [name for name in as_list(schema.get("required")) or () if name in properties]
    if required:
        converted["required"] = required


_PARTS = {"object": _of_object, "array": _of_array}


def _remark(converted: JsonObject, unsaid: Mapping[str, Any]) -> None:
    if not unsaid:
        return
    remark = f"JSON Schema: {json.dumps(dict(unsaid), ensure_ascii=False, sort_keys=True)}"
    described = converted.get("description")
    converted["description"] = f"{described} {remark}" if described else remark
