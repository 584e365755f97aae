"""What goes wrong with files and disks: a typed error each, nothing lost, and life goes on."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import count
from pathlib import Path

import attrs
import pytest
import trio

from rainengine.core.abc import EncodedEntry, Ledger, Snapshot
from rainengine.core.codec import EncodedRecord, chain_hash, genesis_hash
from rainengine.core.errors import (
    LedgerBusy,
    LedgerCorrupt,
    LedgerError,
    LedgerFull,
    LedgerIOError,
    LedgerReadOnly,
    RainEngineError,
    SchemaMismatch,
)
from rainengine.core.records import KernelEventRecord, MemoryArchived, NewRecord
from rainengine.store_sql import StoreSettings, open_store
from rainengine.store_sqlite import SqliteDialect, open_sqlite_ledger


def _note(content: str = "note") -> NewRecord:
    return NewRecord(KernelEventRecord(MemoryArchived(note_id="n", content=content)), 0, "t", "k")


async def test_a_database_locked_for_too_long_is_busy(tmp_path: Path) -> None:
    """Beyond the busy timeout an append is `LedgerBusy`; once the lock is gone it works."""
    path = tmp_path / "x.db"
    async with open_sqlite_ledger(path, busy_timeout_ms=1) as ledger:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LedgerBusy, match="busy_timeout_ms"):
                await ledger.append("s", [_note()], expected=None)
            other.execute("ROLLBACK")
        assert (await ledger.head("s")).sequence == 0
        done = await ledger.append("s", [_note()], expected=None)
        assert done.head == await ledger.head("s")


async def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """Appends fail with `LedgerFull` when there is no room; what was stored stays."""
    path = tmp_path / "x.db"
    async with open_sqlite_ledger(path, max_page_count=40) as ledger:
        done = await ledger.append("s", [_note()], expected=None)
        with pytest.raises(LedgerFull, match="free some"):
            await ledger.append("s", [_note("x" * 1_000_000)], expected=None)
        assert await ledger.head("s") == done.head
        done = await ledger.append("s", [_note()], expected=done.head)
        stored = await _until_full(ledger)
        assert stored > 0
        assert [(await ledger.head(f"t{n}")).sequence for n in range(stored + 1)] == [
            *[1] * stored,
            0,
        ]
    async with open_sqlite_ledger(path) as ledger:
        again = await ledger.append("s", [_note("x" * 1_000_000)], expected=done.head)
        assert again.head.sequence == 3


async def _until_full(ledger: Ledger) -> int:
    for n in count():
        try:
            await ledger.append(f"t{n}", [_note("x" * 1000)], expected=None)
        except LedgerFull:
            return n
    raise AssertionError


async def test_a_snapshot_without_room_does_not_fail_an_append(tmp_path: Path) -> None:
    """Where only the snapshot does not fit, the appends of its batch are stored without it."""
    async with open_sqlite_ledger(tmp_path / "x.db", max_page_count=40) as ledger:
        done = await ledger.append("s", [_note()], expected=None)
        huge = Snapshot(
            projection_version=1, sequence=1, hash=done.head.hash, payload="x" * 1_000_000
        )
        ledger.offer_snapshot("s", huge)
        done = await ledger.append("s", [_note()], expected=done.head)
        assert await ledger.head("s") == done.head
        assert await ledger.load_snapshot("s", 1) is None


ON_A_SMALL_DISK = """
import resource, sys, trio
from rainengine.core.errors import LedgerIOError
from rainengine.core.records import CancelRequest, NewRecord
from rainengine.store_sqlite import open_sqlite_ledger

def limit(size):
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

async def main():
    async with open_sqlite_ledger(sys.argv[1]) as ledger:
        done = await ledger.append("s", [NewRecord(CancelRequest(reason="a"), 0)], expected=None)
        limit(256 * 1024)
        try:
            large = NewRecord(CancelRequest(reason="x" * 1_000_000), 0)
            await ledger.append("s", [large], expected=None)
        except LedgerIOError as error:
            print("IOERR" in str(error))
        print(await ledger.head("s") == done.head)
        limit(resource.RLIM_INFINITY)
        done = await ledger.append("s", [large], expected=done.head)
        print(done.head.sequence)

