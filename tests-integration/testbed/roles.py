"""What members of a fleet do. Each role gets a function that reports, and its job."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import trio

from rainengine.core.errors import SequenceConflict
from rainengine.core.records import KernelEventRecord, MemoryArchived, NewRecord
from rainengine.store_pg import open_postgres_ledger
from rainengine.store_sql import SqlLedger

Report: TypeAlias = Callable[[Any], None]


def note(content: str) -> NewRecord:
    """A record that says something."""
    return NewRecord(KernelEventRecord(MemoryArchived(note_id="n", content=content)), 0)


def write_one(report: Report, *, url: str, session_id: str, stores: int, rounds: int) -> None:
    """Append to one session that everybody appends to, with stores of one's own.

    Each append has two records and is decided upon the head. Reports how many were refused.
    """
    trio.run(_write_one, report, url, session_id, stores, rounds)


async def _write_one(report: Report, url: str, session_id: str, stores: int, rounds: int) -> None:
    conflicts: list[None] = []
    async with AsyncExitStack() as stack:
        ledgers = [
            await stack.enter_async_context(open_postgres_ledger(url)) for _ in range(stores)
        ]
        async with trio.open_nursery() as nursery:
            for n, ledger in enumerate(ledgers):
                name = f"{os.getpid()}.{n}"
                nursery.start_soon(_append_all, ledger, session_id, name, rounds, conflicts)
    report({"conflicts": len(conflicts)})


async def _append_all(
    ledger: SqlLedger, session_id: str, name: str, rounds: int, conflicts: list[None]
) -> None:
    head = await ledger.head(session_id)
    for n in range(rounds):
        records = [note(f"{name}.{n}"), note("second")]
        while True:
            try:
                head = (await ledger.append(session_id, records, expected=head)).head
                break
            except SequenceConflict:
                conflicts.append(None)
                head = await ledger.head(session_id)


def write_many(report: Report, *, url: str, sessions: int, seconds: float, writers: int) -> None:
    """Append to random sessions of many, for a while; reports how many appends that were."""
    trio.run(_write_many, report, url, sessions, seconds, writers)


async def _write_many(
    report: Report, url: str, sessions: int, seconds: float, writers: int
) -> None:
    chance = random.Random(os.getpid())
    done: list[None] = []

    async def write() -> None:
        while trio.current_time() < until:
            session_id = f"s{chance.randrange(sessions)}"
            await ledger.append(session_id, [note("x" * 200)], expected=None)
            done.append(None)

    async with open_postgres_ledger(url) as ledger:
        report("ready")
        until = trio.current_time() + seconds
        async with trio.open_nursery() as nursery:
            for _ in range(writers):
                nursery.start_soon(write)
        stats = ledger.stats()
    report({"appends": len(done), "commits": stats.commits})
