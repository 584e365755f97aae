"""What the validator of Gemini's rules finds, and that it finds nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from rainengine.model_servers import gemini_complaints

DECLARATION = {
    "name": "look_up",
    "description": "Looks something up.",
    "parametersJsonSchema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALLS = {
    "role": "model",
    "parts": [
        {"functionCall": {"id": "a", "name": "look_up", "args": {"city": "Oslo"}}},
        {"functionCall": {"id": "b", "name": "look_up", "args": {}}, "thoughtSignature": "c2ln"},
    ],
}
RESPONSES = {
    "role": "user",
    "parts": [
        {"functionResponse": {"id": "a", "name": "look_up", "response": {"output": 1}}},
        {"functionResponse": {"id": "b", "name": "look_up", "response": {"error": "no"}}},
    ],
}
SOUND = {
    "systemInstruction": {"parts": [{"text": "Be kind."}]},
    "contents": [
        {
            "role": "user",
            "parts": [
                {"text": "Hello"},
                {"inlineData": {"mimeType": "image/png", "data": "_-8="}},
                {"fileData": {"mimeType": "image/png", "fileUri": "https://files/1"}},
            ],
        },
        CALLS,
        RESPONSES,
    ],
    "tools": [{"functionDeclarations": [DECLARATION]}],
    "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
    "generationConfig": {"temperature": 0.5, "maxOutputTokens": 9},
    "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
}


def test_nothing_is_wrong_with_a_sound_request() -> None:
    """A request that uses every part keeps all the rules."""
    assert [] == gemini_complaints(SOUND)


def test_fields_may_be_named_in_either_way() -> None:
    """Protocol buffers' names with underscores are as good as the documentation's."""
    part = {"inline_data": {"mime_type": "a/b", "data": "eA"}}
    body = {
        "contents": [{"role": "user", "parts": [part]}],
        "generation_config": {"max_output_tokens": 3},
    }
    assert [] == gemini_complaints(body)


def _drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(body: Any) -> None:
        for step in path[:-1]:
            body = body[step]
        del body[path[-1]]

    return change


def _set(value: Any, *path: Any) -> Callable[[dict[str, Any]], None]:
    def change(body: Any) -> None:
        for step in path[:-1]:
            body = body[step]
        body[path[-1]] = value

    return change


RESULT = ("contents", 2, "parts", 0, "functionResponse")
CALL = ("contents", 1, "parts", 0, "functionCall")

WRONG: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "no contents": (_drop("contents"), "$.contents: is missing"),
    "unknown field": (_set(1, "shoes"), "$.shoes: no such field"),
    "role": (_set("tool", "contents", 2, "role"), "none of 'user', 'model'"),
    "empty turn": (_set([], "contents", 0, "parts"), "a list that is not empty"),
    "empty text": (_set("", "contents", 0, "parts", 0, "text"), "text: is empty"),
    "two kinds in one part": (_set("x", "contents", 1, "parts", 0, "text"), "exactly one of"),
    "no base64": (_set("ä", "contents", 0, "parts", 1, "inlineData", "data"), "base64"),
    "no media type": (_set("png", "contents", 0, "parts", 1, "inlineData", "mimeType"), "mimeType"),
    "model first": (_drop("contents", 0), "the first turn has to be the user's"),
    "model last": (_drop("contents", 2), "the last turn has to be the user's"),
    "same role twice": (_drop("contents", 1), "turns have to alternate"),
    "responses without calls": (_drop("contents", 1), "2 function responses follow 0"),
    "calls without responses": (_drop("contents", 2), "2 function calls have no responses"),
    "a response too few": (_drop("contents", 2, "parts", 0), "1 function responses follow 2"),
    "another name": (_set("other", *RESULT, "name"), "the name 'other'"),
    "another id": (_set("c", *RESULT, "id"), "the id 'c'"),
    "an id too few": (_drop(*RESULT, "id"), "the id None"),
    "one id twice": (_set("b", *CALL, "id"), "two function calls have one id"),
    "no response": (_drop(*RESULT, "response"), "response: is missing"),
    "response is no object": (_set([1], *RESULT, "response"), "an object is wanted"),
    "bad function name": (_set("look up", *CALL, "name"), "does not match"),
    "arguments are no object": (_set("x", *CALL, "args"), "an object is wanted"),
    "a function twice": (
        _set([DECLARATION, DECLARATION], "tools", 0, "functionDeclarations"),
        "function 'look_up' stands twice",
    ),
    "config without functions": (_drop("tools"), "is set without function declarations"),
    "two schemas": (
        _set({"type": "OBJECT"}, "tools", 0, "functionDeclarations", 0, "parameters"),
        "either parameters or parametersJsonSchema",
    ),
    "json beside functions": (
        _set("application/json", "generationConfig", "responseMimeType"),
        "function calling with application/json",
    ),
    "schema without json": (
        _set({}, "generationConfig", "responseJsonSchema"),
        "only allowed with responseMimeType",
    ),
    "set beside a cache": (_set("cachedContents/1", "cachedContent"), "in the cached content"),
}


@pytest.mark.parametrize("name", WRONG)
def test_broken_rule_is_complained_of(name: str) -> None:
    """Every rule is missed where it is broken."""
    change, expected = WRONG[name]
    body = copy.deepcopy(SOUND)
    change(body)
    assert expected in "; ".join(gemini_complaints(body))


@pytest.mark.parametrize("body", [None, [], "x", {"contents": [1]}, {"contents": {"a": 1}}])
def test_nonsense_is_complained_of(body: object) -> None:
    """What is no request at all brings complaints, and no exception."""
    assert gemini_complaints(body)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "OBJECT", "properties": {}}, "should be non-empty"),
        ({"type": "ARRAY"}, "items: is missing"),
        ({"type": "OBJECT", "properties": {"a": {"type": "INTEGER", "enum": ["1"]}}}, "STRING"),
        ({"type": "OBJECT", "properties": {"a": {"$ref": "#"}}}, "no such field"),
        ({"type": ["string", "null"]}, "none of"),
        ({"type": "OBJECT", "properties": {"a": {"type": "STRING"}}, "required": ["b"]}, "'b'"),
    ],
)
def test_openapi_schema_is_narrow(schema: dict[str, Any], expected: str) -> None:
    """`parameters` takes a small part of OpenAPI's schemas, and no JSON Schema."""
    declaration = {"name": "f", "description": "d", "parameters": schema}
    body = {
        "contents": [{"role": "user", "parts": [{"text": "x"}]}],
        "tools": [{"functionDeclarations": [declaration]}],
    }
    assert expected in "; ".join(gemini_complaints(body))


def test_newer_models_want_signatures() -> None:
    """From Gemini 3 on, the first call of a turn is signed, since the user last spoke."""
    assert [] == gemini_complaints(SOUND, model="models/gemini-2.5-pro")
    assert "$.contents[1]: function call is missing a thought_signature" in gemini_complaints(
        SOUND, model="models/gemini-3-pro"
    )
    later: Any = copy.deepcopy(SOUND)
    later["contents"] += [
        {"role": "model", "parts": [{"text": "Done."}]},
        {"role": "user", "parts": [{"text": "Thanks."}]},
    ]
    assert [] == gemini_complaints(later, model="gemini-3-pro")


def test_what_is_cached_counts() -> None:
    """With a cache, the turns that follow on it are judged as one conversation with it."""
    cached = {"contents": SOUND["contents"][:1]}  # type: ignore[index]
    body = {"contents": SOUND["contents"][1:], "cachedContent": "cachedContents/1"}  # type: ignore[index]
    assert [] == gemini_complaints(body, cached=cached)
    assert gemini_complaints(body) != []
