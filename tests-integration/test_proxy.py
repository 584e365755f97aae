"""The proxy that loses connections does so where it says, and is not noticed elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import psycopg
import pytest
import trio

from testbed.proxy import (
    Fault,
    Proxy,
    black_hole,
    cut_answer,
    held_answer,
    late_request,
    lose_answer,
    lose_request,
    open_proxy,
    swallow_answer,
)

INSERT = "INSERT INTO seen VALUES (%s)"


async def _on(url: str, work: Callable[[psycopg.Connection], object]) -> object:
    def connected() -> object:
        with psycopg.connect(url, autocommit=True) as connection:
            return work(connection)

    return await trio.to_thread.run_sync(connected)


async def _count(url: str) -> object:
    return await _on(url, lambda c: c.execute("SELECT count(*)::int FROM seen").fetchone())


async def _insert(proxy: Proxy, times: int = 1) -> object:
    def work(connection: psycopg.Connection) -> None:
        for n in range(times):
            connection.execute(INSERT, (n,))

    return await _on(proxy.url, work)


@pytest.fixture
async def table(postgres_url: str) -> str:
    """A database with a table."""
    await _on(postgres_url, lambda c: c.execute("CREATE TABLE seen (n int)"))
    return postgres_url


async def test_nothing_is_changed_where_nothing_is_armed(table: str) -> None:
    """Statements, prepared ones and notifications pass."""
    async with open_proxy(table) as proxy:
        await _insert(proxy, 20)
        assert await _count(proxy.url) == (20,)

        def listen(connection: psycopg.Connection) -> object:
            connection.execute("LISTEN here")
            with psycopg.connect(table, autocommit=True) as other:
                other.execute("NOTIFY here, 'now'")
            return [note.payload for note in connection.notifies(timeout=30, stop_after=1)]

        assert await _on(proxy.url, listen) == ["now"]


@pytest.mark.parametrize(
    ("fault", "stored"), [(lose_request, 2), (lose_answer, 3), (cut_answer, 3)]
)
async def test_a_connection_is_cut_before_or_after(table: str, fault: Fault, stored: int) -> None:
    """The statement that is hit fails at the client, and has or has not reached the server."""
    async with open_proxy(table) as proxy:
        await _insert(proxy, 2)
        proxy.arm(fault, on="INSERT INTO seen")
        with pytest.raises(psycopg.OperationalError):
            await _insert(proxy)
        assert not proxy.armed
        assert await _count(proxy.url) == (stored,)


async def test_a_fault_hits_a_prepared_statement_by_its_text(table: str) -> None:
    """Of a statement that was prepared long before, only the name travels."""
    async with open_proxy(table) as proxy:

        def work(connection: psycopg.Connection) -> None:
            for n in range(10):
                connection.execute(INSERT, (n,))
            trio.from_thread.run_sync(proxy.arm, lose_answer, "INSERT INTO seen")
            connection.execute(INSERT, (10,))

        with pytest.raises(psycopg.OperationalError):
            await _on(proxy.url, work)
        assert await _count(table) == (11,)


async def test_a_request_comes_late(table: str) -> None:
    """What was lost at the client can still reach the server when nobody reckons with it."""
    until, done = trio.Event(), trio.Event()
    async with open_proxy(table) as proxy:
        proxy.arm(late_request(until, done=done), on="INSERT INTO seen")
        with pytest.raises(psycopg.OperationalError):
            await _insert(proxy)
        assert await _count(proxy.url) == (0,)
        until.set()
        await done.wait()
        assert await _count(proxy.url) == (1,)


async def test_an_answer_is_held(table: str) -> None:
    """The client waits for what the server did long ago."""
    until = trio.Event()
    async with open_proxy(table) as proxy, trio.open_nursery() as nursery:
        proxy.arm(held_answer(until), on="INSERT INTO seen")
        nursery.start_soon(_insert, proxy)
        await proxy.struck()
        while await _count(table) != (1,):
            await trio.lowlevel.checkpoint()
        until.set()


@pytest.mark.parametrize(("fault", "stored"), [(black_hole, 0), (swallow_answer, 1)])
async def test_an_answer_never_comes(table: str, fault: Fault, stored: int) -> None:
    """The connection stays open and silent, until it is cut."""
    async with open_proxy(table) as proxy, trio.open_nursery() as nursery:
        proxy.arm(fault, on="INSERT INTO seen")
        failed = partial(pytest.raises, psycopg.OperationalError)

        async def insert() -> None:
            with failed():
                await _insert(proxy)

        nursery.start_soon(insert)
        await proxy.struck()
        while await _count(table) != (stored,):
            await trio.lowlevel.checkpoint()
        proxy.cut_all()
