"""How stored shapes of earlier versions become today's.

`UPCASTS[kind, n]` takes the JSON object of version n and returns that of version n + 1.
No released version has been superseded yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from rainengine.core.records import JsonObject

Upcasts: TypeAlias = Mapping[tuple[str, int], Callable[[JsonObject], JsonObject]]

UPCASTS: Upcasts = {}


def upcast(
    value: JsonObject, kind: str, version: int, target: int, upcasts: Upcasts = UPCASTS
) -> JsonObject:
    """Bring a stored object of `version` up to `target`. Raises `LookupError` for no version."""
    for step in range(version, target):
        value = upcasts[kind, step](value)
    return value
