"""The PostgreSQL store, and the floor under it: one table, written by hand.

All processes share one server, which the benchmark starts and whose commits are durable.
Each place has a database there, a copy of one that holds an empty ledger.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from stores import Row, Store

SERVER, TEMPLATE = "RAINENGINE_BENCH_POSTGRES_URL", "RAINENGINE_BENCH_POSTGRES_TEMPLATE"
READERS = 16

_TABLE = """
create table events (
    session text not null, sequence bigint not null, kind text not null, body text not null,
    primary key (session, sequence)
)
"""
_INSERT = (
    b"insert into events select * from unnest($1::text[], $2::bigint[], $3::text[], $4::text[])"
)
_SELECT = b"select sequence, kind, body from events where session = $1 order by sequence"


@contextmanager
def _serve(directory: Path) -> Iterator[dict[str, str]]:
    """Run a server on the disk that is measured; say where it is."""
    from rainengine.store_pg import migrate
    from testbed.postgres import run_postgres

    settings = {"autovacuum_naptime": "1min", "shared_buffers": "512MB"}
    with run_postgres(fsync=True, settings=settings, directory=directory) as server:
        template = server.databases.create()
        trio.run(migrate, server.url(template))
        yield {SERVER: server.databases.admin_url, TEMPLATE: template}


def _url(place: Path, *, empty: bool = False) -> str:
    """The URL of the place's database, which is made when it is first asked for."""
    known = place / "database"
    if not known.exists():
        from testbed.databases import Databases

        databases = Databases(os.environ[SERVER])
        name = databases.create(template=None if empty else os.environ[TEMPLATE])
        known.write_text(databases.url(name))
    return known.read_text()


@asynccontextmanager
async def _open_ledger(place: Path) -> AsyncGenerator[Any]:
    from rainengine.store_pg import open_postgres_ledger

    async with open_postgres_ledger(_url(place)) as ledger:
        yield ledger


@attrs.frozen
class Line:
    """A connection that trio itself waits for, by libpq: nothing hops to a thread."""

    connection: Any

    @classmethod
    async def open(cls, url: str) -> Line:
        import psycopg

        connect = partial(psycopg.connect, url, autocommit=True)
        line = cls(await trio.to_thread.run_sync(connect))
        line.connection.pgconn.prepare(b"insert", _INSERT)
        line.connection.pgconn.prepare(b"select", _SELECT)
        return line

    async def ask(self, statement: bytes, *parameters: bytes) -> Any:
        pgconn = self.connection.pgconn
        pgconn.send_query_prepared(statement, parameters)
        while pgconn.flush():
            await trio.lowlevel.wait_writable(pgconn.socket)
        while pgconn.is_busy():
            await trio.lowlevel.wait_readable(pgconn.socket)
            pgconn.consume_input()
        result = pgconn.get_result()
        while pgconn.get_result() is not None:
            pass
        if result.error_message:
            raise RuntimeError(result.error_message.decode())
        return result


@attrs.frozen
class PostgresTable:
    """One connection that writes, some that read."""

    writer: Line
    readers: trio.MemoryReceiveChannel[Line]
    idle: trio.MemorySendChannel[Line]

    async def append(self, rows: Sequence[Row]) -> None:
        sessions, sequences, kinds, bodies = zip(*rows, strict=True)
        numbers = ",".join(map(str, sequences))
        await self.writer.ask(
            b"insert", _texts(sessions), f"{{{numbers}}}".encode(), _texts(kinds), _texts(bodies)
        )

    async def load(self, session_id: str) -> Sequence[tuple[int, str, str]]:
        line = await self.readers.receive()
        result = await line.ask(b"select", session_id.encode())
        self.idle.send_nowait(line)
        value = result.get_value
        return [
            (int(value(n, 0)), value(n, 1).decode(), value(n, 2).decode())
            for n in range(result.ntuples)
        ]


def _texts(column: Sequence[str]) -> bytes:
    quoted = [text.replace("\\", "\\\\").replace('"', '\\"') for text in column]
    joined = '","'.join(quoted)
    return f'{{"{joined}"}}'.encode()


@asynccontextmanager
async def _open_floor(place: Path) -> AsyncGenerator[PostgresTable]:
    import psycopg

    url = _url(place, empty=True)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_TABLE)
    idle, readers = trio.open_memory_channel[Line](READERS)
    async with AsyncExitStack() as stack:
        lines = [await Line.open(url) for _ in range(READERS + 1)]
        for line in lines:
            stack.callback(line.connection.close)
        for line in lines[1:]:
            idle.send_nowait(line)
        yield PostgresTable(lines[0], readers, idle)


async def _stored_bytes(place: Path) -> int:
    """The size of the database, its log aside."""
    import psycopg

    with psycopg.connect(_url(place)) as connection:
        row = connection.execute("select pg_database_size(current_database())").fetchone()
    assert row is not None
    return row[0]


STORE = Store(
    name="postgres",
    package="rainengine.store_pg",
    distributions=("rainengine-core", "rainengine-store-pg"),
    imports="import rainengine.core, rainengine.store_pg",
    baseline="import trio, attrs, msgspec, psycopg",
    open_ledger=_open_ledger,
    open_floor=_open_floor,
    stored_bytes=_stored_bytes,
    serve=_serve,
)
