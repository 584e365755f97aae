"""Several processes on one file, and processes that die."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rainengine.core.codec import EncodedRecord, chain_hash, genesis_hash
from rainengine.store_sqlite import open_sqlite_ledger

WRITER = """
import sys, trio
from rainengine.core.errors import SequenceConflict
from rainengine.core.records import CancelRequest, NewRecord
from rainengine.store_sqlite import open_sqlite_ledger

async def write(ledger, session_id, name):
    for n in range(15):
        while True:
            head = await ledger.head(session_id)
            try:
                record = NewRecord(CancelRequest(reason=f"{name}.{n}"), 0)
                await ledger.append(session_id, [record, record], expected=head)
                break
            except SequenceConflict:
                pass

async def main():
    path, name = sys.argv[1:]
    async with open_sqlite_ledger(path, busy_timeout_ms=60_000) as ledger:
        async with trio.open_nursery() as nursery:
            for n in range(3):
                nursery.start_soon(write, ledger, "shared", f"{name}{n}")
                nursery.start_soon(write, ledger, f"own-{name}-{n}", f"{name}{n}")

trio.run(main)
"""


async def test_processes_share_a_file(tmp_path: Path) -> None:
    """Three processes that begin with no file make one history of a session they all write."""
    path = tmp_path / "x.db"
    assert _run_side_by_side(path, "a", "b", "c") == [0, 0, 0]
    async with open_sqlite_ledger(path) as ledger:
        entries = await ledger.read_encoded("shared")
        digest = genesis_hash("default", "shared")
        for entry in entries:
            record = EncodedRecord(
                entry.kind,
                entry.version,
                entry.payload,
                entry.occurred_at_ms,
                entry.trigger_id,
                entry.idempotency_key,
            )
            digest = chain_hash(digest, entry.sequence, record)
            assert digest == entry.hash
        payloads = [entry.payload for entry in entries]
        assert payloads[::2] == payloads[1::2]
        assert len(set(payloads)) == 3 * 3 * 15
        assert (await ledger.head("own-b-1")).sequence == 30


def _run_side_by_side(path: Path, *names: str) -> list[int]:
    children = [subprocess.Popen([sys.executable, "-c", WRITER, path, name]) for name in names]
    return [child.wait(timeout=120) for child in children]


TALKER = """
import sys, trio
from rainengine.core.records import CancelRequest, NewRecord
from rainengine.store_sqlite import open_sqlite_ledger

async def write(ledger, session_id):
    head = await ledger.head(session_id)
    while True:
        record = NewRecord(CancelRequest(reason="more"), 0)
        head = (await ledger.append(session_id, [record], expected=head)).head
        print(session_id, head.sequence, head.hash.hex(), flush=True)

async def main():
    async with open_sqlite_ledger(sys.argv[1]) as ledger:
        async with trio.open_nursery() as nursery:
            for n in range(8):
                nursery.start_soon(write, ledger, f"s{n}")

trio.run(main)
"""


async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    """A process killed at any moment leaves every append that it had acknowledged."""
    path = tmp_path / "x.db"
    for lines in (1, 40, 333):
        acknowledged = _killed_after(lines, path)
        async with open_sqlite_ledger(path) as ledger:
            for session_id, (sequence, digest) in acknowledged.items():
                stored = await ledger.read_encoded(session_id, after=sequence - 1, limit=1)
                assert [(one.sequence, one.hash) for one in stored] == [(sequence, digest)]


def _killed_after(lines: int, path: Path) -> dict[str, tuple[int, bytes]]:
    """Run a writer, kill it after so many lines, and return the last word on each session."""
    run = [sys.executable, "-c", TALKER, str(path)]
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        said += child.stdout.read().splitlines(keepends=True)
    words = [line.split() for line in said if line.endswith("\n")]
    return {name: (int(sequence), bytes.fromhex(digest)) for name, sequence, digest in words}
