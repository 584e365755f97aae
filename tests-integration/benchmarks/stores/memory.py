"""The in-memory ledger: what the engine costs by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from stores import Store


@asynccontextmanager
async def _open_ledger(place: Path) -> AsyncIterator[Any]:
    from rainengine.core import InMemoryLedger

    yield InMemoryLedger()


STORE = Store(
    name="memory",
    package="rainengine.core",
    distributions=("rainengine-core",),
    imports="import rainengine.core",
    baseline="import trio, attrs, msgspec",
    open_ledger=_open_ledger,
)
