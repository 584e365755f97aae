"""The rules of `generateContent` and of what it is made of, field by field.

https://ai.google.dev/api/generate-content, https://ai.google.dev/api/caching
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, cast

from rainengine.model_servers._complaining import (
    Check,
    Complaints,
    a_list,
    anything,
    as_object,
    boolean,
    fields,
    filled,
    matching,
    number,
    one_of,
    text,
    unique,
)

_NAME = matching(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")
_MIME = matching(r"[\w.+-]+/[\w.+-]+(;.*)?")
_DURATION = matching(r"\d+(\.\d{1,9})?s")
_MODES = ("MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED")
_TYPES = ("STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL")
_FORMATS = ("float", "double", "int32", "int64", "enum", "date-time")


def _bytes(value: object, path: str) -> Complaints:
    if not isinstance(value, str) or not value or not _is_base64(value):
        yield f"{path}: a text in base64 that is not empty is wanted"


def _is_base64(value: str) -> bool:
    """Whether it is, by either of the two alphabets, with or without its padding."""
    one_alphabet = value.replace("+", "-").replace("/", "_").rstrip("=")
    padded = one_alphabet + "=" * (-len(one_alphabet) % 4)
    try:
        base64.b64decode(padded, altchars=b"-_", validate=True)
    except ValueError:
        return False
    return True


def _an_object(value: object, path: str) -> Complaints:
    if as_object(value) is None:
        yield f"{path}: an object is wanted"


def _of(required: Mapping[str, Check], optional: Mapping[str, Check]) -> Check:
    return lambda value, path: fields(value, path, required, optional)


_DATA: Mapping[str, Check] = {
    "text": text,
    "inlineData": _of({"mimeType": _MIME, "data": _bytes}, {"displayName": text}),
    "fileData": _of({"fileUri": filled}, {"mimeType": _MIME, "displayName": text}),
    "functionCall": _of({"name": _NAME}, {"id": filled, "args": _an_object}),
    "functionResponse": _of({"name": _NAME, "response": _an_object}, {"id": filled}),
    "executableCode": anything,
    "codeExecutionResult": anything,
}
_BESIDE_DATA: Mapping[str, Check] = {
    "thought": boolean,
    "thoughtSignature": _bytes,
    "partMetadata": anything,
    "videoMetadata": anything,
    "mediaResolution": anything,
}


def _part(value: object, path: str) -> Complaints:
    yield from fields(value, path, {}, {**_DATA, **_BESIDE_DATA})
    part = as_object(value) or {}
    data = part.keys() & _DATA.keys()
    if len(data) != 1:
        yield f"{path}: exactly one of {', '.join(_DATA)} is wanted"
    elif part.get("text") == "" and "thoughtSignature" not in part:
        yield f"{path}.text: is empty"


_PARTS = a_list(_part)
_CONTENT = _of({"parts": _PARTS, "role": one_of("user", "model")}, {})
_INSTRUCTION = _of({"parts": a_list(_of({"text": filled}, {}))}, {"role": text})


def _schema(value: object, path: str) -> Complaints:
    """Check a `Schema`, which is a small part of OpenAPI's, not JSON Schema."""
    optional: dict[str, Check] = {
        "description": text,
        "title": text,
        "nullable": boolean,
        "format": one_of(*_FORMATS),
        "enum": a_list(filled),
        "items": _schema,
        "minItems": anything,
        "maxItems": anything,
        "properties": _properties,
        "required": a_list(filled),
        "anyOf": a_list(_schema),
        "propertyOrdering": a_list(filled),
        "minimum": anything,
        "maximum": anything,
        "minLength": anything,
        "maxLength": anything,
        "pattern": text,
    }
    yield from fields(value, path, {"type": _type}, optional)
    schema = as_object(value) or {}
    kind = str(schema.get("type")).upper()
    if kind == "ARRAY" and "items" not in schema:
        yield f"{path}.items: is missing"
    yield from _about_required(schema, path)
    if "enum" in schema and kind != "STRING":
        yield f"{path}.enum: only allowed for STRING"


def _type(value: object, path: str) -> Complaints:
    if not isinstance(value, str) or value.upper() not in _TYPES:
        yield f"{path}: {value!r} is none of {', '.join(_TYPES)}"


def _properties(value: object, path: str) -> Complaints:
    given = as_object(value)
    if given is None:
        yield f"{path}: an object is wanted"
        return
    for name, inner in given.items():
        yield from _schema(inner, f"{path}.{name}")


def _about_required(schema: Mapping[str, Any], path: str) -> Complaints:
    properties = as_object(schema.get("properties")) or {}
    required = schema.get("required")
    for name in cast(list[object], required) if isinstance(required, list) else ():
        if name not in properties:
            yield f"{path}.required: {name!r} is no property"


