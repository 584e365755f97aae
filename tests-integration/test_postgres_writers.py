"""Several processes write to one PostgreSQL: one history a session, no deadlock, no gap.

A plain run is a slice; `RAINENGINE_SWEEP=full` takes the numbers that are promised.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import psycopg
import trio

from rainengine.core import verify_session
from rainengine.core.records import StoredRecord
from rainengine.store_pg import open_postgres_ledger
from rainengine.store_sql import SqlLedger
from testbed.fleet import Fleet, open_fleet

FULL = os.environ.get("RAINENGINE_SWEEP") == "full"
PROCESSES, STORES, ROUNDS = (16, 1, 1000) if FULL else (4, 4, 12)
SECONDS = 60.0 if FULL else 3.0
WRITERS = 16


async def test_writers_of_one_session_make_one_history(ledger_url: str) -> None:
    """16 writers on one session: no fork, no gap, and who follows it sees each record once."""
    appends = PROCESSES * STORES * ROUNDS
    seen: list[StoredRecord] = []
    async with open_fleet() as fleet, open_postgres_ledger(ledger_url) as ledger:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_follow, ledger, 2 * appends, seen)
            members = [
                await fleet.start(
                    "write_one", url=ledger_url, session_id="s", stores=STORES, rounds=ROUNDS
                )
                for _ in range(PROCESSES)
            ]
            results = [await member.result() for member in members]
        assert sum(result["conflicts"] for result in results) > 0
        assert [stored.sequence for stored in seen] == list(range(1, 2 * appends + 1))
        assert (await verify_session(ledger, "s")).ok
        contents = [stored.record.event.content for stored in seen]
        assert contents[1::2] == ["second"] * appends
        _check_orders(contents[::2])


async def _follow(ledger: SqlLedger, until: int, seen: list[StoredRecord]) -> None:
    while len(seen) < until:
        at = seen[-1].sequence if seen else 0
        await ledger.wait_past("s", at)
        seen += await ledger.read("s", after=at)


def _check_orders(contents: Sequence[str]) -> None:
    """Each writer's records are all there, each once, in its order."""
    orders: dict[str, list[int]] = {}
    for content in contents:
        writer, _, number = content.rpartition(".")
        orders.setdefault(writer, []).append(int(number))
    assert len(orders) == PROCESSES * STORES
    for order in orders.values():
        assert order == list(range(ROUNDS))


async def test_processes_do_not_deadlock(ledger_url: str, record_testsuite_property: Any) -> None:
    """Four processes over the same 64 sessions: all is stored, and the server saw no deadlock."""
    async with open_fleet() as fleet:
        alone = await _rate(fleet, ledger_url, 1)
        together = await _rate(fleet, ledger_url, 4)
    record_testsuite_property("appends_per_s_alone", alone)
    record_testsuite_property("appends_per_s_together", together)
    assert _deadlocks(ledger_url) == 0
    if SECONDS >= 60:  # a shorter time says more of the machine than of the store
        assert together >= 0.8 * alone
    async with open_postgres_ledger(ledger_url) as ledger:
        for n in range(64):
            assert (await verify_session(ledger, f"s{n}")).ok


async def _rate(fleet: Fleet, url: str, processes: int) -> float:
    """Appends a second of all processes, while each of them writes."""
    before = await _heads(url)
    members = [
        await fleet.start("write_many", url=url, sessions=64, seconds=SECONDS, writers=WRITERS)
        for _ in range(processes)
    ]
    appends = sum([(await member.result())["appends"] for member in members])
    assert await _heads(url) - before == appends
    return appends / SECONDS


async def _heads(url: str) -> int:
    async with open_postgres_ledger(url) as ledger:
        return sum([(await ledger.head(f"s{n}")).sequence for n in range(64)])


def _deadlocks(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        row = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    return row[0]
