"""The outbox in a file: what the contract of all stores cannot look at."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rainengine.core.abc import OutboxItem, OutboxReport
from rainengine.core.errors import AppendUnknown, LedgerCorrupt
from rainengine.core.records import CancelRequest, NewRecord
from rainengine.core.testing import ScriptedClock
from rainengine.store_sql import SqlLedgerStore, StoreSettings, open_store
from rainengine.store_sql._outbox import POSTPONED
from rainengine.store_sqlite import SqliteDialect, open_sqlite_ledger

RECORD = NewRecord(CancelRequest(reason="enough"), 0)
HOUR_MS = 3_600_000


async def _publish(ledger: SqlLedgerStore, session_id: str = "s", count: int = 1) -> None:
    items = [OutboxItem(topic="t", payload=n) for n in range(count)]
    await ledger.append(session_id, [RECORD], expected=None, outbox=items)


def _ask(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(query).fetchall()


async def test_a_claim_is_durable(tmp_path: Path) -> None:
    """A claim holds although its process has ended, and so does what was reported."""
    path, clock = tmp_path / "x.db", ScriptedClock()
    async with open_sqlite_ledger(path, clock=clock) as ledger:
        await _publish(ledger, count=2)
        (first,) = await ledger.claim("default", "s", claim_ms=HOUR_MS, limit=1)
    async with open_sqlite_ledger(path, clock=clock) as ledger:
        assert list(await ledger.claim("default", "s", claim_ms=HOUR_MS)) == []
        await ledger.settle([OutboxReport(entry=first, outcome="delivered")])
    async with open_sqlite_ledger(path, clock=clock) as ledger:
        (second,) = await ledger.claim("default", "s", claim_ms=HOUR_MS)
        assert (second.ordinal, second.attempts) == (1, 1)


async def test_what_waits_for_a_failed_row_is_not_looked_at_before_its_time(
    tmp_path: Path,
) -> None:
    """A failure moves the next rows of its topic behind it in time too, up to a number."""
    path, clock = tmp_path / "x.db", ScriptedClock()
    async with open_sqlite_ledger(path, clock=clock) as ledger:
        await _publish(ledger, count=POSTPONED + 10)
        await _publish(ledger, "other")
        (first, *_) = entries = await ledger.claim("default", "s", claim_ms=HOUR_MS)
        failed = OutboxReport(entry=first, outcome="failed", retry_in_ms=HOUR_MS)
        returned = [OutboxReport(entry=entry, outcome="returned") for entry in entries[1:]]
        await ledger.settle([failed, *returned])
        now_ms = clock.now_ms()
        early = f"SELECT session_id, ordinal FROM rainengine_outbox WHERE due_at_ms <= {now_ms}"
        ours = [(session_id, n) for session_id, n in _ask(path, early) if session_id == "s"]
        assert ours == [("s", n) for n in range(POSTPONED + 1, POSTPONED + 10)]
        assert [due.session_id for due in await ledger.due("outbox")] == ["other"]
        clock.jump(HOUR_MS)
        again = await ledger.claim("default", "s", claim_ms=HOUR_MS, limit=1000)
        assert [entry.ordinal for entry in again] == list(range(POSTPONED + 10))


DAMAGES = ["payload = '{'", "payload = x'00'", "sequence = 'one'", "due_at_ms = 'now'"]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_row_concerns_its_session_alone(tmp_path: Path, damage: str) -> None:
    """Where a row cannot be read its session's claims are `LedgerCorrupt`, and take nothing."""
    path = tmp_path / "x.db"
    async with open_sqlite_ledger(path) as ledger:
        await _publish(ledger)
        await _publish(ledger, "other")
        _ask(path, f"UPDATE rainengine_outbox SET {damage} WHERE session_id = 's'")
        with pytest.raises(LedgerCorrupt, match="'s' is damaged"):
            await ledger.claim("default", "s", claim_ms=HOUR_MS)
        assert len(await ledger.claim("default", "other", claim_ms=HOUR_MS)) == 1
    attempts = "SELECT session_id, attempts FROM rainengine_outbox ORDER BY session_id"
    assert _ask(path, attempts) == [("other", 1), ("s", 0)]


@pytest.mark.parametrize("really", ["COMMIT", "ROLLBACK"])
async def test_reports_whose_commit_was_lost_are_sent_again(tmp_path: Path, really: str) -> None:
    """After an `AppendUnknown` the same reports make of the rows what they were to."""
    path, plan = tmp_path / "x.db", list[str]()

    class Failing(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if sql != "COMMIT" or not plan:
                return super().execute(sql, *parameters)
            super().execute(plan.pop())
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error

    async with open_sqlite_ledger(path) as ledger:
        await _publish(ledger, count=2)
    connect = partial(
        sqlite3.connect, path, isolation_level=None, check_same_thread=False, factory=Failing
    )
    async with open_store(
        SqliteDialect(), connect_writer=connect, connect_reader=connect, settings=StoreSettings()
    ) as ledger:
        first, second = await ledger.claim("default", "s", claim_ms=HOUR_MS)
        reports = [
            OutboxReport(entry=first, outcome="delivered"),
            OutboxReport(entry=second, outcome="returned"),
        ]
        plan.append(really)
        with pytest.raises(AppendUnknown):
            await ledger.settle(reports)
        await ledger.settle(reports)
        (again,) = await ledger.claim("default", "s", claim_ms=HOUR_MS)
        assert (again.ordinal, again.attempts) == (1, 1)
