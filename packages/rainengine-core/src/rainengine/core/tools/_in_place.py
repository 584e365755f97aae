"""The keywords of JSON Schema 2020-12 that apply subschemas to the same value.

https://json-schema.org/draft/2020-12/json-schema-core (section 10.2)
A keyword that has failed goes on, so that several errors are told, unless a branch is only tried.
"""

from __future__ import annotations

from typing import Any

from rainengine.core.tools._checks import Check, Path, Run, Seen, in_place, is_object
from rainengine.core.tools._keywords import Compiler, Maker


def _all_of(schemas: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    checks = [compiler.subschema(part) for part in schemas]

    def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        holds = True
        for part in checks:
            holds = in_place(part, value, path, run, seen) and holds
        return holds

    return check


def _any_of(schemas: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    checks = [compiler.subschema(part) for part in schemas]

    def tries(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        if seen is None:
            return any(part(value, path, run, None) for part in checks)
        holds = False
        for part in checks:
            holds = in_place(part, value, path, run, seen) or holds
        return holds

    return lambda value, path, run, seen: (
        run.tried(tries, value, path, seen) or run.fail(path, "matches no alternative (anyOf)")
    )


def _one_of(schemas: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    checks = [compiler.subschema(part) for part in schemas]

    def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        inner = None if seen is None else Seen()
        count = 0
        for part in checks:
            tried = None if inner is None else Seen()
            if run.tried(part, value, path, tried):
                count += 1
                if inner is not None and tried is not None:
                    inner.add(tried)
        if seen is not None and inner is not None and count == 1:
            seen.add(inner)
        return count == 1 or run.fail(path, f"matches {count} alternatives, not one (oneOf)")

    return check


def _not(part: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    refused = compiler.subschema(part)
    return lambda value, path, run, seen: (
        not run.tried(refused, value, path, None)
        or run.fail(path, "matches what it must not (not)")
    )


def _if(part: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    condition = compiler.subschema(part)
    then = compiler.subschema(schema.get("then", True))
    otherwise = compiler.subschema(schema.get("else", True))

    def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        inner = None if seen is None else Seen()
        if not run.tried(condition, value, path, inner):
            return in_place(otherwise, value, path, run, seen)
        if seen is not None and inner is not None:
            seen.add(inner)
        return in_place(then, value, path, run, seen)

    return check


def _dependent_schemas(schemas: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    checks = [(name, compiler.subschema(part)) for name, part in schemas.items()]

    def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        if not is_object(value):
            return True
        holds = True
        for name, part in checks:
            if name in value:
                holds = in_place(part, value, path, run, seen) and holds
        return holds

    return check


IN_PLACE: dict[str, Maker] = {
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "if": _if,
    "dependentSchemas": _dependent_schemas,
}
