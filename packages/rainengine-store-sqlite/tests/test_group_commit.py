"""How appends share commits, and what they do not share."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from rainengine.core.abc import LeaseChange, Ledger, Snapshot
from rainengine.core.errors import (
    DuplicateTrigger,
    FenceLost,
    LedgerClosed,
    LedgerError,
    SequenceConflict,
)
from rainengine.core.records import (
    Head,
    KernelEventRecord,
    MemoryArchived,
    Message,
    NewRecord,
    TriggerRecord,
)
from rainengine.store_sql import LedgerStats, SqlLedgerStore, StoreSettings
from rainengine.store_sqlite import open_sqlite_ledger


def _note(content: str = "note") -> NewRecord:
    return NewRecord(KernelEventRecord(MemoryArchived(note_id="n", content=content)), 0)


def _trigger(key: str) -> NewRecord:
    message = Message(user_id="u", content="hello")
    return NewRecord(TriggerRecord(trigger_id="t", trigger=message, body_hash=""), 0, "t", key)


def _content(record: object) -> str:
    assert isinstance(record, KernelEventRecord)
    assert isinstance(record.event, MemoryArchived)
    return record.event.content


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep the database's write lock, so that the store's writer has to wait."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


async def _expect(error: type[LedgerError], ledger: Ledger, session_id: str, **how: object) -> None:
    with pytest.raises(error):
        await ledger.append(session_id, [_note()], **how)  # type: ignore[arg-type]


async def test_appends_of_one_moment_share_a_commit(tmp_path: Path) -> None:
    """What 64 sessions append in one pass of the scheduler is one transaction."""
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        async with trio.open_nursery() as nursery:
            for n in range(64):
                append = partial(ledger.append, f"s{n}", [_note(), _note()], expected=None)
                nursery.start_soon(append)
        assert ledger.stats() == LedgerStats(commits=1, batches=1, appends=64, records=128)
        heads = {(await ledger.head(f"s{n}")).sequence for n in range(64)}
        assert heads == {2}


async def test_one_session_makes_a_commit_an_append(tmp_path: Path) -> None:
    """Appends one after the other are as many commits; leases and their changes add none."""
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        take, free = LeaseChange("take", "me", 60_000), LeaseChange("free", "me")
        done = await ledger.append("s", [_trigger("k")], expected=None, lease=take)
        done = await ledger.append("s", [_note()], expected=done.head, fence=done.fence)
        await ledger.append("s", [_note()], expected=done.head, fence=done.fence, lease=free)
        assert ledger.stats() == LedgerStats(commits=3, batches=3, appends=3, records=3)


async def test_a_session_is_in_a_batch_once_and_in_order(tmp_path: Path) -> None:
    """Appends to one session that wait together are stored in the order in which they came."""
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        async with trio.open_nursery() as nursery:
            with _locked(tmp_path / "x.db"):
                for n in range(5):
                    nursery.start_soon(partial(ledger.append, "s", [_note(str(n))], expected=None))
                    nursery.start_soon(partial(ledger.append, f"t{n}", [_note()], expected=None))
                    await trio.testing.wait_all_tasks_blocked()
        contents = [_content(stored.record) for stored in await ledger.read("s")]
        assert contents == ["0", "1", "2", "3", "4"]
        assert ledger.stats() == LedgerStats(commits=5, batches=5, appends=10, records=10)


async def test_refusals_leave_the_rest_of_a_batch_alone(tmp_path: Path) -> None:
    """A conflict, a lost fence and a used key fail alone; their batch commits the others."""
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        await ledger.append("used", [_trigger("key")], expected=None)
        before = ledger.stats()
        stale = Head(7, b"\1" * 32)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(_expect, SequenceConflict, ledger, "a", expected=stale))
            nursery.start_soon(partial(_expect, FenceLost, ledger, "b", expected=None, fence=3))
            nursery.start_soon(_expect_duplicate, ledger)
            for n in range(5):
                nursery.start_soon(partial(ledger.append, f"s{n}", [_note()], expected=None))
        after = ledger.stats()
        assert (after.commits - before.commits, after.appends - before.appends) == (1, 5)
        heads = [(await ledger.head(name)).sequence for name in ("a", "b", "used", "s0", "s4")]
        assert heads == [0, 0, 1, 1, 1]


async def _expect_duplicate(ledger: Ledger) -> None:
    with pytest.raises(DuplicateTrigger):
        await ledger.append("used", [_trigger("key")], expected=None)


async def test_a_batch_of_refusals_commits_nothing(tmp_path: Path) -> None:
    """Where nothing is accepted there is no commit."""
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        await _expect(FenceLost, ledger, "s", expected=None, fence=1)
        assert ledger.stats() == LedgerStats(commits=0, batches=1, appends=0, records=0)


async def test_a_large_batch_goes_into_several_statements(tmp_path: Path) -> None:
    """An append of hundreds of records is stored whole, in order."""
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        notes = [_note(str(n)) for n in range(333)]
        done = await ledger.append("s", [*notes, _trigger("k")], expected=None)
        stored = await ledger.read("s")
        assert [_content(one.record) for one in stored[:-1]] == [str(n) for n in range(333)]
        assert (done.head.sequence, ledger.stats().commits) == (334, 1)


async def test_a_cancelled_append_is_stored_all_the_same(tmp_path: Path) -> None:
    """Once queued, an append is waited for; the cancellation comes after its result."""
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        heads: list[Head] = []
        cancelled: list[bool] = []

        async def append() -> None:
            with trio.CancelScope() as scope:
                scopes.append(scope)
                heads.append((await ledger.append("s", [_note()], expected=None)).head)
                await trio.lowlevel.checkpoint()
            cancelled.append(scope.cancelled_caught)

        scopes: list[trio.CancelScope] = []
        async with trio.open_nursery() as nursery:
            with _locked(tmp_path / "x.db"):
                nursery.start_soon(append)
                await trio.testing.wait_all_tasks_blocked()
                scopes[0].cancel()
                await trio.testing.wait_all_tasks_blocked()
                assert (heads, cancelled) == ([], [])
        assert (heads, cancelled) == ([await ledger.head("s")], [True])


async def test_an_append_cancelled_before_it_is_queued_is_not_stored(tmp_path: Path) -> None:
    """An append in a scope that is cancelled already raises and stores nothing."""
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        with trio.CancelScope() as scope:
            scope.cancel()
            await ledger.append("s", [_note()], expected=None)
        assert scope.cancelled_caught
        assert ledger.stats().batches == 0


async def test_callers_wait_for_room(tmp_path: Path) -> None:
    """Beyond `max_pending` callers wait; nothing is dropped, and waiting may be cancelled."""
    settings = StoreSettings(max_pending=2)
    async with open_sqlite_ledger(tmp_path / "x.db", settings=settings) as ledger:
        async with trio.open_nursery() as nursery:
            with _locked(tmp_path / "x.db"):
                for n in range(6):
                    nursery.start_soon(partial(ledger.append, f"s{n}", [_note()], expected=None))
                await trio.testing.wait_all_tasks_blocked()
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await ledger.append("never", [_note()], expected=None)
                assert scope.cancelled_caught
        heads = [(await ledger.head(f"s{n}")).sequence for n in range(6)]
        assert heads == [1] * 6
        assert (await ledger.head("never")).sequence == 0


async def test_closing_stores_what_is_queued(tmp_path: Path) -> None:
    """Leaving the block while appends wait stores them first; later ones are `LedgerClosed`."""
    async with trio.open_nursery() as nursery, open_sqlite_ledger(tmp_path / "x.db") as ledger:
        for n in range(10):
            nursery.start_soon(partial(ledger.append, "s", [_note(str(n))], expected=None))
        await trio.testing.wait_all_tasks_blocked()
    for call in (ledger.append("s", [_note()], expected=None), ledger.head("s")):
        with pytest.raises(LedgerClosed):
            await call
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        assert (await ledger.head("s")).sequence == 10


def _snapshot(head: Head, payload: str = "{}", sequence: int | None = None) -> Snapshot:
    return Snapshot(
        projection_version=1, sequence=sequence or head.sequence, hash=head.hash, payload=payload
    )


async def test_snapshots_ride_in_the_next_commit(tmp_path: Path) -> None:
    """A snapshot offered to a busy writer is stored without a commit of its own."""
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        done = await ledger.append("s", [_note()], expected=None)
        async with trio.open_nursery() as nursery:
            with _locked(tmp_path / "x.db"):
                nursery.start_soon(partial(ledger.append, "a", [_note()], expected=None))
                await _until_begun(ledger)
                ledger.offer_snapshot("s", _snapshot(done.head))
                nursery.start_soon(partial(ledger.append, "b", [_note()], expected=None))
                await trio.testing.wait_all_tasks_blocked()
        assert ledger.stats().commits == 3
        assert await ledger.load_snapshot("s", 1) == _snapshot(done.head)


async def _until_begun(ledger: SqlLedgerStore) -> None:
    await trio.testing.wait_all_tasks_blocked()
    while ledger._writer._waiting:
        await trio.lowlevel.checkpoint()


async def test_an_idle_writer_stores_a_snapshot_at_once(tmp_path: Path) -> None:
    """Without appends to ride with, a snapshot gets a transaction; closing waits for it."""
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        done = await ledger.append("s", [_note()], expected=None)
        ledger.offer_snapshot("s", _snapshot(done.head))
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        assert await ledger.load_snapshot("s", 1) == _snapshot(done.head)


async def test_snapshots_that_cannot_be_stored_bother_nobody(tmp_path: Path) -> None:
    """A snapshot with text or numbers that no database takes is dropped."""
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        done = await ledger.append("s", [_note()], expected=None)
        for bad in (
            _snapshot(done.head, "\0"),
            _snapshot(done.head, "\ud800"),
            _snapshot(done.head, sequence=2**63),
        ):
            ledger.offer_snapshot("s", bad)
        ledger.offer_snapshot("\ud800", _snapshot(done.head))
        await ledger.append("s", [_note()], expected=done.head)
        assert await ledger.load_snapshot("s", 1) is None
        assert ledger.stats().commits == 2


async def test_a_snapshot_of_a_lost_history_gives_way(tmp_path: Path) -> None:
    """An older snapshot does not replace a newer one, unless the session never got that far."""
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        done = await ledger.append("s", [_note(), _note(), _note()], expected=None)
    offers = ((3, 3), (2, 3), (900, 900), (1, 1))
    for sequence, expected in offers:
        async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
            ledger.offer_snapshot("s", _snapshot(done.head, sequence=sequence))
        async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
            kept = await ledger.load_snapshot("s", 1)
            assert kept is not None
            assert kept.sequence == expected
