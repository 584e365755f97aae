"""Opening a SQLite ledger, by path or by URL."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from rainengine.core.abc import Clock
from rainengine.core.errors import InvalidConfiguration
from rainengine.store_sql import SqlLedgerStore, StoreSettings, open_store
from rainengine.store_sqlite._connect import Database
from rainengine.store_sqlite._dialect import SqliteDialect
from rainengine.store_sqlite._schema import prepare


@asynccontextmanager
async def open_sqlite_ledger(
    path: str | os.PathLike[str],
    *,
    clock: Clock | None = None,
    settings: StoreSettings | None = None,
    busy_timeout_ms: int = 5000,
    max_page_count: int | None = None,
) -> AsyncGenerator[SqlLedgerStore]:
    """Open the ledger in this file; it is made if it is not there, and migrated if it is older."""
    database = Database(
        path=_file(path), busy_timeout_ms=busy_timeout_ms, max_page_count=max_page_count
    )
    await trio.to_thread.run_sync(prepare, database)
    async with open_store(
        SqliteDialect(),
        connect_writer=database.connect_writer,
        connect_reader=database.connect_reader,
        clock=clock,
        settings=settings,
    ) as store:
        yield store


def _file(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path)
    if text in {":memory:", ""} or text.startswith("file:"):
        raise InvalidConfiguration(
            "path",
            f"{text!r} names no file: a ledger in memory is rainengine.core.inmemory.InMemoryLedger",
        )
    return Path(text)
