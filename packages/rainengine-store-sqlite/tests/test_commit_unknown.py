"""COMMIT fails and does not say whether it took effect."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from rainengine.core.abc import LeaseChange
from rainengine.core.errors import AppendUnknown, SequenceConflict
from rainengine.core.records import CancelRequest, Head, NewRecord
from rainengine.store_sql import SqlLedgerStore, StoreSettings, open_store
from rainengine.store_sqlite import SqliteDialect, open_sqlite_ledger

RECORD = NewRecord(CancelRequest(reason="enough"), 0)
FIRST = NewRecord(CancelRequest(reason="first"), 0)
OTHER = NewRecord(CancelRequest(reason="other"), 0)


def _error(text: str, name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = getattr(sqlite3, name)
    error.sqlite_errorname = name
    return error


class Failing(sqlite3.Connection):
    """A connection whose COMMIT reports a failed fsync, before or after it has taken effect.

    `plan` says what becomes of the next commits: what SQLite is really told, or None for
    a commit that goes well. `meanwhile` is what happens before a failure is reported.
    After that, `absences` connections cannot be opened. All is shared by all connections.
    """

    plan: list[str | None]
    meanwhile: Callable[[], object]
    absences: list[None]
    failed: list[None]

    def __init__(self, *args: Any, **options: Any) -> None:
        if self.failed and self.absences:
            self.absences.pop()
            raise _error("unable to open database file", "SQLITE_CANTOPEN")
        super().__init__(*args, **options)

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        instead = self.plan.pop(0) if sql == "COMMIT" and self.plan else None
        if instead is None:
            return super().execute(sql, *parameters)
        super().execute(instead)
        self.meanwhile()
        self.failed.append(None)
        raise _error("disk I/O error", "SQLITE_IOERR_FSYNC")


@asynccontextmanager
async def _store(
    path: Path,
    *plan: str | None,
    meanwhile: Callable[[], object] = lambda: None,
    absences: int = 0,
    settle_for_s: float = 0,
) -> AsyncGenerator[SqlLedgerStore]:
    async with open_sqlite_ledger(path):
        pass
    fate = {
        "plan": list(plan),
        "meanwhile": staticmethod(meanwhile),
        "absences": [None] * absences,
        "failed": [],
    }
    connect = partial(
        sqlite3.connect,
        path,
        isolation_level=None,
        check_same_thread=False,
        factory=type("Planned", (Failing,), fate),
    )
    async with open_store(
        SqliteDialect(),
        connect_writer=connect,
        connect_reader=connect,
        settings=StoreSettings(),
        settle_for_s=settle_for_s,
    ) as store:
        yield store


@pytest.mark.parametrize("really", ["COMMIT", "ROLLBACK"])
async def test_an_append_is_stored_once_either_way(tmp_path: Path, really: str) -> None:
    """Whether the lost commit took effect or not, each append of its batch stands once."""
    async with _store(tmp_path / "x.db", really) as ledger:
        async with trio.open_nursery() as nursery:
            for n in range(3):
                nursery.start_soon(partial(ledger.append, f"s{n}", [RECORD] * 2, expected=None))
        done = await ledger.append("s0", [RECORD], expected=await ledger.head("s0"))
        heads = [(await ledger.head(f"s{n}")).sequence for n in range(3)]
        assert (heads, done.first_sequence) == ([3, 2, 2], 3)


def _somebody_else(path: Path) -> Callable[[], None]:
    """Somebody who appends to session `s` through a store of its own."""

    async def append() -> None:
        async with open_sqlite_ledger(path) as ledger:
            await ledger.append("s", [OTHER], expected=None)

    return lambda: trio.run(append)


@pytest.mark.parametrize("upon", ["a head", "any head"])
async def test_what_was_lost_to_somebody_else_is_not_reported_as_stored(
    tmp_path: Path, upon: str
) -> None:
    """Somebody appends after a lost commit that took no effect, before it is sent again.

    What was decided upon the head before is refused and not stored, and intake comes behind.
    """
    path = tmp_path / "x.db"
    async with _store(path, None, "ROLLBACK", meanwhile=_somebody_else(path)) as ledger:
        first = await ledger.append("s", [FIRST], expected=None)
        if upon == "a head":
            with pytest.raises(SequenceConflict) as caught:
                await ledger.append("s", [RECORD] * 2, expected=first.head)
            assert (caught.value.expected, caught.value.actual) == (1, 2)
            assert await _reasons(ledger) == ["first", "other"]
        else:
            done = await ledger.append("s", [RECORD] * 2, expected=None)
            assert (done.first_sequence, done.head) == (3, await ledger.head("s"))
            assert await _reasons(ledger) == ["first", "other", "enough", "enough"]


@pytest.mark.parametrize("upon", ["a head", "any head"])
async def test_what_was_stored_is_found_below_somebody_elses(tmp_path: Path, upon: str) -> None:
    """A lost commit that did take effect is found although somebody has appended behind it."""
    path = tmp_path / "x.db"
    async with _store(path, None, "COMMIT", meanwhile=_somebody_else(path)) as ledger:
        first = await ledger.append("s", [FIRST], expected=None)
        expected = first.head if upon == "a head" else None
        done = await ledger.append("s", [RECORD] * 2, expected=expected)
        assert (done.first_sequence, done.head.sequence) == (2, 3)
        assert await _reasons(ledger) == ["first", "enough", "enough", "other"]


async def _reasons(ledger: SqlLedgerStore) -> list[str]:
    records = [stored.record for stored in await ledger.read("s")]
    return [record.reason for record in records if isinstance(record, CancelRequest)]


@pytest.mark.parametrize("really", ["COMMIT", "ROLLBACK"])
async def test_a_lease_is_taken_either_way(tmp_path: Path, really: str) -> None:
    """An acquisition in a lost commit is answered with a fence that is good."""
    async with _store(tmp_path / "x.db", None, really) as ledger:
        take = LeaseChange("take", "me", 60_000)
        first = await ledger.append("s", [RECORD], expected=None, lease=take)
        again = await ledger.append("s", [], expected=first.head, fence=first.fence, lease=take)
        assert again.fence == (await ledger.lease_of("s")).fence == 2
        done = await ledger.append("s", [RECORD], expected=first.head, fence=again.fence)
        assert done.head.sequence == 2


async def test_refusals_in_a_lost_batch_stay_refusals(tmp_path: Path) -> None:
    """An append that was refused in the lost batch is told so."""
    async with _store(tmp_path / "x.db", "COMMIT") as ledger:

        async def refused() -> None:
            with pytest.raises(SequenceConflict):
                await ledger.append("a", [RECORD], expected=Head(5, b"\1" * 32))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused)
            nursery.start_soon(partial(ledger.append, "b", [RECORD], expected=None))
        assert [(await ledger.head(name)).sequence for name in ("a", "b")] == [0, 1]


async def test_a_disk_that_never_answers_leaves_the_append_unknown(tmp_path: Path) -> None:
    """Where sending it again fails in the same way, the append is `AppendUnknown`."""
    async with _store(tmp_path / "x.db", "ROLLBACK", "ROLLBACK") as ledger:
        with pytest.raises(AppendUnknown, match="load the session again"):
            await ledger.append("s", [RECORD], expected=None)
        assert (await ledger.append("s", [RECORD], expected=None)).head.sequence == 1


@pytest.mark.parametrize("really", ["COMMIT", "ROLLBACK"])
async def test_a_database_that_is_away_for_a_while_is_asked_again(
    tmp_path: Path, really: str
) -> None:
    """For `settle_for_s` seconds, what became of a lost commit is asked for until it is known."""
    path = tmp_path / "x.db"
    async with _store(path, really, "ROLLBACK", absences=3, settle_for_s=60) as ledger:
        async with trio.open_nursery() as nursery:
            for n in range(3):
                nursery.start_soon(partial(ledger.append, f"s{n}", [RECORD] * 2, expected=None))
        assert [(await ledger.head(f"s{n}")).sequence for n in range(3)] == [2, 2, 2]


async def test_a_database_that_stays_away_leaves_the_append_unknown(tmp_path: Path) -> None:
    """Once `settle_for_s` seconds are over, the append is `AppendUnknown`."""
    path = tmp_path / "x.db"
    async with _store(path, "ROLLBACK", absences=10_000, settle_for_s=0.12) as ledger:
        with pytest.raises(AppendUnknown, match="unable to open"):
            await ledger.append("s", [RECORD], expected=None)


@pytest.mark.parametrize("again", ["COMMIT", "ROLLBACK"])
async def test_intake_whose_second_commit_is_lost_too_is_stored_once(
    tmp_path: Path, again: str
) -> None:
    """Sent again behind somebody else's and lost again, an append is neither doubled nor dropped.

    The first commit took no effect and somebody appends, so that it is sent at a new head.
    """
    others: list[Callable[[], object]] = [_somebody_else(tmp_path / "x.db")]
    store = _store(
        tmp_path / "x.db",
        *("ROLLBACK", again),
        meanwhile=lambda: others.pop()() if others else None,
        settle_for_s=60,
    )
    async with store as ledger:
        done = await ledger.append("s", [RECORD] * 2, expected=None)
        assert (done.first_sequence, done.head) == (2, await ledger.head("s"))
        assert await _reasons(ledger) == ["other", "enough", "enough"]
