"""Tool arguments against JSON Schema, draft 2020-12."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from rainengine.core.tools import _arguments
from rainengine.core.tools._arguments import argument_errors, check_schema

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "units": {"enum": ["c", "f"]}},
    "required": ["city"],
    "additionalProperties": False,
}

# What the standard says: a schema, values that it takes, values that it does not.
CASES: list[tuple[Any, list[Any], list[Any]]] = [
    ({"type": "integer"}, [1, 1.0, -3], [1.5, True, "1", None]),
    ({"type": ["string", "null"]}, ["", None], [0, False, []]),
    ({"type": "number"}, [1, 1.5], [True, "1"]),
    ({"enum": [1, "a", [True], None]}, [1.0, "a", [True], None], [True, [1], 0]),
    ({"const": {"a": [0]}}, [{"a": [0.0]}], [{"a": [False]}, {"a": [0], "b": 1}]),
    ({"multipleOf": 0.01}, [4.35, 1, "x"], [0.0075]),
    ({"multipleOf": 3}, [9, 9.0, -3], [10, 1e308 + 0.5]),
    ({"minimum": 1, "exclusiveMaximum": 3}, [1, 2.9, "z"], [0.9, 3]),
    ({"exclusiveMinimum": 1, "maximum": 3}, [1.1, 3], [1, 3.1]),
    ({"minLength": 1, "maxLength": 2}, ["a", "💩💩", 7], ["", "abc"]),
    ({"pattern": "^a$"}, ["a", 1], ["a\n", "ba"]),
    ({"pattern": r"^\d+$"}, ["12"], ["१२", ""]),
    ({"pattern": r"\p{Lu}"}, ["aÄ"], ["aä"]),
    (
        {"prefixItems": [{"type": "string"}], "items": {"type": "null"}},
        [["a", None], []],
        [["a", 1]],
    ),
    ({"prefixItems": [{}], "unevaluatedItems": False}, [[1]], [[1, 2]]),
    ({"contains": {"const": 1}, "maxContains": 1}, [[1, 2]], [[], [1, 1]]),
    ({"contains": {"const": 1}, "minContains": 0}, [[]], []),
    ({"minItems": 1, "maxItems": 2}, [[1]], [[], [1, 2, 3]]),
    ({"uniqueItems": True}, [[1, True], [[1], [True]]], [[1, 1.0], [{"a": 1}, {"a": 1}]]),
    ({"properties": {"a": False}}, [{}, {"b": 1}], [{"a": 1}]),
    ({"required": ["a"]}, [{"a": None}, []], [{}]),
    ({"minProperties": 1, "maxProperties": 1}, [{"a": 1}], [{}, {"a": 1, "b": 2}]),
    (
        {"patternProperties": {"^x-": {"type": "string"}}, "additionalProperties": False},
        [{"x-a": ""}],
        [{"x-a": 1}, {"y": ""}],
    ),
    ({"propertyNames": {"maxLength": 1}}, [{"a": 1}], [{"ab": 1}]),
    ({"dependentRequired": {"a": ["b"]}}, [{"a": 1, "b": 2}, {"c": 1}], [{"a": 1}]),
    ({"dependentSchemas": {"a": {"required": ["b"]}}}, [{"a": 1, "b": 2}], [{"a": 1}]),
    ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, [1], [0, 3]),
    ({"anyOf": [{"type": "string"}, {"minimum": 2}]}, ["a", 2], [1]),
    ({"oneOf": [{"multipleOf": 2}, {"multipleOf": 3}]}, [2, 3], [6, 1]),
    ({"not": {"type": "string"}}, [1], ["a"]),
    ({"if": {"minimum": 5}, "then": {"maximum": 7}, "else": {"const": 1}}, [6, 1], [8, 2]),
    (
        {"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": False},
        [{"a": 1}],
        [{"b": 1}],
    ),
    (
        {
            "anyOf": [{"required": ["a"], "properties": {"a": {}}}, {}],
            "unevaluatedProperties": False,
        },
        [{"a": 1}],
        [{"a": 1, "b": 1}, {"b": 1}],
    ),
    ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "null"}}}, [None], [1]),
    ({"$ref": "#n", "$defs": {"x": {"$anchor": "n", "type": "null"}}}, [None], [1]),
    ({"$ref": "u:n", "$defs": {"x": {"$id": "u:n", "type": "null"}}}, [None], [1]),
    ({"items": {"$ref": "#"}, "type": "array"}, [[[], [[]]]], [[1]]),
    (
        {
            "$id": "https://example.org/strict",
            "$dynamicAnchor": "node",
            "$ref": "tree",
            "unevaluatedProperties": False,
            "$defs": {
                "tree": {
                    "$id": "tree",
                    "$dynamicAnchor": "node",
                    "properties": {"children": {"items": {"$dynamicRef": "#node"}}},
                }
            },
        },
        [{"children": [{"children": []}]}],
        [{"children": [{"daat": 1}]}],
    ),
    ({"format": "email"}, ["not an address"], []),
    ({"contentEncoding": "base64"}, ["%%%"], []),
    ({"unknown": 1, "x": {"$id": 5}}, [1], []),
    (True, [1], []),
    (False, [], [1]),
]


@pytest.mark.parametrize(("schema", "valid", "invalid"), CASES, ids=lambda case: f"{case!s:.60}")
def test_keywords(schema: Any, valid: list[Any], invalid: list[Any]) -> None:
    """A keyword takes what draft 2020-12 says it takes, and refuses the rest."""
    check_schema(schema)
    assert [()] * len(valid) == [argument_errors(schema, value) for value in valid]
    assert all(argument_errors(schema, value) for value in invalid)


names = st.sampled_from(["a", "b", "c"])
scalars = st.sampled_from([None, True, False, 0, 1, 1.0, 2, -1, 2.5, "", "a", "ab", "ba"])
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(names, v, max_size=3), max_leaves=6
)


def _schemas(part: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    few, small = st.lists(part, min_size=1, max_size=2), st.integers(0, 2)
    named = st.dictionaries(names, part, max_size=2)
    types = ["string", "integer", "number", "boolean", "object", "array", "null"]
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(types),
            "enum": st.lists(values, min_size=1, max_size=3),
            "minimum": small,
            "multipleOf": st.sampled_from([1, 2, 0.5]),
            "minLength": small,
            "pattern": st.sampled_from(["^a", "b", "a|b"]),
            "properties": named,
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b"]), part, max_size=2),
            "additionalProperties": part,
            "required": st.lists(names, unique=True, max_size=2),
            "propertyNames": part,
            "dependentSchemas": named,
            "prefixItems": few,
            "items": part,
            "contains": part,
            "minContains": small,
            "uniqueItems": st.booleans(),
            "allOf": few,
            "anyOf": few,
            "oneOf": few,
            "not": part,
            "if": part,
            "then": part,
            "else": part,
            "$ref": st.just("#/$defs/d"),
            "unevaluatedProperties": st.booleans(),
        },
    )


schemas = st.recursive(st.booleans(), _schemas, max_leaves=4)


@settings(max_examples=300, deadline=None)
@given(schemas, st.dictionaries(names, values, max_size=1), st.lists(values, max_size=4))
def test_the_verdict_is_that_of_jsonschema(
    schema: Any, definition: dict[str, Any], args: list[Any]
) -> None:
    """For any schema and value the verdict is the one of the reference implementation."""
    document = {"allOf": [schema], "$defs": {"d": {"enum": [*definition.values(), 1, {}]}}}
    check_schema(document)
    for value in args:
        expected = Draft202012Validator(document).is_valid(value)
        assert expected == (not argument_errors(document, value))


@pytest.mark.parametrize("pattern", [r"(?=a)", r"(?<!a)b", r"(a)\1", "(", "a)", "[b-a]", "["])
def test_a_pattern_that_is_refused(pattern: str) -> None:
    """A pattern with no bounded time, or that is none, is refused with its reason."""
    with pytest.raises(ValueError, match="regex"):
        check_schema({"properties": {"a": {"pattern": pattern}}})


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"$ref": "https://example.org/other.json"}, "outside the document"),
        ({"$ref": "file:///etc/passwd"}, "outside the document"),
        ({"$dynamicRef": "https://example.org/x#a"}, "not present"),
        ({"$ref": "#/$defs/absent"}, "does not exist"),
        ({"$ref": "#absent"}, "absent"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "only https"),
        ({"not": {"$schema": "http://json-schema.org/draft-04/schema#"}}, "only https"),
        ({"type": "text"}, "cannot be used"),
        ({"minLength": -1}, "cannot be used"),
        ({"required": "a"}, "cannot be used"),
        ({"properties": [1]}, "cannot be used"),
        ({"const": float("nan")}, "not JSON"),
        ({"const": object()}, "not JSON"),
        ({"maximum": 10**400}, "not JSON"),
        ({"enum": ["x" * 300_000]}, "bytes of JSON"),
    ],
)
def test_a_schema_that_is_refused(schema: Any, reason: str) -> None:
    """A schema that cannot be checked is refused at registration, with its reason."""
    with pytest.raises(ValueError, match=reason) as raised:
        check_schema(schema)
    assert len(str(raised.value)) <= 300


def test_a_deep_schema_is_refused() -> None:
    """A schema nested too deeply is refused and does not overflow the stack."""
    schema: dict[str, Any] = {}
    for _ in range(5_000):
        schema = {"not": schema}
    with pytest.raises(ValueError, match=r"nested|nests"):
        check_schema(schema)


def _doubling() -> dict[str, Any]:
    twice = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(50)}
    return {"$ref": "#/$defs/d0", "$defs": {**twice, "d50": {}}}


def _nested_unevaluated() -> dict[str, Any]:
    schema: dict[str, Any] = {"properties": {"a": {}}}
    for _ in range(40):
        schema = {"allOf": [schema], "unevaluatedProperties": False}
    return schema


TEXT = "a" * 50_000 + "!"
DEEP: list[Any] = []
for _ in range(50_000):
    DEEP = [DEEP]


HOSTILE: list[tuple[Any, Any]] = [
    ({"pattern": "^(a+)+$"}, TEXT),
    ({"pattern": "(a|a)*b"}, TEXT),
    ({"pattern": "(a*)*(a*)*b"}, TEXT),
    ({"pattern": "(.*)(.*)(.*)(.*)x"}, TEXT),
    ({"pattern": "(a|b)*a(a|b){300}c"}, "ab" * 20_000),
    ({"patternProperties": {"^(a+)+$": False}, "unevaluatedProperties": False}, {TEXT: 1}),
    ({"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}, {TEXT: 1}),
    (
        {
            "not": {"pattern": "a+$"},
            "pattern": "^(a+)+$",
            "$schema": "https://json-schema.org/draft/2020-12/schema",
        },
        TEXT,
    ),
    ({"items": {"$ref": "#"}}, DEEP),
    ({"uniqueItems": True}, [DEEP, DEEP]),
    ({"const": 1}, DEEP),
    ({"allOf": [{"uniqueItems": True} for _ in range(100)]}, [[0], *([i] for i in range(2_000))]),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_schemas_and_arguments_end_in_an_error(number: int) -> None:
    """What would take exponential time or a deep stack is an error within two seconds."""
    schema, args = HOSTILE[number]
    check_schema(schema)
    begin = time.monotonic()
    errors = argument_errors(schema, args)
    assert time.monotonic() - begin < 2
    assert 1 <= len(errors) <= 8
    assert all(len(error) <= 200 for error in errors)


def _doubling_by_name(keyword: str, prefix: str) -> dict[str, Any]:
    """Fifty definitions, each of which refers to the next one twice by its name."""
    reference = "$dynamicRef" if keyword == "$dynamicAnchor" else "$ref"
    definitions = {
        f"d{i}": {keyword: f"n{i}", "allOf": [{reference: f"{prefix}n{i + 1}"}] * 2}
        for i in range(50)
    }
    return {reference: f"{prefix}n0", "$defs": {**definitions, "d50": {keyword: "n50"}}}


@pytest.mark.parametrize(
    "schema",
    [
        _doubling(),
        _doubling_by_name("$anchor", "#"),
        _doubling_by_name("$dynamicAnchor", "#"),
        _doubling_by_name("$id", ""),
    ],
)
def test_references_that_multiply_are_refused(schema: dict[str, Any]) -> None:
    """Fifty definitions that each name the next one twice are refused, not followed 2^50 times."""
    with pytest.raises(ValueError, match="multiply"):
        check_schema(schema)


@pytest.mark.parametrize("keyword", ["anyOf", "oneOf", "allOf"])
def test_ways_back_that_multiply_bound_the_nesting(keyword: str) -> None:
    """Where a schema comes back to itself twice a level, deep arguments are refused, quickly."""
    again = {"type": "array", "items": {"$ref": "#/$defs/n"}}
    schema: Any = {
        "properties": {"x": {"$ref": "#/$defs/n"}},
        "$defs": {"n": {keyword: [again, dict(again)]}},
    }
    check_schema(schema)
    for levels in (8, 16, 100):
        nested: Any = 1
        for _ in range(levels):
            nested = [nested]
        begin = time.monotonic()
        assert argument_errors(schema, {"x": nested})
        assert time.monotonic() - begin < 1


def test_one_way_back_leaves_the_nesting_free() -> None:
    """A list of lists of lists may be nested as deep as JSON may."""
    schema: Any = {"properties": {"x": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "array"}}}
    schema["$defs"]["n"]["items"] = {"$ref": "#/$defs/n"}
    check_schema(schema)
    nested: Any = []
    for _ in range(150):
        nested = [nested]
    assert () == argument_errors(schema, {"x": nested})


def test_a_reference_to_itself_ends() -> None:
    """A schema that refers to itself at the same place is answered, and quickly."""
    for schema in ({"$ref": "#"}, {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}):
        check_schema(schema)
        begin = time.monotonic()
        argument_errors(schema, 1)
        assert time.monotonic() - begin < 1


def test_unevaluated_properties_that_multiply_are_refused() -> None:
    """Forty nested `unevaluatedProperties`, each of which checks the rest again, are refused."""
    with pytest.raises(ValueError, match="multiply"):
        check_schema(_nested_unevaluated())


def test_errors_name_the_place_and_the_rule() -> None:
    """An error names the JSON path and the keyword."""
    told = argument_errors(WEATHER, {"city": 1, "units": "k", "x": 1})
    expected = {"$.city: type", "$.units: enum", "$: additionalProperties"}
    assert expected == {": ".join(error.split(": ")[:2]) for error in told}
    nested: Any = {"properties": {"a": {"items": {"required": ["b"]}}}}
    (error,) = argument_errors(nested, {"a": [1, {}]})
    assert error.startswith("$.a[1]: required")


@given(st.dictionaries(st.text("abc"), st.integers(0, 9), min_size=9), st.text("é", min_size=150))
def test_errors_are_few_and_short(args: dict[str, Any], long: str) -> None:
    """There are at most 8 errors of at most 200 characters, whatever the names are."""
    errors = argument_errors({"additionalProperties": {"type": "null"}}, {**args, long: 1})
    assert len(errors) == 8
    assert all(len(error) <= 200 for error in errors)


def test_an_unchecked_schema_is_an_error_and_no_exception() -> None:
    """A schema that was never registered and is broken gives an error text."""
    broken: list[Any] = [{"properties": 5}, {"$ref": 5}, {"type": "nonsense"}, {"pattern": "("}]
    for schema in broken:
        assert argument_errors(schema, {"a": "b"})[0].startswith("$: cannot be checked")


def test_the_cache_is_bounded() -> None:
    """Compiled schemas are kept up to a bound, and equal schemas share one."""
    first = _arguments._checker_of({"maxLength": 1})
    assert first is _arguments._checker_of({"maxLength": 1})
    schemas: list[Any] = [{"maxLength": length} for length in range(2_000)]
    for schema in schemas:
        argument_errors(schema, {})
    assert len(_arguments._by_identity) <= _arguments.MAX_CACHED
