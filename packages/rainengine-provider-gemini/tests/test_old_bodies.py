"""What the SDK that has ended can say, and what it cannot."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rainengine.model_servers import gemini_complaints
from rainengine.provider_gemini._old_bodies import old_body, with_integers
from rainengine.provider_gemini._schemas import parameters, response_schema


def test_signatures_and_thoughts_are_left_out() -> None:
    """Parts lose what there is no field for, and go where nothing else is in them."""
    body = {
        "contents": [
            {
                "role": "model",
                "parts": [
                    {"text": "Hm", "thought": True, "thoughtSignature": "eA=="},
                    {"text": "", "thoughtSignature": "eA=="},
                    {"text": "I look"},
                    {"functionCall": {"name": "f"}, "thoughtSignature": "eA=="},
                ],
            }
        ]
    }
    given = copy.deepcopy(body)
    expected = {"role": "model", "parts": [{"text": "I look"}, {"functionCall": {"name": "f"}}]}
    assert {"contents": [expected]} == old_body(body)
    assert given == body


def test_schemas_become_old_ones() -> None:
    """Functions have `parameters`, or none where they take nothing; answers a `responseSchema`."""
    taking = {"type": "object", "properties": {"a": {"type": "string"}}}
    old: Any = old_body(
        {
            "tools": [
                {
                    "functionDeclarations": [
                        {"name": "f", "description": "F", "parametersJsonSchema": taking},
                        {"name": "g", "description": "G", "parametersJsonSchema": {}},
                    ]
                }
            ],
            "generationConfig": {"temperature": 1, "responseJsonSchema": {"type": "integer"}},
        }
    )
    properties = {"a": {"type": "STRING"}}
    assert [
        {
            "name": "f",
            "description": "F",
            "parameters": {"type": "OBJECT", "properties": properties},
        },
        {"name": "g", "description": "G"},
    ] == old["tools"][0]["functionDeclarations"]
    expected = {"temperature": 1, "responseSchema": {"type": "INTEGER"}}
    assert expected == old["generationConfig"]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "enum": ["a", "b"]}, {"type": "STRING", "enum": ["a", "b"]}),
        ({"type": "string", "const": "a"}, {"type": "STRING", "enum": ["a"]}),
        ({"type": ["integer", "null"]}, {"type": "INTEGER", "nullable": True}),
        ({"type": "integer", "format": "int64"}, {"type": "INTEGER", "format": "int64"}),
        (
            {"anyOf": [{"type": "number"}, {"type": "null"}], "description": "d"},
            {"type": "NUMBER", "nullable": True, "description": "d"},
        ),
        (
            {"type": "array", "items": {"type": "boolean"}, "minItems": 1},
            {"type": "ARRAY", "items": {"type": "BOOLEAN"}, "minItems": 1},
        ),
        (
            {"type": "array"},
            {"type": "ARRAY", "items": {"type": "STRING", "description": "Any value."}},
        ),
        ({"properties": {}}, {"type": "OBJECT", "properties": {}}),
        (
            {"type": "integer", "minimum": 1, "description": "How many."},
            {"type": "INTEGER", "description": 'How many. JSON Schema: {"minimum": 1}'},
        ),
        (
            {"type": "integer", "enum": [1, 2]},
            {"type": "INTEGER", "description": 'JSON Schema: {"enum": [1, 2]}'},
        ),
        (
            {"type": ["string", "integer"]},
            {"type": "STRING", "description": 'JSON Schema: {"type": ["string", "integer"]}'},
        ),
        (
            {"type": "string", "format": "uri", "title": "T"},
            {"type": "STRING", "description": 'JSON Schema: {"format": "uri"}'},
        ),
        (
            {
                "type": "object",
                "properties": {"a": {"$ref": "#/$defs/X", "description": "d"}},
                "required": ["a", "b"],
                "$defs": {"X": {"type": "string"}},
            },
            {
                "type": "OBJECT",
                "properties": {"a": {"type": "STRING", "description": "d"}},
                "required": ["a"],
            },
        ),
    ],
)
def test_schema(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    """What can be said is said, and the rest told in the description."""
    assert expected == response_schema(schema)


def test_schema_of_a_tree_ends() -> None:
    """A schema that refers to itself is followed once."""
    tree: dict[str, Any] = {
        "$ref": "#/$defs/Node",
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                },
            }
        },
    }
    converted: Any = parameters(tree)
    inner = converted["properties"]["children"]["items"]
    assert {"type": "OBJECT", "description": "As Node above."} == inner


_NAMES = st.sampled_from(["a", "b", "type", "items"])
_LEAVES = st.sampled_from(
    [
        {"type": "string"},
        {"type": ["number", "null"]},
        {"enum": ["x", "y"]},
        {"const": 3},
        {"$ref": "#/nowhere"},
        {"type": "string", "pattern": "x+"},
        {},
        True,
    ]
)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    objects = st.dictionaries(_NAMES, inner, min_size=1, max_size=3)
    return st.one_of(
        objects.map(lambda properties: {"type": "object", "properties": properties}),
        inner.map(lambda items: {"type": "array", "items": items}),
        st.lists(inner, min_size=1, max_size=3).map(lambda any_of: {"anyOf": any_of}),
    )


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(_NAMES, st.recursive(_LEAVES, _nested, max_leaves=6), min_size=1))
def test_every_schema_is_one_of_the_old_ones(properties: dict[str, Any]) -> None:
    """Whatever a skill's schema is, what is made of it keeps the rules for the old ones."""
    schema = {"type": "object", "properties": properties}
    declaration = {"name": "f", "description": "d", "parameters": parameters(schema)}
    body = {
        "contents": [{"role": "user", "parts": [{"text": "x"}]}],
        "tools": [{"functionDeclarations": [declaration]}],
    }
    assert [] == gemini_complaints(body)


def test_whole_numbers_are_integers_again() -> None:
    """Floats that are whole numbers become integers, wherever they are."""
    given = {"a": [1.0, 1.5, {"b": -2.0}], "c": 1e300, "d": "1.0", "e": True}
    shown = with_integers(given)
    assert given == shown
    assert [int, float] == [type(one) for one in shown["a"][:2]]
    assert [int, float, bool] == [type(one) for one in (shown["a"][2]["b"], shown["c"], shown["e"])]
