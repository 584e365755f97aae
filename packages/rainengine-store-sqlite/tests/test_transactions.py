"""Transactions other than appends: alone on the writer's thread, between its batches."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
import trio.testing

from rainengine.core.abc import LeaseChange
from rainengine.core.errors import (
    AppendUnknown,
    FenceLost,
    LedgerBusy,
    LedgerClosed,
    LedgerError,
    LedgerFull,
    SequenceConflict,
    TransactionTimeout,
)
from rainengine.core.records import CancelRequest, Head, NewRecord
from rainengine.store_sql import LedgerStats, SqlLedgerStore, StoreSettings, Verdict, open_store
from rainengine.store_sql._drafts import Draft, draft_append
from rainengine.store_sqlite import SqliteDialect, open_sqlite_ledger

T = TypeVar("T")
RECORD = NewRecord(CancelRequest(reason="enough"), 0)
FOR_EVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


async def _run(ledger: SqlLedgerStore, work: Callable[[Any], T], timeout_s: float = 30) -> T:
    return await ledger._parts.transactor.run(work, timeout_s=timeout_s)


def _mark(connection: sqlite3.Connection) -> str:
    connection.execute("CREATE TABLE IF NOT EXISTS marks (n INTEGER)")
    connection.execute("INSERT INTO marks VALUES (1)")
    return "marked"


def _marks(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'marks'")
        if tables.fetchone() == (0,):
            return 0
        return int(connection.execute("SELECT count(*) FROM marks").fetchone()[0])


@asynccontextmanager
async def _writer_kept_busy(ledger: SqlLedgerStore) -> AsyncGenerator[None]:
    """Keep the writer in a transaction until the end of the block."""
    begun, over = threading.Event(), threading.Event()

    def wait(_: sqlite3.Connection) -> None:
        begun.set()
        over.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_run, ledger, wait)
        await trio.to_thread.run_sync(begun.wait)
        try:
            yield
        finally:
            over.set()


async def test_what_a_transaction_did_is_stored(tmp_path: Path) -> None:
    """A transaction is one commit, and its function's result is returned."""
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        assert await _run(ledger, _mark) == "marked"
        assert ledger.stats() == LedgerStats(commits=1, batches=0, appends=0, records=0)
        assert _marks(tmp_path / "x.db") == 1


@pytest.mark.parametrize(
    "error", [KeyError("mine"), SequenceConflict("s", 1, 2), SystemExit(3)], ids=repr
)
async def test_what_a_transaction_raises_rolls_it_back(
    tmp_path: Path, error: BaseException
) -> None:
    """The caller gets the very error, nothing is stored, and the writer goes on."""

    def fail(connection: sqlite3.Connection) -> None:
        _mark(connection)
        raise error

    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        with pytest.raises(type(error)) as caught:
            await _run(ledger, fail)
        assert caught.value is error
        assert (await ledger.append("s", [RECORD], expected=None)).head.sequence == 1
    assert _marks(tmp_path / "x.db") == 0


async def test_a_drivers_error_is_translated(tmp_path: Path) -> None:
    """What sqlite3 raises in a transaction comes out as the ledger's error, with its cause."""

    def fill(connection: sqlite3.Connection) -> None:
        _mark(connection)
        connection.execute("CREATE TABLE t AS SELECT zeroblob(999999)")

    async with open_sqlite_ledger(tmp_path / "x.db", max_page_count=40) as ledger:
        with pytest.raises(LedgerFull) as caught:
            await _run(ledger, fill)
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert _marks(tmp_path / "x.db") == 0


async def test_a_transaction_that_takes_too_long_is_interrupted(tmp_path: Path) -> None:
    """After `timeout_s` the statement under way fails and nothing is stored; others are not."""

    def take_for_ever(connection: sqlite3.Connection) -> None:
        _mark(connection)
        connection.execute(FOR_EVER).fetchone()

    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        with pytest.raises(TransactionTimeout, match="do less"):
            await _run(ledger, take_for_ever, timeout_s=0.02)
        assert (await ledger.append("s", [RECORD] * 999, expected=None)).head.sequence == 999
    assert _marks(tmp_path / "x.db") == 0


