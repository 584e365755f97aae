"""Transactions whose statements are a skill's: what SQLite keeps them from."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from rainengine.core.abc import Enclosed
from rainengine.core.errors import (
    AppendUnknown,
    SequenceConflict,
    TransactionMisused,
    TransactionTimeout,
)
from rainengine.core.records import CancelRequest, Head, NewRecord
from rainengine.core.testing import TRANSACTION_CHECKS, LedgerCheck, ScriptedClock
from rainengine.store_sql import LedgerStats, SqlLedgerStore, StoreSettings, open_store
from rainengine.store_sqlite import SqliteDialect, open_sqlite_ledger

RECORD = NewRecord(CancelRequest(reason="enough"), 0)
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
FILL = "CREATE TABLE large AS SELECT zeroblob(999999)"


@attrs.frozen
class Maker:
    """Opens one database again and again."""

    path: Path
    clock: ScriptedClock = attrs.field(factory=ScriptedClock)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[SqlLedgerStore]:
        async with open_sqlite_ledger(self.path, clock=self.clock) as store:
            yield store

    async def let_pass(self, ms: int) -> None:
        self.clock.jump(ms)


@pytest.mark.parametrize("check", TRANSACTION_CHECKS, ids=lambda check: check.__name__)
async def test_contract(check: LedgerCheck, tmp_path: Path) -> None:
    """Every check of the contract of transactions holds on SQLite."""
    await check(Maker(tmp_path / "x.db"))


# What SQLite can refuse.

SCHEMA = """
CREATE TABLE plain (n INTEGER PRIMARY KEY);
CREATE TABLE child (n INTEGER REFERENCES plain (n));
CREATE TABLE sly (n INTEGER);
CREATE TRIGGER slyly AFTER INSERT ON sly BEGIN UPDATE rainengine_sessions SET fence = 0; END;
CREATE TABLE brittle (n INTEGER PRIMARY KEY ON CONFLICT ROLLBACK);
"""


@asynccontextmanager
async def _ledger(path: Path, **settings: Any) -> AsyncIterator[SqlLedgerStore]:
    async with open_sqlite_ledger(path, **settings) as ledger:
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(SCHEMA)
        yield ledger


async def _lend(
    ledger: SqlLedgerStore,
    work: Callable[[sqlite3.Connection], object],
    *,
    expected: Head | None = None,
    timeout_s: float = 30,
) -> int:
    """Lend a connection to `work` and append a record; return the new sequence."""

    def enclose(connection: sqlite3.Connection) -> Enclosed:
        work(connection)
        return Enclosed(records=[RECORD])

    done = await ledger.transact("s", enclose, expected=expected, timeout_s=timeout_s)
    return done.head.sequence


def _rows(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def _statement(*statements: str) -> Callable[[sqlite3.Connection], None]:
    def run(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO plain VALUES (1)")
        for statement in statements:
            connection.execute(statement)

    return run


def _ignored(statement: str) -> Callable[[sqlite3.Connection], None]:
    def run(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO plain VALUES (1)")
        with suppress(sqlite3.DatabaseError):
            connection.execute(statement)

    return run


REFUSED = [
    ("COMMIT", "tried COMMIT"),
    ("END TRANSACTION", "tried COMMIT"),
    ("ROLLBACK", "tried ROLLBACK"),
    ("BEGIN", "tried BEGIN"),
    ("ATTACH ':memory:' AS other", "tried ATTACH"),
    ("DETACH main", "tried DETACH"),
    ("PRAGMA synchronous = OFF", "tried PRAGMA synchronous"),
    ("PRAGMA writable_schema = ON", "tried PRAGMA writable_schema"),
    ("DELETE FROM rainengine_outbox", "change rainengine_outbox"),
    ("UPDATE main.RAINENGINE_sessions SET fence = 0", "change rainengine_sessions"),
    ("INSERT INTO rainengine_schema VALUES ('x')", "change rainengine_schema"),
    ("REPLACE INTO rainengine_schema VALUES ('x')", "change rainengine_schema"),
    ("DROP TABLE rainengine_records", "change rainengine_records"),
    ("ALTER TABLE rainengine_skills ADD COLUMN more", "change rainengine_skills"),
    ("CREATE TABLE rainengine_mine (n)", "change rainengine_mine"),
    ("CREATE INDEX mine ON rainengine_records (kind)", "change rainengine_records"),
    (
        "CREATE TRIGGER mine AFTER INSERT ON rainengine_records BEGIN SELECT 1; END",
        "change rainengine_records",
    ),
    ("DROP INDEX rainengine_records_outcome", "change rainengine_records_outcome"),
    ("INSERT INTO sly VALUES (1)", "change rainengine_sessions"),
]


@pytest.mark.parametrize(("statement", "told"), REFUSED, ids=[one for one, _ in REFUSED])
async def test_what_is_not_the_functions_to_do(tmp_path: Path, statement: str, told: str) -> None:
    """Such a statement fails, and undoes everything even where its failure is ignored."""
    async with _ledger(tmp_path / "x.db") as ledger:
        for work in (_statement(statement), _ignored(statement)):
            with pytest.raises(TransactionMisused, match=told) as caught:
                await _lend(ledger, work)
            assert caught.value.undone
            assert (await ledger.head("s")).sequence == 0
            assert _rows(tmp_path / "x.db", "plain") == 0


@pytest.mark.parametrize(
    "how",
    [
        lambda connection: connection.executescript("INSERT INTO plain VALUES (2)"),
        lambda connection: connection.__exit__(None, None, None),
        lambda connection: setattr(connection, "isolation_level", None),
    ],
    ids=["executescript", "with", "isolation_level"],
)
async def test_sqlite3_commits_nothing_behind_ones_back(
    tmp_path: Path, how: Callable[[sqlite3.Connection], object]
) -> None:
    """Methods of sqlite3 that commit on the side are refused."""

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO plain VALUES (1)")
        how(connection)

    async with _ledger(tmp_path / "x.db") as ledger:
        with pytest.raises(TransactionMisused, match="tried COMMIT"):
            await _lend(ledger, work)
        assert _rows(tmp_path / "x.db", "plain") == 0


@pytest.mark.parametrize(
    "statements",
    [
        ("SAVEPOINT a", "INSERT INTO plain VALUES (2)", "ROLLBACK TO a", "RELEASE a"),
        ("SAVEPOINT left_open",),
        ("PRAGMA defer_foreign_keys = ON", "INSERT INTO child VALUES (1)"),
        ("PRAGMA Table_Info(plain)",),
        ("CREATE TABLE more AS SELECT * FROM plain", "CREATE INDEX i ON more (n)"),
        ("CREATE TEMPORARY TABLE passing (n)", "INSERT INTO passing VALUES (1)"),
        ("SELECT count(*) FROM rainengine_sessions",),
        ("WITH one AS (SELECT 2) INSERT INTO plain SELECT * FROM one",),
    ],
)
async def test_what_a_function_may_do(tmp_path: Path, statements: tuple[str, ...]) -> None:
    """Savepoints, tables of its own, reading, and questions about the schema are allowed."""
    async with _ledger(tmp_path / "x.db") as ledger:
        assert await _lend(ledger, _statement(*statements)) == 1
    assert _rows(tmp_path / "x.db", "plain") >= 1


INSERT = "WITH one AS (SELECT ?) INSERT INTO plain SELECT * FROM one"


@pytest.mark.parametrize("insert", [INSERT, "INSERT INTO plain VALUES (?)"])
async def test_nothing_is_stored_outside_of_the_transaction(tmp_path: Path, insert: str) -> None:
    """A function that goes on after SQLite has rolled everything back stores nothing any more."""

    def go_on(connection: sqlite3.Connection) -> None:
        connection.execute(insert, (1,))
        connection.execute("INSERT INTO brittle VALUES (1)")
        with suppress(sqlite3.IntegrityError):
            connection.execute("INSERT INTO brittle VALUES (1)")
        assert not connection.in_transaction
        with suppress(sqlite3.DatabaseError):
            connection.execute(insert, (2,))

    async with _ledger(tmp_path / "x.db") as ledger:
        with pytest.raises(TransactionMisused, match="went on after an error"):
            await _lend(ledger, go_on)
    assert _rows(tmp_path / "x.db", "plain") == 0


async def test_an_interrupted_write_is_no_way_out(tmp_path: Path) -> None:
    """After its time is over, a function that ignores this stores nothing either."""

    def go_on(connection: sqlite3.Connection) -> None:
        with suppress(sqlite3.OperationalError):
            connection.execute(f"INSERT INTO brittle {ENDLESS}")
        with suppress(sqlite3.DatabaseError):
            connection.execute("INSERT INTO plain VALUES (1)")

    async with _ledger(tmp_path / "x.db") as ledger:
        with pytest.raises(TransactionTimeout):
            await _lend(ledger, go_on, timeout_s=0.02)
        assert _rows(tmp_path / "x.db", "plain") == 0
        assert await _lend(ledger, _statement()) == 1


async def test_a_function_that_returns_after_a_rollback(tmp_path: Path) -> None:
    """Without the transaction there is no append either."""

    def lose_it(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO brittle VALUES (1)")
        with suppress(sqlite3.IntegrityError):
            connection.execute("INSERT INTO brittle VALUES (1)")

    async with _ledger(tmp_path / "x.db") as ledger:
        with pytest.raises(TransactionMisused, match="rolled back everything"):
            await _lend(ledger, lose_it)
        assert (await ledger.head("s")).sequence == 0


async def test_what_rolled_everything_back_comes_out(tmp_path: Path) -> None:
    """A function that does not ignore SQLite's error has not misused anything."""
    async with _ledger(tmp_path / "x.db") as ledger:
        with pytest.raises(sqlite3.IntegrityError):
            await _lend(ledger, _statement(*["INSERT INTO brittle VALUES (1)"] * 2))


