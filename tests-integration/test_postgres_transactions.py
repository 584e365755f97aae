"""Skills' transactions on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from operator import methodcaller
from typing import Any

import psycopg
import pytest
import trio

from rainengine.core.abc import Enclosed
from rainengine.core.errors import LedgerUnavailable, TransactionMisused
from rainengine.core.records import CancelRequest, NewRecord
from rainengine.core.testing import TRANSACTION_CHECKS, LedgerCheck, LedgerMaker
from rainengine.store_pg import PostgresSettings, open_postgres_ledger
from rainengine.store_sql import SqlLedgerStore
from testbed.ledgers import EmptyLedgers, PostgresMaker

POOLER = PostgresSettings(pooler=True)
ONE = PostgresSettings(transaction_connections=1)
RECORD = NewRecord(CancelRequest(reason="enough"), 0)


@pytest.fixture(scope="module", params=["two handles", "pooler"])
def maker(request: pytest.FixtureRequest, empty_ledgers: EmptyLedgers) -> Iterator[LedgerMaker]:
    """One database for all checks: each works under a new tenant."""
    with empty_ledgers.copied() as url:
        settings = POOLER if request.param == "pooler" else PostgresSettings()
        yield PostgresMaker(url=url, settings=settings)


@pytest.mark.parametrize("check", TRANSACTION_CHECKS, ids=lambda check: check.__name__)
async def test_postgres_keeps_the_contract(check: LedgerCheck, maker: LedgerMaker) -> None:
    """Every check of the contract of transactions holds on PostgreSQL."""
    await check(maker)


# What PostgreSQL cannot refuse.

SCHEMA = """
CREATE TABLE plain (n INTEGER PRIMARY KEY);
CREATE TABLE child (n INTEGER REFERENCES plain DEFERRABLE INITIALLY DEFERRED)
"""


@asynccontextmanager
async def _ledger(url: str, settings: PostgresSettings = ONE) -> AsyncGenerator[SqlLedgerStore]:
    async with open_postgres_ledger(url, settings=settings) as ledger:
        await trio.to_thread.run_sync(_run, url, SCHEMA)
        yield ledger


def _run(url: str, statement: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


async def _plain(url: str) -> int:
    rows = await trio.to_thread.run_sync(_run, url, "SELECT count(*) FROM plain")
    return int(rows[0][0])


async def _lend(ledger: SqlLedgerStore, work: Callable[[psycopg.Connection], object]) -> int:
    """Lend a connection to `work`, which finds a row in `plain`, and append a record."""

    def enclose(connection: psycopg.Connection) -> Enclosed:
        connection.execute("INSERT INTO plain VALUES (1)")
        work(connection)
        return Enclosed(records=[RECORD])

    return (await ledger.transact("s", enclose, expected=None, timeout_s=30)).head.sequence


def _statements(*statements: bytes) -> Callable[[psycopg.Connection], None]:
    def run(connection: psycopg.Connection) -> None:
        for statement in statements:
            connection.execute(statement)

    return run


def _fail_after(connection: psycopg.Connection) -> None:
    connection.execute(b"COMMIT")
    raise KeyError("mine")


def _fail_after_beginning(connection: psycopg.Connection) -> None:
    _statements(b"COMMIT", b"BEGIN")(connection)
    raise KeyError("mine")


@pytest.mark.parametrize(
    "work",
    [
        _statements(b"COMMIT"),
        _statements(b"COMMIT", b"BEGIN"),
        _statements(b"COMMIT AND CHAIN"),
        _fail_after,
        _fail_after_beginning,
    ],
)
async def test_a_transaction_that_sql_has_ended_is_doubtful(
    ledger_url: str, work: Callable[[psycopg.Connection], object]
) -> None:
    """SQL that ends the transaction is found out, and what it stored is not called undone."""
    async with _ledger(ledger_url) as ledger:
        with pytest.raises(TransactionMisused, match="ended the transaction") as caught:
            await _lend(ledger, work)
        assert not caught.value.undone
        assert ((await ledger.head("s")).sequence, await _plain(ledger_url)) == (0, 1)


@pytest.mark.parametrize("how", ["commit", "rollback"])
async def test_psycopg_ends_no_transaction(ledger_url: str, how: str) -> None:
    """The driver's own ways are refused, and everything is undone; so is `with connection`."""

    def enter(connection: psycopg.Connection) -> None:
        with connection:
            if how == "rollback":
                raise KeyError("mine")

    async with _ledger(ledger_url) as ledger:
        for work in (methodcaller(how), enter):
            with pytest.raises(TransactionMisused) as caught:
                await _lend(ledger, work)
            assert caught.value.undone
            assert ((await ledger.head("s")).sequence, await _plain(ledger_url)) == (0, 0)