async def test_a_deadline_ends_with_its_transaction(tmp_path: Path) -> None:
    """What the writer does after a transaction is not interrupted by its deadline."""
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        await _run(ledger, _mark, timeout_s=0)
        many = [RECORD] * 999
        assert (await ledger.append("s", many, expected=None)).head.sequence == 999


async def test_appends_and_transactions_take_turns(tmp_path: Path) -> None:
    """While both wait, one transaction is done after each batch; each kind keeps its order."""
    seen: list[tuple[int, int]] = []

    def look(connection: sqlite3.Connection, number: int) -> None:
        heads = connection.execute("SELECT max(head) FROM rainengine_sessions").fetchone()
        seen.append((number, heads[0]))

    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        async with trio.open_nursery() as nursery, _writer_kept_busy(ledger):
            for number in range(3):
                nursery.start_soon(_run, ledger, partial(look, number=number))
                await trio.testing.wait_all_tasks_blocked()
            for _ in range(5):
                nursery.start_soon(partial(ledger.append, "s", [RECORD], expected=None))
            await trio.testing.wait_all_tasks_blocked()
        assert ledger.stats() == LedgerStats(commits=9, batches=5, appends=5, records=5)
    assert seen == [(0, 1), (1, 2), (2, 3)]


async def test_a_cancelled_transaction_is_waited_for(tmp_path: Path) -> None:
    """Once queued, a transaction is done; the cancellation comes after its result."""
    results: list[str] = []

    async def run(ledger: SqlLedgerStore, scope: trio.CancelScope) -> None:
        with scope:
            results.append(await _run(ledger, _mark))
            await trio.lowlevel.checkpoint()

    scope = trio.CancelScope()
    async with (
        open_sqlite_ledger(tmp_path / "x.db") as ledger,
        trio.open_nursery() as nursery,
        _writer_kept_busy(ledger),
    ):
        nursery.start_soon(run, ledger, scope)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert results == []
    assert (results, scope.cancelled_caught) == (["marked"], True)
    assert _marks(tmp_path / "x.db") == 1


async def test_a_transaction_cancelled_before_it_is_queued_is_not_done(tmp_path: Path) -> None:
    """In a scope that is cancelled already nothing is done."""
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        with trio.CancelScope() as scope:
            scope.cancel()
            await _run(ledger, _mark)
    assert scope.cancelled_caught
    assert _marks(tmp_path / "x.db") == 0


async def test_closing_does_what_is_queued(tmp_path: Path) -> None:
    """Leaving the block while transactions wait does them first; later ones are refused."""
    async with trio.open_nursery() as nursery, open_sqlite_ledger(tmp_path / "x.db") as ledger:
        for _ in range(3):
            nursery.start_soon(_run, ledger, _mark)
        await trio.testing.wait_all_tasks_blocked()
    assert _marks(tmp_path / "x.db") == 3
    with pytest.raises(LedgerClosed):
        await _run(ledger, _mark)


async def test_a_transaction_that_hangs_is_given_up(tmp_path: Path) -> None:
    """What the writer has begun is `AppendUnknown`, what it has not is taken back for good."""
    settings = StoreSettings(append_timeout_s=0.05)
    raised: dict[str, type[LedgerError]] = {}
    begun, over = threading.Event(), threading.Event()

    def hang(_: sqlite3.Connection) -> None:
        begun.set()
        over.wait()

    async def run(name: str, work: Callable[[Any], object]) -> None:
        try:
            await _run(ledger, work)
        except LedgerError as error:
            raised[name] = type(error)

    async with open_sqlite_ledger(tmp_path / "x.db", settings=settings) as ledger:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, "begun", hang)
            await trio.to_thread.run_sync(begun.wait)
            nursery.start_soon(run, "waiting", _mark)
        over.set()
        assert (await ledger.append("s", [RECORD], expected=None)).head.sequence == 1
    assert raised == {"begun": AppendUnknown, "waiting": LedgerBusy}
    assert _marks(tmp_path / "x.db") == 0


