"""How stored shapes of earlier versions become today's.

`UPCASTS[kind, n]` takes the JSON object of version n and returns that of version n + 1.
No released version has been superseded yet.
"""

from __future__ import annotations

from collections.abc import Callable

from rainengine.core.records import JsonObject

UPCASTS: dict[tuple[str, int], Callable[[JsonObject], JsonObject]] = {}
