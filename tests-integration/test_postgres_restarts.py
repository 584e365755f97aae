"""The server crashes under load and comes back: nothing acknowledged is lost, nothing is doubled.

A plain run crashes it three times, `RAINENGINE_SWEEP=full` fifty times.
Needs a server of its own, which it can crash.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count

import attrs
import pytest
import trio

from rainengine.core import verify_session
from rainengine.core.errors import AppendUnknown, LedgerError, LedgerUnavailable
from rainengine.core.records import Head, KernelEventRecord, MemoryArchived, NewRecord
from rainengine.store_pg import PostgresSettings, migrate, open_postgres_ledger
from rainengine.store_sql import SqlLedger
from testbed.postgres import PostgresServer, run_postgres

CRASHES = 50 if os.environ.get("RAINENGINE_SWEEP") == "full" else 3
WRITERS = 8
MEANWHILE = 40
WORKING_AGAIN_S = 5.0


def _note(content: str) -> NewRecord:
    return NewRecord(KernelEventRecord(MemoryArchived(note_id="n", content=content)), 0)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of one's own, with an empty ledger."""
    with run_postgres() as server:
        trio.run(migrate, server.url("postgres"))
        yield server


@attrs.define
class Load:
    """Writers, each on a session of its own, through one store, and what they were told."""

    ledger: SqlLedger
    name: str
    acknowledged: dict[str, list[Head]] = attrs.field(factory=dict)
    failures: list[LedgerError] = attrs.field(factory=list)
    _numbers: count[int] = attrs.field(factory=count)
    _waiting: list[trio.Event] = attrs.field(factory=list)

    @property
    def total(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    async def write(self, n: int) -> None:
        """Append for ever; after a failure, upon what is there then."""
        session_id = f"{self.name}{n}"
        heads = self.acknowledged[session_id] = []
        head: Head | None = None
        while True:
            try:
                head = head or await self.ledger.head(session_id)
                batch = [_note(f"{next(self._numbers)}"), _note("second")]
                head = (await self.ledger.append(session_id, batch, expected=head)).head
                heads.append(head)
            except LedgerError as error:
                self.failures.append(error)
                head = None
            for waiting in self._waiting:
                waiting.set()

    async def acknowledges(self, more: int) -> None:
        """Return once so many more appends have been acknowledged."""
        wanted = self.total + more
        while self.total < wanted:
            self._waiting.append(trio.Event())
            await self._waiting[-1].wait()
            self._waiting.pop()


@asynccontextmanager
async def _load(url: str, name: str) -> AsyncGenerator[Load]:
    async with open_postgres_ledger(url) as ledger, trio.open_nursery() as nursery:
        load = Load(ledger, name)
        for n in range(WRITERS):
            nursery.start_soon(load.write, n)
        yield load
        nursery.cancel_scope.cancel()


async def test_crashes_lose_and_double_nothing(server: PostgresServer) -> None:
    """Through crashes all that was acknowledged stays, and appends go on 5 s later at most."""
    url = server.url("postgres")
    async with _load(url, "a") as one, _load(url, "b") as other:
        for number in range(CRASHES):
            await one.acknowledges(MEANWHILE)
            await other.acknowledges(MEANWHILE)
            crash = server.kill if number % 5 == 4 else partial(server.stop, "immediate")
            await trio.to_thread.run_sync(crash)
            await trio.to_thread.run_sync(server.start)
            with trio.fail_after(WORKING_AGAIN_S):
                await one.acknowledges(WRITERS)
                await other.acknowledges(WRITERS)
    async with open_postgres_ledger(url) as ledger:
        for load in (one, other):
            for session_id, heads in load.acknowledged.items():
                await _check(ledger, session_id, heads)


async def _check(ledger: SqlLedger, session_id: str, heads: list[Head]) -> None:
    assert (await verify_session(ledger, session_id)).ok
    stored = await ledger.read(session_id, limit=1_000_000)
    by_sequence = {entry.sequence: entry.hash for entry in stored}
    assert [by_sequence.get(head.sequence) for head in heads] == [head.hash for head in heads]
    contents = [entry.record.event.content for entry in stored]
    assert contents[1::2] == ["second"] * (len(contents) // 2)
    assert len(set(contents[::2])) == len(contents[::2])


async def test_a_short_absence_fails_no_append(server: PostgresServer) -> None:
    """What was under way when the server crashed is stored when it is back, and told so."""
    async with _load(server.url("postgres"), "a") as load:
        await load.acknowledges(MEANWHILE)
        await trio.to_thread.run_sync(server.restart)
        await load.acknowledges(MEANWHILE)
    assert [error for error in load.failures if isinstance(error, AppendUnknown)] == []


async def test_while_it_is_away_callers_are_told(server: PostgresServer) -> None:
    """A server that stays away is `LedgerUnavailable`, for readers too, and then all goes on."""
    url = server.url("postgres")
    settings = PostgresSettings(settle_for_s=0.1)
    async with open_postgres_ledger(url, settings=settings) as ledger:
        first = await ledger.append("s", [_note("1")], expected=None)
        await trio.to_thread.run_sync(server.stop, "immediate")
        for _ in range(3):
            with pytest.raises(LedgerUnavailable, match="cannot be reached"):
                await ledger.head("s")
        with pytest.raises((LedgerUnavailable, AppendUnknown)):
            await ledger.append("s", [_note("2")], expected=first.head)
        with pytest.raises(LedgerUnavailable):
            await ledger.append("s", [_note("3")], expected=first.head)
        with pytest.raises(LedgerUnavailable, match="cannot be reached"):
            async with open_postgres_ledger(url):
                pass
        await trio.to_thread.run_sync(server.start)
        assert await ledger.head("s") == first.head
        await ledger.append("s", [_note("4")], expected=first.head)
