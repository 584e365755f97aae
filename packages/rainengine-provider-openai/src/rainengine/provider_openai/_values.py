"""Reading JSON of which nothing is certain."""

from __future__ import annotations

from typing import Any, cast


def as_object(value: object) -> dict[str, Any]:
    """Return the value if it is an object, else an empty one."""
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def as_objects(value: object) -> list[dict[str, Any]]:
    """Return what objects there are in the value, if it is a list."""
    values = cast(list[object], value) if isinstance(value, list) else []
    return [cast(dict[str, Any], one) for one in values if isinstance(one, dict)]


def as_text(value: object) -> str:
    """Return the value if it is a text, else an empty one."""
    return value if isinstance(value, str) else ""


def said_in(content: object) -> str:
    """Return what a content says in words: it is a text, or a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(as_text(part.get("text")) for part in as_objects(content))


def as_count(value: object) -> int:
    """Return the value if it is a whole number that is not negative, else 0."""
    return value if type(value) is int and value >= 0 else 0
