"""Bodies as google-generativeai knows them, the SDK that has ended: pure, JSON to JSON.

Its messages have no fields for thoughts and their signatures, for JSON Schema, or for how long to
think, and numbers in them are floating-point ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rainengine.core.records import JsonObject
from rainengine.provider_gemini import _schemas as schemas
from rainengine.provider_gemini._values import as_list, as_object

_EXACT = 2**53
"""Up to here a float holds every whole number."""


def old_body(body: Mapping[str, Any]) -> JsonObject:
    """Return a request, or what a cache is created with, without what the old SDK cannot say."""
    old: dict[str, Any] = dict(body)
    if "contents" in old:
        old["contents"] = [turn for turn in map(_turn, old["contents"]) if turn["parts"]]
    if "tools" in old:
        old["tools"] = [
            {"functionDeclarations": [_declaration(one) for one in tool["functionDeclarations"]]}
            for tool in old["tools"]
        ]
    if "responseJsonSchema" in old.get("generationConfig", {}):
        generation = dict(old["generationConfig"])
        schema = generation.pop("responseJsonSchema")
        old["generationConfig"] = {**generation, "responseSchema": schemas.response_schema(schema)}
    return old


def _turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    parts = [
        {name: value for name, value in part.items() if name != "thoughtSignature"}
        for part in turn["parts"]
        if not part.get("thought")
    ]
    return {**turn, "parts": [part for part in parts if part and part.get("text") != ""]}


def _declaration(declaration: Mapping[str, Any]) -> dict[str, Any]:
    old = {name: value for name, value in declaration.items() if name != "parametersJsonSchema"}
    parameters = schemas.parameters(declaration["parametersJsonSchema"])
    return old if parameters is None else {**old, "parameters": parameters}


def with_integers(value: Any) -> Any:  # noqa: ANN401  # JSON
    """Return an answer in which floats that are whole numbers are integers, as they were."""
    given, listed = as_object(value), as_list(value)
    if given is not None:
        return {name: with_integers(inner) for name, inner in given.items()}
    if listed is not None:
        return [with_integers(inner) for inner in listed]
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    return value