async def test_blocks_of_psycopg_nest(ledger_url: str) -> None:
    """`connection.transaction()` is a savepoint, whose failure undoes no more than the block."""

    def nest(connection: psycopg.Connection) -> None:
        with suppress(KeyError), connection.transaction():
            connection.execute("INSERT INTO plain VALUES (2)")
            raise KeyError("mine")

    async with _ledger(ledger_url) as ledger:
        assert await _lend(ledger, nest) == 1
        assert await _plain(ledger_url) == 1


async def test_a_failure_that_is_ignored_undoes_everything(ledger_url: str) -> None:
    """A statement that fails ends a transaction on PostgreSQL, whatever the function returns."""

    def ignore(connection: psycopg.Connection) -> None:
        with suppress(psycopg.Error):
            connection.execute("INSERT INTO plain VALUES (1)")

    async with _ledger(ledger_url) as ledger:
        with pytest.raises(TransactionMisused, match="a failed statement") as caught:
            await _lend(ledger, ignore)
        assert (caught.value.undone, await _plain(ledger_url)) == (True, 0)


async def test_what_is_put_off_is_checked_as_the_functions_own(ledger_url: str) -> None:
    """A deferred constraint that does not hold is no failure of the ledger."""
    async with _ledger(ledger_url) as ledger:
        with pytest.raises(TransactionMisused, match="child_n_fkey") as caught:
            await _lend(ledger, _statements(b"INSERT INTO child VALUES (9)"))
        assert (caught.value.undone, await _plain(ledger_url)) == (True, 0)


async def test_a_connection_is_as_new_for_the_next(ledger_url: str) -> None:
    """Settings, temporary tables and locks of a function are gone for the next one."""
    traces = [
        b"SET lock_timeout = 7",
        b"CREATE TEMPORARY TABLE traces (n INTEGER)",
        b"SELECT pg_advisory_lock(7)",
        b"DELETE FROM plain",
    ]
    found: list[Any] = []

    def look(connection: psycopg.Connection) -> None:
        locks = b"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        questions = (b"SHOW lock_timeout", b"SELECT to_regclass('traces')", locks)
        found.extend([connection.execute(question).fetchone() for question in questions])
        found.append(connection.info.backend_pid)

    async with _ledger(ledger_url) as ledger:
        await _lend(ledger, lambda one: (look(one), _statements(*traces)(one)))
        await _lend(ledger, look)
    assert found[:4] == found[4:]


@pytest.mark.parametrize("ignoring", [nullcontext, partial(suppress, psycopg.Error)])
async def test_a_connection_that_is_lost_is_the_ledgers_failure(
    ledger_url: str, ignoring: Callable[[], Any]
) -> None:
    """Where the server ends the connection, the function is not to blame; the next one works."""

    def be_ended(connection: psycopg.Connection) -> None:
        _run(ledger_url, f"SELECT pg_terminate_backend({connection.info.backend_pid}, 10000)")
        with ignoring():
            connection.execute("SELECT 1")

    async with _ledger(ledger_url) as ledger:
        with pytest.raises(LedgerUnavailable):
            await _lend(ledger, be_ended)
        assert (await _plain(ledger_url), await _lend(ledger, _statements())) == (0, 1)