async def test_declared_foreign_keys_are_enforced(tmp_path: Path) -> None:
    """A row without its parent fails, at once or, where that is put off, in the end."""
    orphan = "INSERT INTO child VALUES (9)"
    async with _ledger(tmp_path / "x.db") as ledger:
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            await _lend(ledger, _statement(orphan))
        with pytest.raises(TransactionMisused, match="FOREIGN KEY"):
            await _lend(ledger, _statement("PRAGMA defer_foreign_keys = ON", orphan))
        assert ((await ledger.head("s")).sequence, _rows(tmp_path / "x.db", "plain")) == (0, 0)


async def test_the_connection_is_the_functions_alone(tmp_path: Path) -> None:
    """What is left on it, kept open on it or kept of it is gone with the transaction."""
    kept: list[sqlite3.Connection] = []

    def leave_traces(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TEMPORARY TABLE traces (n)")
        connection.create_function("upper", 1, lambda _: "mine")
        connection.text_factory = bytes
        connection.execute("SELECT 1 UNION SELECT 2").fetchone()
        kept.append(connection)

    async with _ledger(tmp_path / "x.db") as ledger:
        assert [await _lend(ledger, leave_traces) for _ in range(2)] == [1, 2]
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            kept[0].execute("SELECT 1")
        assert (await ledger.append("s", [RECORD], expected=None)).head.sequence == 3


async def test_a_full_disk_is_the_functions_error(tmp_path: Path) -> None:
    """Where the function's own statement finds no room, its error comes out."""
    async with _ledger(tmp_path / "x.db", max_page_count=60) as ledger:
        with pytest.raises(sqlite3.OperationalError, match="full"):
            await _lend(ledger, _statement(FILL))
        assert await _lend(ledger, _statement()) == 1


async def test_a_transaction_counts_as_an_append(tmp_path: Path) -> None:
    """The store's statistics count it as one commit, one append and its records."""
    async with _ledger(tmp_path / "x.db") as ledger:
        await _lend(ledger, _statement())
        assert ledger.stats() == LedgerStats(commits=1, batches=0, appends=1, records=1)


async def test_who_waits_is_told_at_once(tmp_path: Path) -> None:
    """Whoever waits for the session wakes with the transaction, and not by polling."""
    settings = StoreSettings(poll_s=3_600)
    async with _ledger(tmp_path / "x.db", settings=settings) as ledger:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ledger.wait_past, "s", 0)
                await wait_all_tasks_blocked(0.01)
                await _lend(ledger, _statement())