trio.run(main)
"""


def test_a_failing_write_is_an_io_error(tmp_path: Path) -> None:
    """Where the system refuses to write, appends are `LedgerIOError` until it takes them again."""
    run = [sys.executable, "-c", ON_A_SMALL_DISK, str(tmp_path / "x.db")]
    printed = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    assert printed.split() == ["True", "True", "2"]


async def test_a_read_only_database_is_read_but_not_written(tmp_path: Path) -> None:
    """Where writing is not allowed, appends are `LedgerReadOnly` and reads go on."""
    path = tmp_path / "x.db"
    async with open_sqlite_ledger(path) as ledger:
        done = await ledger.append("s", [_note()], expected=None)

    def connect() -> sqlite3.Connection:
        # Not by permissions: those do not bind a superuser.
        return sqlite3.connect(
            f"file:{path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )

    async with open_store(
        SqliteDialect(), connect_writer=connect, connect_reader=connect, settings=StoreSettings()
    ) as ledger:
        with pytest.raises(LedgerReadOnly, match="permissions"):
            await ledger.append("s", [_note()], expected=None)
        assert await ledger.head("s") == done.head


@pytest.mark.parametrize("content", [b"not a database at all " * 500, b"\0" * 8192])
async def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    """Another kind of file is `LedgerCorrupt`, and is not touched."""
    path = tmp_path / "x.db"
    path.write_bytes(content)
    with pytest.raises(LedgerCorrupt, match="check the path"):
        async with open_sqlite_ledger(path):
            pass
    assert path.read_bytes() == content


async def test_a_missing_folder_is_named_as_the_cause(tmp_path: Path) -> None:
    """A path that cannot be opened is `LedgerIOError` and says what to check."""
    for path in (tmp_path / "absent" / "x.db", tmp_path):
        with pytest.raises(LedgerIOError, match="folder"):
            async with open_sqlite_ledger(path):
                pass


async def _fill(path: Path) -> None:
    """Several pages of records, all in the database file itself."""
    async with open_sqlite_ledger(path) as ledger:
        head = None
        for n in range(30):
            done = await ledger.append("s", [_note(f"{n} " + "x" * 700)], expected=head)
            head = done.head


async def _verified(ledger: Ledger) -> list[EncodedEntry]:
    """Read a session as a verifier does: every record has to fit the chain, up to the head."""
    entries = list(await ledger.read_encoded("s"))  # type: ignore[attr-defined]
    await ledger.read("s")
    digest = genesis_hash("default", "s")
    names = [field.name for field in attrs.fields(EncodedRecord)]
    for entry in entries:
        record = EncodedRecord(*[getattr(entry, name) for name in names])
        digest = chain_hash(digest, entry.sequence, record)
        if digest != entry.hash:
            raise LedgerCorrupt(f"record {entry.sequence} does not fit")
    head = await ledger.head("s")
    if (head.sequence, head.hash) != (len(entries), digest):
        raise LedgerCorrupt("the head does not fit")
    return entries


async def test_every_flipped_bit_is_found_or_harmless(tmp_path: Path) -> None:
    """A flipped bit anywhere in the file is a typed error, a broken chain, or changes nothing."""
    path, copy = tmp_path / "x.db", tmp_path / "copy.db"
    await _fill(path)
    original = path.read_bytes()
    async with open_sqlite_ledger(path) as ledger:
        expected = await _verified(ledger)
    found = 0
    for position in range(0, len(original), 61):
        flipped = bytearray(original)
        flipped[position] ^= 1 << (position % 8)
        copy.write_bytes(flipped)
        try:
            async with open_sqlite_ledger(copy) as ledger:
                actual = await _verified(ledger)
        except (LedgerError, SchemaMismatch):
            found += 1
        else:
            assert actual == expected, f"bit {position % 8} of byte {position}"
        for extra in ("-wal", "-shm"):
            copy.with_name(copy.name + extra).unlink(missing_ok=True)
    assert found > len(original) / 61 / 4


async def test_a_damaged_session_does_not_hold_up_others(tmp_path: Path) -> None:
    """Where one session's row is nonsense its appends are `LedgerCorrupt`; others are stored."""
    path = tmp_path / "x.db"
    await _fill(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE rainengine_sessions SET head = 'many' WHERE session_id = 's'")
    outcomes: list[object] = []

    async def append(session_id: str) -> None:
        try:
            outcomes.append((await ledger.append(session_id, [_note()], expected=None)).fence)
        except RainEngineError as error:
            outcomes.append(type(error))

    async with open_sqlite_ledger(path) as ledger, trio.open_nursery() as nursery:
        for session_id in ("s", "a", "b"):
            nursery.start_soon(append, session_id)
    assert sorted(map(str, outcomes)) == ["0", "0", str(LedgerCorrupt)]


async def test_a_head_behind_its_records_does_not_hold_up_others(tmp_path: Path) -> None:
    """Where a session's row has lost records, appends to it are `LedgerCorrupt`, alone."""
    path = tmp_path / "x.db"
    await _fill(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE rainengine_sessions SET head = 3 WHERE session_id = 's'")
    outcomes: list[object] = []

    async def append(session_id: str) -> None:
        try:
            outcomes.append((await ledger.append(session_id, [_note()], expected=None)).fence)
        except RainEngineError as error:
            outcomes.append(type(error))

    async with open_sqlite_ledger(path) as ledger:
        async with trio.open_nursery() as nursery:
            for session_id in ("s", "a", "b"):
                nursery.start_soon(append, session_id)
        assert sorted(map(str, outcomes)) == ["0", "0", str(LedgerCorrupt)]
        assert [(await ledger.head(name)).sequence for name in ("a", "b")] == [1, 1]


async def test_a_truncated_file_is_found(tmp_path: Path) -> None:
    """A file cut anywhere is a typed error or a broken chain, never a new and empty ledger."""
    path, copy = tmp_path / "x.db", tmp_path / "copy.db"
    await _fill(path)
    content = path.read_bytes()
    for size in (1, 15, 16, 100, 511, 512, 4095, *range(4096, len(content), 4096 + 512)):
        copy.write_bytes(content[:size])
        with pytest.raises((LedgerError, SchemaMismatch)):
            await _opened_and_verified(copy)
        for extra in ("-wal", "-shm"):
            copy.with_name(copy.name + extra).unlink(missing_ok=True)


async def _opened_and_verified(path: Path) -> None:
    async with open_sqlite_ledger(path) as ledger:
        if not await _verified(ledger):
            pytest.fail("the ledger is empty without a word")


async def test_a_file_that_vanishes_is_not_written_elsewhere(tmp_path: Path) -> None:
    """After the folder was replaced, reads through open connections still see the ledger."""
    folder = tmp_path / "data"
    folder.mkdir()
    async with open_sqlite_ledger(folder / "x.db") as ledger:
        done = await ledger.append("s", [_note()], expected=None)
        assert await ledger.head("s") == done.head
        shutil.rmtree(folder)
        assert await ledger.head("s") == done.head
