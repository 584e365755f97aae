"""The SQLite store, and the floor under it: one table, written by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import attrs

from stores import Row, Store

_TABLE = """
create table events (
    session text not null, sequence integer not null, kind text not null, body text not null,
    primary key (session, sequence)
) without rowid
"""


@asynccontextmanager
async def _open_ledger(place: Path) -> AsyncIterator[Any]:
    from rainengine.store_sqlite import open_sqlite_ledger

    async with open_sqlite_ledger(place / "ledger.db") as ledger:
        yield ledger


@attrs.frozen
class SqliteTable:
    """Writes on the event loop's own thread: with nothing else to do, that is the fastest way."""

    connection: sqlite3.Connection

    async def append(self, rows: Sequence[Row]) -> None:
        self.connection.execute("begin immediate")
        self.connection.executemany("insert into events values (?, ?, ?, ?)", rows)
        self.connection.execute("commit")

    async def load(self, session_id: str) -> Sequence[tuple[int, str, str]]:
        return self.connection.execute(
            "select sequence, kind, body from events where session = ? order by sequence",
            (session_id,),
        ).fetchall()


@asynccontextmanager
async def _open_floor(place: Path) -> AsyncIterator[SqliteTable]:
    with closing(sqlite3.connect(place / "floor.db", isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute(_TABLE)
        yield SqliteTable(connection)


async def _stored_bytes(place: Path) -> int:
    """The size of all pages, whether they stand in the database yet or only in its log."""
    with closing(sqlite3.connect(place / "ledger.db")) as connection:
        (pages,) = connection.execute("pragma page_count").fetchone()
        (size,) = connection.execute("pragma page_size").fetchone()
    return pages * size


STORE = Store(
    name="sqlite",
    package="rainengine.store_sqlite",
    distributions=("rainengine-core", "rainengine-store-sqlite"),
    imports="import rainengine.core, rainengine.store_sqlite",
    baseline="import trio, attrs, msgspec, sqlalchemy",
    open_ledger=_open_ledger,
    open_floor=_open_floor,
    stored_bytes=_stored_bytes,
)
