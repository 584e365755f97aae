"""What validators of several vendors' requests are made of.

A check yields complaints, each as `path: what is wrong`, and never raises.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

Complaints: TypeAlias = Iterator[str]
Check: TypeAlias = Callable[[Any, str], Complaints]


def as_object(value: object) -> dict[str, Any] | None:
    """Return the value if it is an object."""
    return cast(dict[str, Any], value) if isinstance(value, dict) else None


def fields(
    value: object, path: str, required: Mapping[str, Check], optional: Mapping[str, Check]
) -> Complaints:
    """Check an object that has to have some fields, may have others, and no more."""
    given = as_object(value)
    if given is None:
        yield f"{path}: an object is wanted"
        return
    yield from (f"{path}.{name}: is missing" for name in required.keys() - given.keys())
    for name, inner in given.items():
        check = required.get(name) or optional.get(name)
        if check is None:
            yield f"{path}.{name}: no such field"
        else:
            yield from check(inner, f"{path}.{name}")


def anything(value: object, path: str) -> Complaints:
    """Find no fault."""
    yield from ()


def text(value: object, path: str) -> Complaints:
    """Want a text."""
    if not isinstance(value, str):
        yield f"{path}: a text is wanted"


def filled(value: object, path: str) -> Complaints:
    """Want a text that is not empty."""
    if not isinstance(value, str) or not value:
        yield f"{path}: a text that is not empty is wanted"


def a_list(check: Check) -> Check:
    """Want a list that is not empty, of such values."""

    def checking(value: object, path: str) -> Complaints:
        if not isinstance(value, list) or not value:
            yield f"{path}: a list that is not empty is wanted"
            return
        for index, inner in enumerate(cast(Sequence[Any], value)):
            yield from check(inner, f"{path}[{index}]")

    return checking


def one_of(*values: object) -> Check:
    """Want one of these values."""

    def checking(value: object, path: str) -> Complaints:
        if not any(type(value) is type(one) and value == one for one in values):
            yield f"{path}: {value!r} is none of {', '.join(map(repr, values))}"

    return checking


def matching(pattern: str) -> Check:
    """Want a text that fits the pattern as a whole."""

    def checking(value: object, path: str) -> Complaints:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            yield f"{path}: {value!r} does not match {pattern}"

    return checking


def number(minimum: float, maximum: float) -> Check:
    """Want a number within bounds."""

    def checking(value: object, path: str) -> Complaints:
        sound = isinstance(value, int | float) and not isinstance(value, bool)
        if not sound or not minimum <= value <= maximum:  # type: ignore[operator]  # a number
            yield f"{path}: a number from {minimum:g} to {maximum:g} is wanted"

    return checking


def boolean(value: object, path: str) -> Complaints:
    """Want true or false."""
    if not isinstance(value, bool):
        yield f"{path}: true or false is wanted"


def json_object_text(value: object, path: str) -> Complaints:
    """Want a text that is a JSON object."""
    try:
        sound = isinstance(value, str) and isinstance(json.loads(value), dict)
    except ValueError:
        sound = False
    if not sound:
        yield f"{path}: the text of a JSON object is wanted"


def by_field(name: str, checks: Mapping[str, Check]) -> Check:
    """Check an object by what one of its fields says that it is."""

    def checking(value: object, path: str) -> Complaints:
        kind = (as_object(value) or {}).get(name)
        check = checks.get(kind) if isinstance(kind, str) else None
        if check is None:
            yield f"{path}.{name}: {kind!r} is none of {', '.join(checks)}"
        else:
            yield from check(value, path)

    return checking


def text_or(check: Check) -> Check:
    """Want a text, or else what the check wants."""
    return lambda value, path: text(value, path) if isinstance(value, str) else check(value, path)


def null_or(check: Check) -> Check:
    """Want null, or else what the check wants."""
    return lambda value, path: iter(()) if value is None else check(value, path)


def unique(values: Sequence[object], path: str, what: str) -> Complaints:
    """Want each of these values once."""
    seen: list[object] = []
    for value in values:
        if value in seen:
            yield f"{path}: {what} {value!r} stands twice"
        seen.append(value)


def gathered(complaints: Iterable[str]) -> list[str]:
    """Return the complaints in order, each once."""
    return list(dict.fromkeys(complaints))
