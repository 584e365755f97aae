"""What a validation has while it runs: a budget of work, the errors so far, what was evaluated."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from typing import Any, TypeAlias, TypeGuard

import attrs

MAX_ERRORS = 8
MAX_ERROR_LENGTH = 200

MAX_PLACE_LENGTH = 90

Path: TypeAlias = "tuple[Path, str | int] | None"
"""Where in the arguments: the way there, last step outermost; `None` is the root."""


class TooMuchWork(Exception):
    """The budget of a validation is used up."""


@attrs.define
class Seen:
    """What the keywords of one place have evaluated of a value, for `unevaluated...`."""

    names: set[str] = attrs.field(factory=set[str])
    items: set[int] = attrs.field(factory=set[int])

    def add(self, other: Seen) -> None:
        """Take over what a subschema at the same place has evaluated."""
        self.names |= other.names
        self.items |= other.items


@attrs.define
class Run:
    """One validation. `errors` is `None` while a branch is only tried; `scope` is outermost first.

    `left` counts units of work, each about a keyword applied to a value.
    """

    left: int
    errors: list[str] | None
    scope: list[Any] = attrs.field(factory=list[Any])

    def spend(self, units: int) -> None:
        """Take work out of the budget. Raises `TooMuchWork` where none is left."""
        self.left -= units
        if self.left < 0:
            raise TooMuchWork

    def fail(self, path: Path, rule: str) -> bool:
        """Note a broken rule; return `False`."""
        if self.errors is not None and len(self.errors) < MAX_ERRORS:
            self.errors.append(error_text(path, rule))
        return False

    def tried(self, check: Check, value: Any, path: Path, seen: Seen | None) -> bool:
        """Whether a check holds, without noting why it does not."""
        errors, self.errors = self.errors, None
        try:
            return check(value, path, self, seen)
        finally:
            self.errors = errors


Check: TypeAlias = Callable[[Any, Path, Run, Seen | None], bool]
"""One keyword, or one whole subschema, at work."""


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a value is an object to JSON."""
    return isinstance(value, dict)


def is_array(value: Any) -> TypeGuard[list[Any]]:
    """Whether a value is an array to JSON."""
    return isinstance(value, list | tuple)


def error_text(path: Path, rule: str) -> str:
    """Put a place and a rule together in at most `MAX_ERROR_LENGTH` characters."""
    steps: list[str] = []
    while path is not None:
        path, step = path
        steps.append(_step_text(step))
    place = "$" + "".join(reversed(steps))
    if len(place) > MAX_PLACE_LENGTH:
        place = f"{place[:60]}…{place[-29:]}"
    text = f"{place}: {rule}"
    return text if len(text) <= MAX_ERROR_LENGTH else f"{text[: MAX_ERROR_LENGTH - 1]}…"


def _step_text(step: str | int) -> str:
    if isinstance(step, str) and step.isidentifier():
        return f".{step:.40}"
    return f"[{step!r:.40}]"


def shown(value: Any, length: int) -> str:
    """A schema's own value as JSON, cut short."""
    return f"{json.dumps(value, ensure_ascii=False):.{length}}"


def in_place(check: Check, value: Any, path: Path, run: Run, seen: Seen | None) -> bool:
    """Apply a subschema to the same value; what it evaluated counts where it holds."""
    if seen is None:
        return check(value, path, run, None)
    inner = Seen()
    holds = check(value, path, run, inner)
    if holds:
        run.spend((len(inner.names) + len(inner.items)) // 8)
        seen.add(inner)
    return holds


def identity(value: Any, run: Run) -> Hashable:
    """A key that is equal for values that JSON Schema calls equal: 1 and 1.0, but not true."""
    if isinstance(value, bool):
        return ("b", value)
    if is_object(value):
        run.spend(1 + len(value))
        return ("o", frozenset([(key, identity(item, run)) for key, item in value.items()]))
    if is_array(value):
        run.spend(1 + len(value))
        return ("a", tuple([identity(item, run) for item in value]))
    found: Hashable = value
    return found
