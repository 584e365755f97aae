"""The stores that can be measured: one module each, named in `STORES`.

A module holds `STORE`. It imports the store's own package only when a ledger is opened,
so that a benchmark of one store is not burdened with another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import attrs

STORES = ("memory", "sqlite", "postgres")

Row: TypeAlias = tuple[str, int, str, str]
"""What the floor stores of an event: session, sequence, kind, JSON."""


class Table(Protocol):
    """The floor under a store: a bare table of events on the same database."""

    async def append(self, rows: Sequence[Row]) -> None: ...

    async def load(self, session_id: str) -> Sequence[tuple[int, str, str]]: ...


@attrs.frozen(kw_only=True)
class Store:
    """How to measure a store. `place` is a directory of its own for each run.

    `stored_bytes` says how large the database is; None where nothing is kept.
    `serve` runs the server that a store needs, on the disk of a directory, and says in which
    variables of the environment the processes that are measured find it.
    `baseline` imports what the store cannot do without, which `imports` is compared with.
    """

    name: str
    package: str
    distributions: tuple[str, ...]
    imports: str
    baseline: str
    open_ledger: Callable[[Path], AbstractAsyncContextManager[Any]]
    open_floor: Callable[[Path], AbstractAsyncContextManager[Table]] | None = None
    stored_bytes: Callable[[Path], Awaitable[int]] | None = None
    serve: Callable[[Path], AbstractContextManager[dict[str, str]]] = lambda _: nullcontext({})

    @property
    def durable(self) -> bool:
        """Whether anything is left after a crash."""
        return self.stored_bytes is not None

    @property
    def installed(self) -> bool:
        """Whether its package can be imported."""
        try:
            return find_spec(self.package) is not None
        except ModuleNotFoundError:
            return False


def find_store(name: str) -> Store:
    """Return the store of this name."""
    return import_module(f"stores.{name}").STORE
