"""Hypothesis strategies for everything that a ledger stores.

They are read off the classes, so that a new field or kind takes part in every property
the moment it exists.
They are cached, since hypothesis examines each new strategy object anew, which takes longer
than drawing from it.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import attrs
from hypothesis import strategies as st

from rainengine.core.codec import ACTIONS, EVENTS, RECORDS, TRIGGERS
from rainengine.core.records import (
    Action,
    JsonObject,
    JsonValue,
    KernelEvent,
    NewRecord,
    Record,
    Trigger,
    UnknownRecord,
)

T = TypeVar("T")

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**64 - 1

_MOST = 3


@cache
def texts(max_size: int = 12) -> st.SearchStrategy[str]:
    """Text that the admission rule admits: any Unicode but NUL and surrogates."""
    admitted = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    return st.text(admitted, max_size=max_size)


@cache
def identifiers() -> st.SearchStrategy[str]:
    """Session ids, tenants and keys."""
    return texts().filter(bool)


@cache
def json_values(max_leaves: int = 8) -> st.SearchStrategy[JsonValue]:
    """JSON values that the admission rule admits."""
    numbers = st.integers(MIN_INTEGER, MAX_INTEGER) | _finite()
    leaves: st.SearchStrategy[JsonValue] = st.none() | st.booleans() | numbers | texts()
    return st.recursive(leaves, _containers, max_leaves=max_leaves)


@cache
def json_objects() -> st.SearchStrategy[JsonObject]:
    """JSON objects that the admission rule admits."""
    return st.dictionaries(texts(), json_values(4), max_size=_MOST)


def _containers(items: st.SearchStrategy[JsonValue]) -> st.SearchStrategy[JsonValue]:
    return st.lists(items, max_size=_MOST) | st.dictionaries(texts(), items, max_size=_MOST)


@cache
def _finite() -> st.SearchStrategy[float]:
    return st.floats(allow_nan=False, allow_infinity=False)


@cache
def triggers() -> st.SearchStrategy[Trigger]:
    """Triggers of every type."""
    return st.one_of([instances(shape) for shape in TRIGGERS])


@cache
def actions() -> st.SearchStrategy[Action]:
    """Actions of every type."""
    return st.one_of([instances(shape) for shape in ACTIONS])


@cache
def kernel_events() -> st.SearchStrategy[KernelEvent]:
    """Kernel events of every type."""
    return st.one_of([instances(shape) for shape in EVENTS])


@cache
def records() -> st.SearchStrategy[Record]:
    """Records of every kind."""
    return st.one_of([instances(shape) for shape in RECORDS.values()])


@cache
def unknown_records() -> st.SearchStrategy[UnknownRecord]:
    """Records of kinds that this release does not know."""
    return st.builds(
        UnknownRecord,
        stored_kind=identifiers().map(lambda name: f"future {name}"),
        stored_version=st.integers(1, 2**31 - 1),
        payload=json_values().map(partial(json.dumps, ensure_ascii=False)),
    )


def new_records(of: st.SearchStrategy[Record] | None = None) -> st.SearchStrategy[NewRecord]:
    """Records ready to be appended, with any envelope. `of` is any record by default."""
    return st.builds(
        NewRecord,
        record=records() if of is None else of,
        occurred_at_ms=st.integers(-(2**63), 2**63 - 1),
        trigger_id=st.none() | identifiers(),
        idempotency_key=st.none() | identifiers(),
    )


def instances(shape: type[T]) -> st.SearchStrategy[T]:
    """Instances of an attrs class whose fields are texts, numbers, JSON and such classes."""
    hidden: Any = shape
    return cast("st.SearchStrategy[T]", _instances(hidden))


@cache
def _instances(shape: Any) -> st.SearchStrategy[Any]:  # noqa: ANN401 - any attrs class
    hints = get_type_hints(shape)
    fields = [field for field in attrs.fields(shape) if field.init]
    return st.deferred(
        lambda: st.builds(shape, **{field.alias: values(hints[field.name]) for field in fields})
    )


def values(hint: Any) -> st.SearchStrategy[Any]:  # noqa: ANN401 - any type hint
    """Values of a field's type."""
    if hint in _SCALARS:
        return _SCALARS[hint]()
    if hint in _FAMILIES:
        return _FAMILIES[hint]()
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=_MOST).map(tuple)
    if origin in (Union, types.UnionType):
        return st.one_of([values(argument) for argument in arguments])
    return _instances(hint)


_SCALARS: dict[Any, Callable[[], st.SearchStrategy[Any]]] = {
    Any: json_values,
    dict[str, Any]: json_objects,
    str: texts,
    int: lambda: st.integers(MIN_INTEGER, MAX_INTEGER),
    float: _finite,
    bool: st.booleans,
    type(None): st.none,
}

_FAMILIES: dict[Any, Callable[[], st.SearchStrategy[Any]]] = {
    Trigger: triggers,
    Action: actions,
    KernelEvent: kernel_events,
}
