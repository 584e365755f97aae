"""Opening a Postgres ledger, by URL."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import unquote

import attrs
import trio

from rainengine.core.abc import Clock
from rainengine.core.errors import InvalidConfiguration
from rainengine.store_pg._clock import DatabaseClock
from rainengine.store_pg._connect import Server, parse_url
from rainengine.store_pg._dialect import PostgresDialect
from rainengine.store_pg._reading import reading
from rainengine.store_pg._schema import check_partitions, look_at, migrate_server, plain_server
from rainengine.store_pg._signals import NotifySignals
from rainengine.store_sql import (
    SqlLedgerStore,
    StoreSettings,
    above_0,
    check_version,
    is_older,
    open_store,
    read_flag,
    read_number,
    read_settings,
    setting_kinds,
)


@attrs.frozen(kw_only=True)
class PostgresSettings(StoreSettings):
    """How a Postgres store behaves, beyond what all stores have.

    `statement_timeout_ms` and `lock_timeout_ms` bound what the server may take for a statement
    and how long it waits for a row that another process has locked. `settle_for_s` is for how
    long the store tries to find out what became of a commit whose answer was lost, as long as the
    server is away. `transaction_connections` is how many transactional skills, and workers'
    transactions, may be under way at once. With `notify` other processes' `wait_past` learn of
    appends at once, by NOTIFY, and not only by polling. `pooler` keeps to what works through a
    pooler in transaction mode: nothing prepared, no session settings, no LISTEN.
    """

    statement_timeout_ms: int = attrs.field(default=15_000, validator=above_0)
    lock_timeout_ms: int = attrs.field(default=1_000, validator=above_0)
    settle_for_s: float = attrs.field(default=10.0, validator=above_0)
    transaction_connections: int = attrs.field(default=2, validator=above_0)
    notify: bool = True
    pooler: bool = False


_DEFAULTS = PostgresSettings()


@asynccontextmanager
async def open_postgres_ledger(
    url: str,
    *,
    create: bool = False,
    partitions: int | None = None,
    clock: Clock | None = None,
    settings: PostgresSettings = _DEFAULTS,
) -> AsyncGenerator[SqlLedgerStore]:
    """Open the ledger in a database, such as `postgresql://user:password@host/database`.

    The URL takes libpq's parameters (`sslmode`, `connect_timeout`, `target_session_attrs`, …), and
    what it leaves out may come from libpq's environment variables and password file.
    With `create` the schema is created, or brought up to date, as `migrate` does it.
    Leases are judged by the database's clock, unless a `clock` is given, for tests.

    Raises, within libpq's `connect_timeout` (10 s if not set):

    - `InvalidConfiguration`: the URL or a setting is wrong; no message holds the URL
    - `SchemaMismatch`: there is no schema, or another release's, and what to do about it
    - `LedgerAccessDenied`: wrong user or password, no such database, missing rights
    - `LedgerUnavailable`: the server does not answer
    """
    check_partitions(partitions)
    plain = plain_server(url)
    found = await trio.to_thread.run_sync(look_at, plain)
    _check_encoding(found.encoding)
    if create and is_older(found.version):
        await trio.to_thread.run_sync(migrate_server, plain, partitions)
    else:
        check_version(found.version)
    server = Server(
        parameters=parse_url(url),
        statement_timeout_ms=settings.statement_timeout_ms,
        lock_timeout_ms=settings.lock_timeout_ms,
        pooler=settings.pooler,
        durability="on" if found.durability == "off" else found.durability,
        search_path=found.search_path,
    )
    database_clock = DatabaseClock()
    database_clock.observe(found.now_ms)
    # psycopg wants SQL to be literal text or bytes, where the shared code says that it is text.
    connect_writer: Callable[[], Any] = server.connect_writer
    connect_reader: Callable[[], Any] = server.connect_reader
    connect_lent: Callable[[], Any] = server.connect_lent
    judging = database_clock if clock is None else None
    async with (
        _signals(server, settings) as signals,
        open_store(
            PostgresDialect(
                judging, server.preamble, not settings.pooler, settings.lock_timeout_ms / 1000
            ),
            connect_writer=connect_writer,
            connect_reader=connect_reader,
            connect_lent=connect_lent,
            renew_lent=server.renew_lent,
            placeholder="%s",
            clock=clock or database_clock,
            settings=settings,
            transaction_connections=settings.transaction_connections,
            settle_for_s=settings.settle_for_s,
            signals=signals,
            frame_read=partial(
                reading, clock=judging, preamble=server.preamble_to_read if server.pooler else None
            ),
        ) as store,
    ):
        yield store


@asynccontextmanager
async def _signals(
    server: Server, settings: PostgresSettings
) -> AsyncGenerator[NotifySignals | None]:
    if settings.pooler or not settings.notify:
        yield None
        return
    signals = NotifySignals(server.connect_plainly)
    try:
        yield signals
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(signals.stop)


def _check_encoding(encoding: str) -> None:
    if encoding != "UTF8":
        raise InvalidConfiguration(
            "url", f"the database's encoding is {encoding}: create one with ENCODING 'UTF8'"
        )


@asynccontextmanager
async def open_postgres_url(url: str) -> AsyncGenerator[SqlLedgerStore]:
    """Open a ledger by its URL.

    Besides libpq's parameters its query may set `create`, `partitions` and the fields of
    `PostgresSettings`, as in `postgresql://host/database?create=true&readers=8`.
    """
    rest, options = _split(url)
    create = read_flag("create", options.pop("create", "false"))
    partitions = options.pop("partitions", None)
    async with open_postgres_ledger(
        rest,
        create=create,
        partitions=None if partitions is None else read_number("partitions", partitions, int),
        settings=read_settings(options, _DEFAULTS),
    ) as store:
        yield store


def _split(url: str) -> tuple[str, dict[str, str]]:
    """Take our own settings out of a URL's query. What is left is libpq's to understand."""
    ours = {"create", "partitions", *setting_kinds(PostgresSettings)}
    start, _, query = url.partition("?")
    scheme, colon, rest = start.partition(":")
    pairs = [pair.partition("=") for pair in query.split("&")] if query else []
    own = {name: unquote(text) for name, _, text in pairs if name in ours}
    left = "&".join("".join(pair) for pair in pairs if pair[0] not in ours)
    return f"{scheme.partition('+')[0]}{colon}{rest}{'?' if left else ''}{left}", own
