"""The keywords of JSON Schema 2020-12 that apply subschemas to members and items.

https://json-schema.org/draft/2020-12/json-schema-core (sections 10.3 and 11)
A keyword that has failed goes on, so that several errors are told, unless a branch is only tried.
"""

from __future__ import annotations

from typing import Any

from rainengine.core.tools._checks import Check, Path, Run, Seen, is_array, is_object
from rainengine.core.tools._keywords import Compiler, Maker


def _properties(schemas: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    checks = [(name, compiler.subschema(part)) for name, part in schemas.items()]

    def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        if not is_object(value):
            return True
        holds = True
        for name, part in checks:
            if name in value:
                holds = part(value[name], (path, name), run, None) and holds
                if seen is not None:
                    seen.names.add(name)
        return holds

    return check


def _pattern_properties(schemas: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    checks = [(compiler.automaton(key), compiler.subschema(part)) for key, part in schemas.items()]

    def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        if not is_object(value):
            return True
        holds = True
        for name, item in value.items():
            for automaton, part in checks:
                run.spend(1)
                if automaton.found_in(name, run.spend):
                    holds = part(item, (path, name), run, None) and holds
                    if seen is not None:
                        seen.names.add(name)
        return holds

    return check


def _additional_properties(part: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    named = frozenset(schema.get("properties", ()))
    automata = [compiler.automaton(key) for key in schema.get("patternProperties", ())]
    check_item = compiler.subschema(part)

    def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        if not is_object(value) or (not automata and value.keys() <= named):
            return True
        run.spend(len(value) * (1 + len(automata)))
        holds = True
        for name, item in value.items():
            if name in named or any(auto.found_in(name, run.spend) for auto in automata):
                continue
            holds = _extra(part, check_item, item, (path, name), run) and holds
            if seen is not None:
                seen.names.add(name)
        return holds

    return check


def _extra(part: Any, check: Check, item: Any, path: tuple[Path, str], run: Run) -> bool:
    if part is False:
        return run.fail(path[0], f"{path[1]!r:.60} is not allowed (additionalProperties)")
    return check(item, path, run, None)


def _property_names(part: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    check_name = compiler.subschema(part)

    def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        if not is_object(value):
            return True
        rule = "has a name that is not allowed (propertyNames)"
        holds = True
        for name in value:
            if not run.tried(check_name, name, path, None):
                holds = run.fail((path, name), rule)
        return holds

    return check


def _prefix_items(schemas: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    checks = [compiler.subschema(part) for part in schemas]

    def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        if not is_array(value):
            return True
        holds = True
        for index, (item, part) in enumerate(zip(value, checks, strict=False)):
            holds = part(item, (path, index), run, None) and holds
        if seen is not None:
            seen.items.update(range(min(len(checks), len(value))))
        return holds

    return check


def _items(part: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    check_item = compiler.subschema(part)
    begin = len(schema.get("prefixItems", ()))

    def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        if not is_array(value):
            return True
        holds = True
        for index in range(begin, len(value)):
            holds = check_item(value[index], (path, index), run, None) and holds
        if seen is not None:
            run.spend(len(value) // 8)
            seen.items.update(range(len(value)))
        return holds

    return check


def _contains(part: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    check_item = compiler.subschema(part)
    least, most = schema.get("minContains", 1), schema.get("maxContains")

    def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        if not is_array(value):
            return True
        found = [i for i, item in enumerate(value) if run.tried(check_item, item, path, None)]
        if seen is not None:
            seen.items.update(found)
        if len(found) < least:
            return run.fail(path, f"has too few items that match: {len(found)} (contains)")
        if most is not None and len(found) > most:
            return run.fail(path, f"has too many items that match: {len(found)} (maxContains)")
        return True

    return check


def _unevaluated_properties(part: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    check_item = compiler.subschema(part)

    def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        if seen is None or not is_object(value):
            return True
        holds = True
        for name, item in value.items():
            run.spend(1)
            if name not in seen.names:
                holds = _extra(part, check_item, item, (path, name), run) and holds
        seen.names.update(value)
        return holds

    return check


def _unevaluated_items(part: Any, schema: dict[str, Any], compiler: Compiler) -> Check:
    check_item = compiler.subschema(part)

    def check(value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
        if seen is None or not is_array(value):
            return True
        holds = True
        for index, item in enumerate(value):
            run.spend(1)
            if index not in seen.items:
                holds = check_item(item, (path, index), run, None) and holds
        seen.items.update(range(len(value)))
        return holds

    return check


TO_CHILDREN: dict[str, Maker] = {
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "propertyNames": _property_names,
    "prefixItems": _prefix_items,
    "items": _items,
    "contains": _contains,
}

UNEVALUATED: dict[str, Maker] = {
    "unevaluatedItems": _unevaluated_items,
    "unevaluatedProperties": _unevaluated_properties,
}