# COMMIT fails and does not say whether it took effect.


@pytest.mark.parametrize("really", ["COMMIT", "ROLLBACK"])
async def test_a_lost_commit_is_done_once(tmp_path: Path, really: str) -> None:
    """It is unknown; done again upon the same head, it is stored once, whatever became of it."""
    plan = [really]

    class Failing(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if sql != "COMMIT" or not plan:
                return super().execute(sql, *parameters)
            super().execute(plan.pop())
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error

    path = tmp_path / "x.db"
    connect = partial(sqlite3.connect, path, isolation_level=None, check_same_thread=False)

    def add(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO child VALUES (NULL)")

    async with (
        _ledger(path),
        open_store(
            SqliteDialect(),
            connect_writer=connect,
            connect_reader=connect,
            connect_lent=partial(connect, factory=Failing, cached_statements=0),
            settings=StoreSettings(),
        ) as ledger,
    ):
        head = await ledger.head("s")
        with pytest.raises(AppendUnknown):
            await _lend(ledger, add, expected=head)
        stored = really == "COMMIT"
        assert (_rows(path, "child"), (await ledger.head("s")).sequence) == (stored, stored)
        with pytest.raises(SequenceConflict) if stored else nullcontext():
            await _lend(ledger, add, expected=head)
        assert (_rows(path, "child"), (await ledger.head("s")).sequence) == (1, 1)
