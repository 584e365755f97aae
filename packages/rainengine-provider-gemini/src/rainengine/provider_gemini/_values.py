"""JSON of which nothing is certain."""

from __future__ import annotations

from typing import Any, cast


def as_object(value: object) -> dict[str, Any] | None:
    """Return the value if it is an object."""
    return cast(dict[str, Any], value) if isinstance(value, dict) else None


def as_list(value: object) -> list[Any] | None:
    """Return the value if it is a list."""
    return cast(list[object], value) if isinstance(value, list) else None


def object_in(value: object) -> dict[str, Any]:
    """Return the value, or an empty object for none. Raises `TypeError` for anything else."""
    given = as_object({} if value is None else value)
    if given is None:
        raise TypeError(f"{value!r} stands where an object should")
    return given


def list_in(value: object) -> list[Any]:
    """Return the value, or an empty list for none. Raises `TypeError` for anything else."""
    given = as_list([] if value is None else value)
    if given is None:
        raise TypeError(f"{value!r} stands where a list should")
    return given


def text_in(value: object) -> str | None:
    """Return the value, a number as text, or None for none. Raises `TypeError` for anything else.

    A number is what the SDKs make of a word in an enumeration that they do not know.
    """
    if value is not None and not isinstance(value, str | int):
        raise TypeError(f"{value!r} stands where a text should")
    return None if value is None else str(value)
