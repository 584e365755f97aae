"""Tool arguments against JSON Schema, draft 2020-12, by jsonschema-rs.

A schema may come from a third party (a sandboxed skill, another server), so it is not trusted:

- References may only point into the schema itself; nothing is ever fetched.
- Patterns are matched by an engine whose time is linear in the text. Look-around and
  back-references, which it cannot do, are refused when the skill is registered.
- References that multiply (each of n definitions naming the next one twice makes 2^n checks)
  are refused, as are schemas over `MAX_SCHEMA_BYTES`.
- Where a schema comes back to itself in several ways, each level of nesting in the arguments
  multiplies the checks: arguments may be nested only so deep that these stay bounded.

As the standard says, `format` is an annotation and asserts nothing.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, NoReturn

import attrs

from rainengine.core import codec
from rainengine.core.errors import InadmissibleValue
from rainengine.core.records import JsonObject, JsonValue

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator, ValidationError

MAX_ERRORS = 8
MAX_ERROR_CHARACTERS = 200
MAX_SCHEMA_BYTES = 256 * 1024
MAX_CHECKS = 20_000
"""How often parts of a schema may be checked: once expanded, and for nested arguments."""
MAX_CACHED = 1024
_UNEVALUATED = {"unevaluatedItems", "unevaluatedProperties"}  # these check what is below again
_NAMES = ("$id", "$anchor", "$dynamicAnchor")
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def check_schema(schema: JsonObject) -> None:
    """Raise `ValueError`, saying why, where `schema` cannot be used to check arguments."""
    try:
        encoded = codec.encode_value(codec.to_json(schema))
    except InadmissibleValue as error:
        raise ValueError(f"is not JSON: {error}") from error
    if len(encoded) > MAX_SCHEMA_BYTES:
        raise ValueError(f"has {len(encoded)} bytes of JSON, the limit is {MAX_SCHEMA_BYTES}")
    _checker(encoded)


def argument_errors(
    schema: JsonObject, args: JsonValue, *, admitted: bool = False
) -> tuple[str, ...]:
    """Return what is wrong with the arguments, each with its JSON path; empty where they fit.

    `admitted` says that they are known to keep the admission rule.
    At most `MAX_ERRORS` errors of at most `MAX_ERROR_CHARACTERS` characters. Never raises.
    """
    try:
        checker = _checker_of(schema)
        if not admitted:
            args = codec.to_json(args)  # what is nested without end would overflow the stack
        return checker.errors(args)
    except (InadmissibleValue, ValueError, TypeError, RecursionError) as error:
        return (f"$: cannot be checked: {error}"[:MAX_ERROR_CHARACTERS],)


@attrs.frozen(eq=False)
class _Checker:
    """A compiled schema, and how deep arguments may be nested for it."""

    validator: Draft202012Validator
    max_depth: int | None

    def errors(self, args: JsonValue) -> tuple[str, ...]:
        if self.max_depth is not None and not _is_within(args, self.max_depth):
            return (f"$: nested deeper than {self.max_depth} levels, too deep for this schema",)
        if self.validator.is_valid(args):
            return ()
        return tuple(map(_sentence, islice(self.validator.iter_errors(args), MAX_ERRORS)))


def _is_within(value: JsonValue, depth: int) -> bool:
    parts = _parts(value)
    return not parts or (depth > 0 and all(_is_within(part, depth - 1) for part in parts))


def _sentence(error: ValidationError) -> str:
    path = "$" + "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path
    )
    rule = str(error.schema_path[-1]) if error.schema_path else "schema"
    # The message quotes the value, which may be long; the rule has to remain readable.
    return f"{path[:60]}: {rule}: {error.message}"[:MAX_ERROR_CHARACTERS]


_by_identity: dict[int, tuple[JsonObject, _Checker]] = {}


def _checker_of(schema: JsonObject) -> _Checker:
    known = _by_identity.get(id(schema))
    if known is not None and known[0] is schema:
        return known[1]
    checker = _checker(codec.encode_value(schema))
    if len(_by_identity) >= MAX_CACHED:
        _by_identity.clear()
    _by_identity[id(schema)] = schema, checker
    return checker


@lru_cache(maxsize=MAX_CACHED)
def _checker(schema: bytes) -> _Checker:
    # Needed only once a skill is registered; importing it here keeps it off the start-up path.
    from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

    expanded = _Expansion(codec.parse_json(schema)).all()
    if expanded.checks > MAX_CHECKS:
        raise ValueError(f"its references multiply to more than {MAX_CHECKS} checks")
    try:
        validator = Draft202012Validator(
            schema.decode(), retriever=_refuse, pattern_options=RegexOptions()
        )
    except ValidationError as error:
        raise ValueError(f"cannot be used: {error.message}"[:MAX_ERROR_CHARACTERS]) from error
    return _Checker(validator, expanded.max_depth())


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is outside the document")


@attrs.frozen
class _Expanded:
    """What a part of a schema expands to: checks, and ways back to where it is a part of."""

    checks: int = 0
    ways_back: int = 0

    def __add__(self, other: _Expanded) -> _Expanded:
        return _Expanded(self.checks + other.checks, self.ways_back + other.ways_back)

    def max_depth(self) -> int | None:
        """How deep arguments may be nested; None for any depth."""
        if self.ways_back <= 1:
            return None
        return int(math.log(MAX_CHECKS / self.checks, self.ways_back))


@attrs.define(eq=False)
class _Expansion:
    """Counts the checks that a schema expands to when its references are followed.

    A reference back to where one came from goes deeper into the arguments; it is a way back, and
    not followed. A reference by name counts for every place that has the name.
    """

    document: JsonValue
    _named: dict[str, list[JsonValue]] = attrs.field(factory=dict[str, list[JsonValue]])
    _known: dict[int, _Expanded] = attrs.field(factory=dict[int, _Expanded])

    def __attrs_post_init__(self) -> None:
        self._collect_names(self.document)

    def _collect_names(self, part: JsonValue) -> None:
        if isinstance(part, dict):
            for name in map(part.get, _NAMES):
                if isinstance(name, str):
                    self._named.setdefault(_last_part(name), []).append(part)
        for item in _parts(part):
            self._collect_names(item)

    def all(self) -> _Expanded:
        """Expand the whole document."""
        return self._of(self.document)

    def _of(self, part: JsonValue) -> _Expanded:
        if not isinstance(part, dict | list):
            return _Expanded()
        if id(part) not in self._known:
            self._known[id(part)] = _Expanded(1, 1)  # for whoever comes back while it is open
            self._known[id(part)] = self._expand(part)
        return self._known[id(part)]

    def _expand(self, part: JsonObject | list[JsonValue]) -> _Expanded:
        if isinstance(part, list):
            return sum(map(self._of, part), _Expanded())
        _check_dialect(part.get("$schema"))
        inside = [item for key, item in part.items() if key != "$defs"]
        for keyword in ("$ref", "$dynamicRef"):
            inside += self._targets(part.get(keyword))
        expanded = sum(map(self._of, inside), _Expanded(checks=1))
        return expanded + expanded if _UNEVALUATED & part.keys() else expanded

    def _targets(self, reference: JsonValue) -> list[JsonValue]:
        if not isinstance(reference, str):
            return []
        base, _, fragment = reference.partition("#")
        if not fragment.startswith("/"):
            named = self._named.get(_last_part(reference), [])
            return named if fragment or base else [self.document]
        roots = self._named.get(_last_part(base), []) if base else [self.document]
        return [_at(root, fragment) for root in roots]


def _parts(part: JsonValue) -> list[JsonValue]:
    if isinstance(part, dict):
        return list(part.values())
    return part if isinstance(part, list) else []


def _last_part(name: str) -> str:
    return name.rstrip("#").rpartition("#")[2].rpartition("/")[2]


def _at(root: JsonValue, pointer: str) -> JsonValue:
    target = root
    for step in pointer[1:].split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        target = target.get(key) if isinstance(target, dict) else None
    return target


def _check_dialect(dialect: object) -> None:
    if dialect not in (None, DIALECT, DIALECT + "#"):
        raise ValueError(f"its $schema is {dialect!r:.100}, only {DIALECT} is known")
