"""Pooled connections: what reads, and transactions that run side by side."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import attrs
import pytest
import trio
import trio.testing

from rainengine.core.errors import (
    AppendUnknown,
    LedgerClosed,
    LedgerError,
    LedgerIOError,
    LedgerUnavailable,
)
from rainengine.store_sql import (
    Batch,
    Committed,
    CommitUnknown,
    Draft,
    SqlLedgerStore,
    StoreSettings,
    Value,
    Verdict,
    open_store,
)

T = TypeVar("T")


class GoneError(Exception):
    """What the driver of this test raises on a connection that was lost."""


@attrs.define(eq=False)
class Rows:
    """A result that is always empty."""

    def fetchone(self) -> Sequence[Value] | None:
        return None

    def fetchall(self) -> Sequence[Sequence[Value]]:
        return ()


@attrs.define(eq=False)
class Connection:
    """A connection that keeps what it was told; `lost` ones fail at everything."""

    said: list[str] = attrs.field(factory=list[str])
    lost: bool = False
    closed: bool = False

    def execute(self, sql: str, parameters: object = (), /) -> Rows:
        assert not self.closed
        if self.lost:
            raise GoneError
        self.said.append(sql)
        return Rows()

    def close(self) -> None:
        self.closed = True


@attrs.define(eq=False)
class Server:
    """Implements `Dialect` over such connections. `down`: new ones are lost from the start."""

    connections: list[Connection] = attrs.field(factory=list[Connection])
    down: bool = False
    commit_fails: bool = False

    def connect(self) -> Connection:
        self.connections.append(Connection(lost=self.down))
        return self.connections[-1]

    def begin(self, connection: Connection, timeout_s: float | None = None) -> None:
        connection.execute(f"BEGIN {timeout_s}")

    def commit(self, connection: Connection) -> None:
        if self.commit_fails:
            raise CommitUnknown
        connection.execute("COMMIT")

    def append_within(self, connection: Connection, draft: Draft) -> Verdict:
        raise NotImplementedError

    def commit_batch(self, connection: Connection, batch: Batch) -> Committed:
        raise NotImplementedError

    def translate_error(self, error: Exception) -> LedgerError | None:
        return LedgerIOError("gone") if isinstance(error, GoneError) else None

    def lost(self, connection: Connection) -> bool:
        return connection.lost


@asynccontextmanager
async def _store(server: Server, connections: int = 2) -> AsyncGenerator[SqlLedgerStore]:
    async with open_store(
        server,
        connect_writer=server.connect,
        connect_reader=server.connect,
        settings=StoreSettings(readers=2),
        transaction_connections=connections,
    ) as store:
        yield store


async def _run(store: SqlLedgerStore, work: Callable[[Any], T]) -> T:
    return await store._parts.transactor.run(work, timeout_s=7)


async def test_a_transaction_begins_works_and_commits() -> None:
    """A transaction's statements stand between its begin, with the timeout, and its commit."""
    server = Server()
    async with _store(server) as store:
        for _ in range(2):
            assert await _run(store, lambda one: one.execute("work") and "done") == "done"
    (connection,) = server.connections
    assert connection.said == ["BEGIN 7", "work", "COMMIT"] * 2
    assert connection.closed


async def test_transactions_run_side_by_side_up_to_a_number() -> None:
    """As many transactions as there may be connections run at once; others wait their turn."""
    server = Server()
    both = threading.Barrier(2)
    running: list[int] = []

    def work(_: Connection) -> None:
        running.append(both.wait())

    async with _store(server, connections=2) as store, trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(_run, store, work)
    assert sorted(running) == [0, 0, 0, 1, 1, 1]
    assert len(server.connections) == 2


async def test_a_transaction_that_fails_closes_its_connection() -> None:
    """The error comes out as it is, nothing is committed, and the connection is not used again."""
    server = Server()
    error = KeyError("mine")

    def fail(_: Connection) -> None:
        raise error

    async with _store(server) as store:
        with pytest.raises(KeyError) as caught:
            await _run(store, fail)
        assert caught.value is error
        assert (server.connections[0].said, server.connections[0].closed) == (["BEGIN 7"], True)
        await _run(store, lambda one: one.execute("work"))
    assert server.connections[1].said == ["BEGIN 7", "work", "COMMIT"]


async def test_a_transaction_whose_connection_was_lost_while_idle_gets_a_new_one() -> None:
    """Losing it shows at the beginning, when nothing was done; it is not lost on the caller."""
    server = Server()
    async with _store(server) as store:
        await _run(store, lambda one: one.execute("first"))
        server.connections[0].lost = True
        await _run(store, lambda one: one.execute("second"))
    assert server.connections[0].closed
    assert server.connections[1].said == ["BEGIN 7", "second", "COMMIT"]


async def test_a_transaction_lost_in_its_midst_is_not_repeated() -> None:
    """Once its work has begun, a lost connection is the caller's to hear of."""
    server = Server()
    attempts: list[Connection] = []

    def work(connection: Connection) -> None:
        attempts.append(connection)
        connection.lost = True
        connection.execute("work")

    async with _store(server) as store:
        with pytest.raises(LedgerIOError):
            await _run(store, work)
    assert len(attempts) == 1


async def test_a_lost_commit_is_unknown() -> None:
    """A commit that does not say whether it took effect is `AppendUnknown`."""
    server = Server(commit_fails=True)
    async with _store(server) as store:
        with pytest.raises(AppendUnknown):
            await _run(store, lambda _: None)
    assert server.connections[0].closed


async def test_a_closed_store_runs_no_transaction() -> None:
    """After closing, transactions are `LedgerClosed`, and the connections of late ones close."""
    server = Server()
    begun, over = threading.Event(), threading.Event()

    def work(_: Connection) -> None:
        begun.set()
        over.wait()

    async with trio.open_nursery() as nursery:
        async with _store(server) as store:
            nursery.start_soon(_run, store, work)
            await trio.to_thread.run_sync(begun.wait)
        with pytest.raises(LedgerClosed):
            await _run(store, work)
        over.set()
    assert server.connections[0].said == ["BEGIN 7", "COMMIT"]
    assert server.connections[0].closed


async def test_a_read_on_a_lost_connection_is_made_again() -> None:
    """Where idle connections were lost all are dropped, and the read gets a new one."""
    server = Server()
    both = threading.Barrier(2)

    def read(connection: Connection) -> None:
        connection.execute("read")
        both.wait()

    async with _store(server) as store:
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(store._parts.readers.run, read)
        for connection in server.connections:
            connection.lost = True
        assert (await store.head("s")).sequence == 0
        assert [one.closed for one in server.connections] == [True, True, False]


async def test_a_read_that_finds_nobody_is_tried_once_more_only() -> None:
    """Where the new connection is lost too, the read fails with what that means."""
    server = Server()
    async with _store(server) as store:
        await store.head("s")
        server.connections[0].lost = server.down = True
        with pytest.raises(LedgerUnavailable):
            await store.head("s")
        assert [one.closed for one in server.connections] == [True, True]
        server.down = False
        assert (await store.head("s")).sequence == 0


async def test_a_read_that_fails_otherwise_is_not_repeated() -> None:
    """An error on a connection that is not lost comes out at once; only that one is closed."""
    server = Server()
    attempts: list[Connection] = []

    def fail(connection: Connection) -> None:
        attempts.append(connection)
        raise KeyError

    async with _store(server) as store:
        await store.head("s")
        with pytest.raises(KeyError):
            await store._parts.readers.run(fail)
    assert [attempt.closed for attempt in attempts] == [True]