def _json_schema(value: object, path: str) -> Complaints:
    if (as_object(value) or {}).get("type") != "object":
        yield f'{path}: a JSON schema of type "object" is wanted'


def _declaration(value: object, path: str) -> Complaints:
    optional: dict[str, Check] = {
        "parameters": _schema,
        "parametersJsonSchema": _json_schema,
        "behavior": text,
    }
    yield from fields(value, path, {"name": _NAME, "description": filled}, optional)
    given = as_object(value) or {}
    if "parameters" in given and "parametersJsonSchema" in given:
        yield f"{path}: either parameters or parametersJsonSchema is wanted"
    properties = (as_object(given.get("parameters")) or {"properties": True}).get("properties")
    if not properties:
        yield f"{path}.parameters.properties: should be non-empty for OBJECT type"


_TOOL = _of({"functionDeclarations": a_list(_declaration)}, {})
_CALLING = _of({"mode": one_of(*_MODES)}, {"allowedFunctionNames": a_list(_NAME)})
_THINKING: Mapping[str, Check] = {
    "includeThoughts": boolean,
    "thinkingBudget": number(-1, 1_000_000),
    "thinkingLevel": text,
}
_GENERATION: Mapping[str, Check] = {
    "temperature": number(0, 2),
    "topP": number(0, 1),
    "topK": number(1, 1_000_000),
    "candidateCount": one_of(1),
    "maxOutputTokens": number(1, 10_000_000),
    "stopSequences": a_list(filled),
    "responseMimeType": one_of("text/plain", "application/json", "text/x.enum"),
    "responseSchema": _schema,
    "responseJsonSchema": anything,
    "thinkingConfig": _of({}, _THINKING),
    "seed": anything,
    "presencePenalty": number(-2, 2),
    "frequencyPenalty": number(-2, 2),
}
_SAFETY = _of(
    {"category": matching(r"HARM_CATEGORY_\w+"), "threshold": matching(r"BLOCK_\w+|OFF")}, {}
)
SHARED: Mapping[str, Check] = {
    "systemInstruction": _INSTRUCTION,
    "tools": a_list(_TOOL),
    "toolConfig": _of({}, {"functionCallingConfig": _CALLING}),
}
REQUEST: Mapping[str, Check] = {
    **SHARED,
    "model": matching(r"(models|tunedModels)/.+"),
    "generationConfig": _of({}, _GENERATION),
    "safetySettings": a_list(_SAFETY),
    "cachedContent": matching(r"cachedContents/.+"),
}
CONTENTS = a_list(_CONTENT)
CACHE: Mapping[str, Check] = {
    **SHARED,
    "contents": CONTENTS,
    "displayName": matching(r"(?s).{0,128}"),
    "ttl": _DURATION,
    "expireTime": text,
}


def about_tools(body: Mapping[str, Any]) -> Complaints:
    """Check what depends on which functions are declared."""
    declared = [
        declaration["name"] for tool in body.get("tools", ()) for declaration in _declared(tool)
    ]
    yield from unique(declared, "$.tools", "function")
    calling = body.get("toolConfig", {}).get("functionCallingConfig")
    if calling is None:
        return
    if not declared:
        yield "$.toolConfig.functionCallingConfig: is set without function declarations"
    allowed = calling.get("allowedFunctionNames", ())
    if allowed and calling["mode"] not in {"ANY", "VALIDATED"}:
        yield "$.toolConfig.functionCallingConfig.allowedFunctionNames: only with mode ANY"
    for name in allowed:
        if name not in declared:
            yield f"$.toolConfig.functionCallingConfig.allowedFunctionNames: {name!r} is unknown"


def _declared(tool: Mapping[str, Any]) -> list[Any]:
    return list(tool.get("functionDeclarations", ()))


def about_generation(body: Mapping[str, Any], *, thinks: bool) -> Complaints:
    """Check what settings of the answer exclude each other."""
    config, path = body.get("generationConfig", {}), "$.generationConfig"
    shaped = [name for name in ("responseSchema", "responseJsonSchema") if name in config]
    structured = config.get("responseMimeType") == "application/json"
    if len(shaped) > 1:
        yield f"{path}: either responseSchema or responseJsonSchema is wanted"
    if shaped and not structured:
        yield f"{path}.{shaped[0]}: only allowed with responseMimeType application/json"
    if structured and body.get("tools") and not thinks:
        yield f"{path}.responseMimeType: function calling with application/json is unsupported"
    if {"thinkingBudget", "thinkingLevel"} <= config.get("thinkingConfig", {}).keys():
        yield f"{path}.thinkingConfig: either thinkingBudget or thinkingLevel is wanted"
