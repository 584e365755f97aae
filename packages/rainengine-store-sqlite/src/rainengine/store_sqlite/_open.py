"""Opening a SQLite ledger, by path or by URL."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import get_args
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import trio

from rainengine.core.abc import Clock
from rainengine.core.errors import InvalidConfiguration
from rainengine.store_sql import (
    SqlLedgerStore,
    StoreSettings,
    open_store,
    read_number,
    read_settings,
)
from rainengine.store_sqlite._connect import Database, Synchronous
from rainengine.store_sqlite._dialect import SqliteDialect
from rainengine.store_sqlite._schema import prepare

_DEFAULTS = StoreSettings()
_OWN = ("busy_timeout_ms", "max_page_count", "synchronous")


@asynccontextmanager
async def open_sqlite_ledger(
    path: str | os.PathLike[str],
    *,
    clock: Clock | None = None,
    settings: StoreSettings = _DEFAULTS,
    busy_timeout_ms: int = 5000,
    synchronous: Synchronous = "full",
    max_page_count: int | None = None,
) -> AsyncGenerator[SqlLedgerStore]:
    """Open the ledger in a file, which is created, or upgraded from an older release, if needed.

    Several processes may have the file open. `busy_timeout_ms` is how long to wait for one that
    is writing. With `synchronous` other than `full` (or `extra`) a power cut may lose appends
    that were acknowledged. `max_page_count` bounds the size of the file.

    Raises `SchemaMismatch` for a newer schema, `LedgerCorrupt` for a file that is no database,
    and the other `LedgerError`s for a file that cannot be opened or written.
    """
    database = Database(
        path=_file(path),
        busy_timeout_ms=busy_timeout_ms,
        synchronous=_known_mode(synchronous),
        max_page_count=max_page_count,
    )
    await trio.to_thread.run_sync(prepare, database)
    async with open_store(
        SqliteDialect(),
        connect_writer=database.connect_writer,
        connect_reader=database.connect_reader,
        connect_lent=database.connect_lent,
        clock=clock,
        settings=settings,
    ) as store:
        yield store


def _file(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path)
    if text in {":memory:", ""} or text.startswith("file:"):
        raise InvalidConfiguration(
            "path",
            f"{text!r} names no file: for a ledger in memory use"
            " rainengine.core.inmemory.InMemoryLedger",
        )
    return Path(text)


def _known_mode(synchronous: str) -> Synchronous:
    for known in get_args(Synchronous):
        if synchronous == known:
            mode: Synchronous = known
            return mode
    raise InvalidConfiguration(
        "synchronous", f"{synchronous!r} is none of {', '.join(get_args(Synchronous))}"
    )


@asynccontextmanager
async def open_sqlite_url(url: str) -> AsyncGenerator[SqlLedgerStore]:
    """Open a ledger by its URL: `sqlite:///rain.db` (relative) or `sqlite:////var/lib/rain.db`.

    The query may set `busy_timeout_ms`, `synchronous`, `max_page_count` and the fields of
    `StoreSettings`, as in `sqlite:///rain.db?busy_timeout_ms=10000&readers=8`.
    """
    parts = _split(url)
    path = unquote(parts.path).removeprefix("/")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    synchronous = _known_mode(options.pop("synchronous", "full"))
    busy_timeout_ms = read_number("busy_timeout_ms", options.pop("busy_timeout_ms", "5000"), int)
    pages = options.pop("max_page_count", None)
    async with open_sqlite_ledger(
        path,
        settings=read_settings(options, _DEFAULTS, besides=_OWN),
        busy_timeout_ms=busy_timeout_ms,
        synchronous=synchronous,
        max_page_count=None if pages is None else read_number("max_page_count", pages, int),
    ) as store:
        yield store


def _split(url: str) -> SplitResult:
    # No error repeats the URL: one that was meant for another database may hold a password.
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    if parts is None or parts.scheme != "sqlite" or parts.netloc or parts.fragment:
        raise InvalidConfiguration("url", "it does not look like sqlite:///path/to/file.db")
    return parts
