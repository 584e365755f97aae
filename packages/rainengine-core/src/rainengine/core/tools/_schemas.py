"""A JSON Schema, draft 2020-12, compiled: its places, references and checks.

Theory. Schemas come from third parties, arguments from models; both may be hostile.
Python's `jsonschema` is right about the standard but cannot be bounded: its patterns backtrack,
`unevaluatedProperties` evaluates its siblings again (2^depth for nested ones), references that
double (`allOf` of twice the next) cost 2^n, and a `$schema` in a subschema brings the unguarded
class back. So it judges the schema itself, once (`_arguments`), and is the reference in the
tests; arguments meet the checks compiled here, in one pass, under a budget of work.

Rules.
- Nothing outside the document is ever referred to, nor fetched.
- `format` and the `content...` keywords are annotations, as the standard has it by default.
- A schema may name no other dialect than draft 2020-12.
"""

from __future__ import annotations

import json
from typing import Any

import attrs

from rainengine.core.tools._automata import Automaton
from rainengine.core.tools._checks import (
    Check,
    Path,
    Run,
    Seen,
    TooMuchWork,
    in_place,
    is_array,
    is_object,
)
from rainengine.core.tools._children import TO_CHILDREN, UNEVALUATED
from rainengine.core.tools._in_place import IN_PLACE
from rainengine.core.tools._keywords import ASSERTIONS, Maker
from rainengine.core.tools._patterns import PatternRefused
from rainengine.core.tools._places import Document, Resource, SchemaRefused

MAX_SCHEMA_BYTES = 256 * 1024
MAX_PATTERN_STATES = 20_000
MAKERS: dict[str, Maker] = {**ASSERTIONS, **TO_CHILDREN, **IN_PLACE, **UNEVALUATED}


def copy_of(schema: Any) -> Any:
    """Return the schema as fresh JSON. Raises `SchemaRefused` where it is none, or too large."""
    try:
        text = json.dumps(schema, allow_nan=False)
        copy = json.loads(text)
    except RecursionError as error:
        raise SchemaRefused("is nested too deeply") from error
    except (TypeError, ValueError) as error:
        raise SchemaRefused(f"is not JSON: {error}") from error
    if len(text) > MAX_SCHEMA_BYTES:
        raise SchemaRefused(f"has {len(text)} bytes of JSON, at most {MAX_SCHEMA_BYTES}")
    return copy


@attrs.define
class _Target:
    """What a reference leads to; its check is known once all of the document is compiled."""

    schema: Any
    check: Check | None = None


class Compilation:
    """Compiles one document. `check` is the whole schema's."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._automata: dict[str, Automaton] = {}
        self._compiled: dict[int, Check] = {}
        self._targets: dict[int, _Target] = {}
        self._unresolved: list[_Target] = []
        try:
            self.check = self.subschema(document.root)
            while self._unresolved:
                target = self._unresolved.pop()
                target.check = self.subschema(target.schema)
        except SchemaRefused:
            raise
        except PatternRefused as error:
            raise SchemaRefused(str(error)) from error
        except RecursionError as error:
            raise SchemaRefused("is nested too deeply") from error
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise SchemaRefused(f"is no schema of draft 2020-12: {error!r:.100}") from error

    def subschema(self, schema: Any) -> Check:
        """Compile a subschema of the document."""
        if schema is True:
            return _always
        if schema is False:
            return _never
        if id(schema) not in self._compiled:
            self._compiled[id(schema)] = self._compile(schema)
        return self._compiled[id(schema)]

    def automaton(self, pattern: str) -> Automaton:
        """Compile a pattern, once for each document."""
        if pattern not in self._automata:
            try:
                self._automata[pattern] = Automaton(pattern)
            except PatternRefused as error:
                raise PatternRefused(f"pattern {pattern!r:.80} {error}") from error
            if sum(one.size for one in self._automata.values()) > MAX_PATTERN_STATES:
                raise PatternRefused("has patterns that are too large together")
        return self._automata[pattern]

    def _compile(self, schema: dict[str, Any]) -> Check:
        resource = self._document.resource_of(schema)
        checks: list[Check] = []
        if "$ref" in schema:
            checks.append(self._reference(schema["$ref"], resource))
        if "$dynamicRef" in schema:
            checks.append(self._dynamic_reference(schema["$dynamicRef"], resource))
        present = [name for name in MAKERS if name in schema]
        checks += [MAKERS[name](schema[name], schema, self) for name in present]
        sizes = [len(part) for part in schema.values() if is_object(part) or is_array(part)]
        weight = 1 + len(checks) + sum(sizes) // 8
        collects = any(name in schema for name in UNEVALUATED)
        scope = resource if self._document.is_dynamic else None
        return _together(tuple(checks), weight, scope, collects=collects)

    def _target(self, schema: Any) -> _Target:
        target = self._targets.get(id(schema))
        if target is None:
            target = self._targets[id(schema)] = _Target(schema)
            self._unresolved.append(target)
        return target

    def _reference(self, reference: str, resource: Resource) -> Check:
        target = self._target(self._document.resolve(reference, resource))

        def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
            assert target.check is not None  # noqa: S101  # set by __init__ before any check runs
            return in_place(target.check, value, path, run, seen)

        return check

    def _dynamic_reference(self, reference: str, resource: Resource) -> Check:
        schema = self._document.resolve(reference, resource)
        name = reference.rpartition("#")[2]
        home = self._document.resource_of(schema) if isinstance(schema, dict) else resource
        if home.dynamic.get(name) is not schema:
            return self._reference(reference, resource)
        holders = [other for other in self._document.resources() if name in other.dynamic]
        targets = {other.uri: self._target(other.dynamic[name]) for other in holders}

        def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
            uri = next(entered.uri for entered in [*run.scope, home] if entered.uri in targets)
            target = targets[uri].check
            assert target is not None  # noqa: S101  # set by __init__ before any check runs
            return in_place(target, value, path, run, seen)

        return check


def _always(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
    return True


def _never(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
    return run.fail(path, "is not allowed (false schema)")


def _together(
    checks: tuple[Check, ...], weight: int, scope: Resource | None, *, collects: bool
) -> Check:
    def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        run.left -= weight
        if run.left < 0:
            raise TooMuchWork
        if collects and seen is None:
            seen = Seen()
        holds = True
        for one in checks:
            if not one(value, path, run, seen):
                if run.errors is None:
                    return False
                holds = False
        return holds

    return check if scope is None else _scoped(check, scope)


def _scoped(check: Check, scope: Resource) -> Check:
    def enter(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        run.scope.append(scope)
        try:
            return check(value, path, run, seen)
        finally:
            run.scope.pop()

    return enter
