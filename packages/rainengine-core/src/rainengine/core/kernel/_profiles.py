"""Patches of an agent's profile: whether one widens what the agent may do, and applying one.

A patch is a JSON object of the fields that change; those of a policy stand in an object of their
own: `{"allowed_skills": ["look_up"], "wake": {"max_pending_wakes": 2}}`.

Only what the table below knows to narrow does not widen. A field that is not in it, whatever its
new value, and a field of a later release are changes that somebody has to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Literal, TypeAlias, TypeVar, cast, get_args, get_origin, get_type_hints

import attrs

from rainengine.core.errors import InadmissibleValue
from rainengine.core.records import AgentProfile, JsonObject

T = TypeVar("T")

Narrows: TypeAlias = Callable[[Any, Any], bool]
"""Whether the second of two values of a field allows nothing that the first does not."""


def widening(profile: AgentProfile, patch: JsonObject) -> tuple[str, ...]:
    """Return the fields in which the patched profile may allow more than `profile` does.

    They are named as in `escalation.max_auto_delegations`. Raises `InadmissibleValue` for a patch
    that does not fit.
    """
    changes = _changes(profile, apply_profile_patch(profile, patch))
    return tuple(name for name, old, new in changes if not _narrows(name, old, new))


def apply_profile_patch(profile: AgentProfile, patch: JsonObject) -> AgentProfile:
    """Return the profile with the patch's values; for the operator, as the engine applies none.

    Raises `InadmissibleValue`, with the path of the first part that is no field or has no value
    for it.
    """
    return _patched(profile, patch, "$")


def _patched(value: T, patch: object, path: str) -> T:
    if not isinstance(patch, dict):
        raise InadmissibleValue(path, f"expected an object, got {type(patch).__name__}")
    hints, changes = _hints(cast(Any, type(value))), dict[str, Any]()
    for name, new in cast(dict[str, object], patch).items():
        where = f"{path}.{name}"
        if name not in hints:
            raise InadmissibleValue(where, f"{type(value).__name__} has no such field")
        old: object = getattr(value, name)
        nested = attrs.has(type(old))
        changes[name] = _patched(old, new, where) if nested else _read(hints[name], new, where)
    return cast(T, attrs.evolve(cast(Any, value), **changes))


@cache
def _hints(shape: type[Any]) -> dict[str, Any]:
    return get_type_hints(shape)


# Values.


def _read(hint: object, new: object, path: str) -> object:
    check = _CHECKS.get(hint)
    if get_origin(hint) is Literal:
        wanted, fits = f"one of {', '.join(get_args(hint))}", new in get_args(hint)
    elif check is not None:
        wanted, fits = check[0], check[1](new)
    else:
        raise InadmissibleValue(path, "cannot be patched")
    if not fits:
        raise InadmissibleValue(path, f"expected {wanted}, got {new!r:.100}")
    return tuple(cast(list[str], new)) if isinstance(new, list) else new


def _is_texts(value: object) -> bool:
    parts = cast(list[object], value)
    return isinstance(value, list | tuple) and all(isinstance(part, str) for part in parts)


_CHECKS: dict[Any, tuple[str, Callable[[object], bool]]] = {
    str: ("text", lambda value: isinstance(value, str)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("an integer of at least 0", lambda value: type(value) is int and value >= 0),
    tuple[str, ...]: ("a list of texts", _is_texts),
    tuple[str, ...] | None: (
        "a list of texts, or null",
        lambda value: value is None or _is_texts(value),
    ),
}


# What is known to narrow.


def _changes(
    before: object, after: object, prefix: str = ""
) -> Iterator[tuple[str, object, object]]:
    for field in attrs.fields(cast(Any, type(before))):
        old: object = getattr(before, field.name)
        new: object = getattr(after, field.name)
        name = f"{prefix}{field.name}"
        if attrs.has(type(old)):
            yield from _changes(old, new, f"{name}.")
        elif old != new:
            yield name, old, new


def _narrows(name: str, old: object, new: object) -> bool:
    rule = _NARROWING.get(name)
    return rule is not None and rule(old, new)


def _no_more(old: int, new: int) -> bool:
    """Of a number no more; of a switch, not on."""
    return new <= old


def _no_less(old: int, new: int) -> bool:
    return new >= old


def _none_added(old: tuple[str, ...] | None, new: tuple[str, ...] | None) -> bool:
    """Nothing is in the list that was not; without a list, everything is."""
    return old is None or (new is not None and set(new) <= set(old))


def _none_dropped(old: tuple[str, ...], new: tuple[str, ...]) -> bool:
    return set(new) >= set(old)


_NARROWING: dict[str, Narrows] = {
    "default_scopes": _none_added,
    "allowed_skills": _none_added,
    "delegates": _none_added,
    "memory.max_recent_items": _no_more,
    "memory.summarise": _no_more,
    "memory.semantic_retrieval_limit": _no_more,
    "memory.graph_hops": _no_more,
    "wake.allow_scheduled_wakes": _no_more,
    "wake.default_recheck_ms": _no_less,
    "wake.max_pending_wakes": _no_more,
    "review.require_review_for_native_skills": _no_less,
    "review.require_review_for_delegation": _no_less,
    "review.reviewer_scopes": _none_dropped,
    "review.requester_may_approve": _no_more,
    "review.approval_ttl_ms": _no_more,
    "escalation.require_human_approval_scopes": _none_dropped,
    "escalation.max_auto_delegations": _no_more,
    "escalation.max_delegation_depth": _no_more,
    "escalation.delegation_ttl_ms": _no_more,
}