@pytest.mark.parametrize("really", ["COMMIT", "ROLLBACK"])
async def test_a_lost_commit_leaves_a_transaction_unknown(tmp_path: Path, really: str) -> None:
    """Where COMMIT fails without an answer, the transaction is `AppendUnknown` and not repeated."""
    plan = [really]

    class Failing(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if sql != "COMMIT" or not plan:
                return super().execute(sql, *parameters)
            super().execute(plan.pop())
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error

    connect = partial(
        sqlite3.connect,
        tmp_path / "x.db",
        isolation_level=None,
        check_same_thread=False,
        factory=Failing,
    )
    async with open_sqlite_ledger(tmp_path / "x.db"):
        pass
    async with open_store(
        SqliteDialect(), connect_writer=connect, connect_reader=connect, settings=StoreSettings()
    ) as ledger:
        with pytest.raises(AppendUnknown, match="once the storage is back"):
            await _run(ledger, _mark)
        assert _marks(tmp_path / "x.db") == (really == "COMMIT")
        await _run(ledger, _mark)


def _draft(*, expected: Head | None = None, fence: int | None = None, **how: Any) -> Draft:
    options = {"lease": None, "index": None, "outbox": (), "now_ms": 0, "cap": 1000, **how}
    return draft_append(("default", "s"), [RECORD], expected=expected, fence=fence, **options)


async def test_an_append_within_a_transaction_shares_its_fate(tmp_path: Path) -> None:
    """`append_within` stores with the transaction, sees what it wrote itself, or nothing stays."""
    dialect = SqliteDialect()

    def append_twice(connection: sqlite3.Connection) -> list[Verdict]:
        return [dialect.append_within(connection, _draft()) for _ in range(2)]

    def append_and_fail(connection: sqlite3.Connection) -> None:
        append_twice(connection)
        raise KeyError

    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        with pytest.raises(KeyError):
            await _run(ledger, append_and_fail)
        assert (await ledger.head("s")).sequence == 0
        verdicts = await _run(ledger, append_twice)
        assert [verdict.appended.head.sequence for verdict in verdicts] == [1, 2]  # type: ignore[union-attr]
        assert verdicts[1].appended.head == await ledger.head("s")  # type: ignore[union-attr]


async def test_an_append_within_a_transaction_is_judged(tmp_path: Path) -> None:
    """`append_within` returns the refusals of an append, and writes nothing then."""
    dialect = SqliteDialect()
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        done = await ledger.append("s", [RECORD], expected=None)
        refused = await _run(
            ledger,
            lambda one: [
                dialect.append_within(one, _draft(expected=Head(5, b"\1" * 32))),
                dialect.append_within(one, _draft(fence=7)),
            ],
        )
        assert [type(verdict) for verdict in refused] == [SequenceConflict, FenceLost]
        assert await ledger.head("s") == done.head


async def test_appends_see_what_a_transaction_made_of_their_session(tmp_path: Path) -> None:
    """The rows that the writer remembers give way to what a transaction has written."""
    take = LeaseChange("take", "me", 60_000)
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        first = await ledger.append("s", [RECORD], expected=None)
        dialect = ledger._parts.dialect
        taken = _draft(expected=first.head, lease=take)
        await _run(ledger, lambda one: dialect.append_within(one, taken))
        with pytest.raises(SequenceConflict):
            await ledger.append("s", [RECORD], expected=first.head, fence=1)
        done = await ledger.append("s", [RECORD], expected=await ledger.head("s"), fence=1)
        assert (done.head.sequence, done.fence) == (3, 1)
