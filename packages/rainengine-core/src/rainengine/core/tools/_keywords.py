"""The keywords of JSON Schema 2020-12, each compiled to a function.

https://json-schema.org/draft/2020-12/json-schema-validation
A maker takes the keyword's value, the schema it stands in and the compiler.
Values of the wrong type are none of a keyword's business: it holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Protocol, TypeAlias

from rainengine.core.tools._automata import Automaton
from rainengine.core.tools._checks import (
    Check,
    Path,
    Run,
    Seen,
    identity,
    is_array,
    is_object,
    shown,
)


class Compiler(Protocol):
    """What makers need of whoever compiles the schema."""

    def subschema(self, schema: Any) -> Check:
        """Compile a subschema of the same document."""
        ...

    def automaton(self, pattern: str) -> Automaton:
        """Compile a pattern."""
        ...


Maker: TypeAlias = Callable[[Any, dict[str, Any], Compiler], Check]

_MAX_LISTED = 5

_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: type(value) is int or (type(value) is float and value.is_integer()),
    "number": lambda value: type(value) is int or type(value) is float,
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list | tuple),
    "null": lambda value: value is None,
}


def _type(names: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    wanted = [names] if isinstance(names, str) else list(names)
    tests = [_TYPES[name] for name in wanted]
    rule = f"is not of type {' or '.join(wanted)} (type)"
    if len(tests) == 1:
        only = tests[0]
        return lambda value, path, run, seen: only(value) or run.fail(path, rule)
    return lambda value, path, run, seen: any(test(value) for test in tests) or run.fail(path, rule)


def _enum(values: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    allowed = frozenset([identity(value, _unbounded()) for value in values])
    listed = ", ".join([shown(value, 30) for value in values[:_MAX_LISTED]])
    rule = f"is none of {listed}{', …' if len(values) > _MAX_LISTED else ''} (enum)"
    return lambda value, path, run, seen: identity(value, run) in allowed or run.fail(path, rule)


def _const(wanted: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    key = identity(wanted, _unbounded())
    rule = f"is not {shown(wanted, 60)} (const)"
    return lambda value, path, run, seen: identity(value, run) == key or run.fail(path, rule)


def _unbounded() -> Run:
    return Run(2**62, None)


def _multiple_of(divisor: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    exact = Fraction(str(divisor))
    rule = f"is not a multiple of {divisor:.15g} (multipleOf)"

    def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        if type(value) is int and type(divisor) is int:
            return value % divisor == 0 or run.fail(path, rule)
        if not _TYPES["number"](value):
            return True
        finite = math.isfinite(value)
        return (finite and (Fraction(str(value)) / exact).denominator == 1) or run.fail(path, rule)

    return check


def _bound(name: str, words: str, holds: Callable[[Any, Any], bool]) -> Maker:
    def make(limit: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
        rule = f"is not {words} {limit:.15g} ({name})"

        def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
            if type(value) is not int and type(value) is not float:
                return True
            return holds(value, limit) or run.fail(path, rule)

        return check

    return make


def _size(name: str, of: type | tuple[type, ...], words: str, *, least: bool) -> Maker:
    def make(limit: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
        rule = f"has {'fewer' if least else 'more'} than {int(limit)} {words} ({name})"

        def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
            if not isinstance(value, of):
                return True
            length = len(value)
            return (length >= limit if least else length <= limit) or run.fail(path, rule)

        return check

    return make


def _pattern(pattern: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    automaton = compiler.automaton(pattern)
    rule = f"does not match {shown(pattern, 100)} (pattern)"

    def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        if not isinstance(value, str):
            return True
        return automaton.found_in(value, run.spend) or run.fail(path, rule)

    return check


def _unique_items(wanted: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        if not wanted or not is_array(value):
            return True
        run.spend(len(value))
        keys = {identity(item, run) for item in value}
        return len(keys) == len(value) or run.fail(path, "holds an item twice (uniqueItems)")

    return check


def _required(names: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        if not is_object(value):
            return True
        holds = True
        for name in names:
            if name not in value:
                holds = run.fail(path, f"{name!r:.60} is missing (required)")
        return holds

    return check


def _dependent_required(needs: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        if not is_object(value):
            return True
        holds = True
        for name, others in needs.items():
            run.spend(len(others) // 8)
            if name in value and not all(other in value for other in others):
                holds = run.fail(
                    path, f"{name!r:.60} needs {shown(others, 80)} (dependentRequired)"
                )
        return holds

    return check


_ARRAY = (list, tuple)

ASSERTIONS: dict[str, Maker] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "multipleOf": _multiple_of,
    "maximum": _bound("maximum", "at most", lambda value, limit: value <= limit),
    "exclusiveMaximum": _bound("exclusiveMaximum", "below", lambda value, limit: value < limit),
    "minimum": _bound("minimum", "at least", lambda value, limit: value >= limit),
    "exclusiveMinimum": _bound("exclusiveMinimum", "above", lambda value, limit: value > limit),
    "maxLength": _size("maxLength", str, "characters", least=False),
    "minLength": _size("minLength", str, "characters", least=True),
    "pattern": _pattern,
    "maxItems": _size("maxItems", _ARRAY, "items", least=False),
    "minItems": _size("minItems", _ARRAY, "items", least=True),
    "uniqueItems": _unique_items,
    "maxProperties": _size("maxProperties", dict, "properties", least=False),
    "minProperties": _size("minProperties", dict, "properties", least=True),
    "required": _required,
    "dependentRequired": _dependent_required,
}
