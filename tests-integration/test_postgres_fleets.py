"""Processes that share the work on one PostgreSQL, are stopped, killed and late.

A plain run is a slice; `RAINENGINE_SWEEP=full` takes the numbers that are promised.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from crash_sweep.counter import RemoteReceiver, ask_counter
from rainengine.core import (
    AgentEngine,
    ContinueRequest,
    Message,
    ProcessRequest,
    ScheduledWake,
    SystemClock,
    run_until_terminal,
    verify_session,
)
from rainengine.core.abc import SessionQuery
from rainengine.core.records import OutcomeRecord, Record, ToolResult, TriggerRecord
from rainengine.store_pg import open_postgres_ledger
from rainengine.store_sql import SqlLedger, SqlLedgerStore
from testbed.agents import make_engine, paused
from testbed.fleet import Fleet, Member, open_fleet
from testbed.processes import until

FULL = os.environ.get("RAINENGINE_SWEEP") == "full"
SESSIONS, PACE_S = (500, 1.0) if FULL else (40, 0.4)
WEBHOOKS = 10_000 if FULL else 100
WAKES = 200 if FULL else 20
TTL_MS = 2_000
WORKERS = 4


@pytest.fixture
def counter_path() -> Iterator[str]:
    """A short path, as that of a Unix socket has to be."""
    with tempfile.TemporaryDirectory(prefix="rain-") as folder:
        yield f"{folder}/counter"


@attrs.frozen
class Site:
    """A ledger, processes on it, and the world outside."""

    url: str
    counter: str
    fleet: Fleet
    ledger: SqlLedgerStore

    def tally(self) -> dict[str, int]:
        """How often each call was done outside, by its label."""
        return ask_counter(Path(self.counter), "tally")

    def host(self) -> AgentEngine:
        """An engine that takes triggers in and does not work on them."""
        receiver = RemoteReceiver(Path(self.counter))
        return make_engine(self.ledger, receiver, paused(0), owner="host")

    async def completed(self, sessions: int) -> None:
        """Return once so many sessions have come to an end."""
        query = SessionQuery(states=("completed",), limit=10_000)

        async def all_are() -> bool:
            return len((await self.ledger.list_sessions(query)).sessions) >= sessions

        await until(all_are, within_s=600 if FULL else 60)

    async def worker(self, owner: str, *, poll_s: float = TTL_MS / 4_000) -> Member:
        """Start a worker, and return once it looks for work."""
        member = await self.fleet.start(
            "work",
            url=self.url,
            counter=self.counter,
            owner=owner,
            ttl_ms=TTL_MS,
            pause_s=0.1,
            concurrency=4,
            poll_s=poll_s,
        )
        assert await member.report() == "ready"
        return member


@pytest.fixture
async def site(ledger_url: str, counter_path: str) -> AsyncGenerator[Site]:
    """A site with nobody at work yet."""
    async with open_fleet() as fleet, open_postgres_ledger(ledger_url) as ledger:
        counter = await fleet.start("count_effects", path=counter_path)
        assert await counter.report() == "ready"
        yield Site(ledger_url, counter_path, fleet, ledger)


async def _records(ledger: SqlLedger, session_id: str) -> list[Record]:
    assert (await verify_session(ledger, session_id)).ok
    return [stored.record for stored in await ledger.read(session_id, limit=100_000)]


def _kinds(records: list[Record]) -> dict[str, str]:
    """What came of each call: `value`, or the kind of its failure."""
    return {
        record.name: "value" if record.failure is None else record.failure.kind
        for record in records
        if isinstance(record, ToolResult)
    }


async def test_a_holder_that_was_stopped_comes_too_late(site: Site) -> None:
    """Stopped past its lease, a holder finds another's work done, and its own append refused."""
    late = await site.fleet.start(
        "hold", url=site.url, counter=site.counter, owner="late", ttl_ms=TTL_MS
    )
    assert {await late.report(), await late.report()} == {"paid", "sent"}
    late.signal(signal.SIGSTOP)

    async def lease_is_over() -> bool:
        return not (await site.ledger.lease_of("s")).left_ms

    await until(lease_is_over)
    result = await run_until_terminal(site.host(), ContinueRequest(session_id="s"))
    assert (result.outcome.stop_reason, result.outcome.response) == ("responded", "done")
    records = await _records(site.ledger, "s")
    assert _kinds(records) == {"pay": "value", "send": "unknown_outcome"}

    late.signal(signal.SIGCONT)
    assert await late.report() == {"error": "FenceLost"}
    assert await late.ended() == 0
    assert await _records(site.ledger, "s") == records
    assert sorted(site.tally().values()) == [1, 1]


async def test_workers_that_are_killed_lose_nothing(
    site: Site, record_testsuite_property: Any
) -> None:
    """Killed and replaced again and again, workers bring every session to its end in time."""
    chance = random.Random(1)
    host = site.host()
    for n in range(SESSIONS):
        await host.submit(_request(f"s{n}", "go"))
    workers = [await site.worker(f"worker-{n}") for n in range(WORKERS)]
    kills, going = 0, True
    while going:
        with trio.move_on_after(PACE_S) as pace:
            await site.completed(SESSIONS * 9 // 10)
        going = pace.cancelled_caught
        kills += 1
        await workers.pop(chance.randrange(WORKERS)).kill()
        killed_at = trio.current_time()
        workers.append(await site.worker(f"replacement-{kills}"))
    await site.completed(SESSIONS)
    lasted_s = trio.current_time() - killed_at
    record_testsuite_property("kills", kills)
    record_testsuite_property("recovered_in_s", lasted_s)
    assert lasted_s < 2 * TTL_MS / 1000
    await _check_effects(site, [f"s{n}" for n in range(SESSIONS)])


async def _check_effects(site: Site, session_ids: Sequence[str]) -> None:
    """What has a key was done once; what has none at most once, and it says so where it is open."""
    kinds = [_kinds(await _records(site.ledger, session_id)) for session_id in session_ids]
    assert Counter(kind["pay"] for kind in kinds) == {"value": len(kinds)}
    sent = Counter(kind["send"] for kind in kinds)
    assert sent.keys() <= {"value", "unknown_outcome"}
    tally = site.tally()
    pays = [times for label, times in tally.items() if label.endswith("/pay")]
    sends = [times for label, times in tally.items() if label.endswith("/send")]
    assert pays == [1] * len(kinds)
    assert set(sends) <= {1}
    assert sent["value"] <= len(sends) <= len(kinds)


def _request(session_id: str, key: str) -> ProcessRequest:
    return ProcessRequest(
        session_id=session_id, trigger=Message(user_id="u", content="go"), idempotency_key=key
    )


async def test_wakes_fire_once(site: Site) -> None:
    """With several workers hot on it, each wake is brought in once, in time, for one outcome."""
    host, now_ms = site.host(), SystemClock().now_ms()
    due = {f"s{n % (WAKES // 2)}/{n}": now_ms + 1_500 + 5 * n for n in range(WAKES)}
    for wake_id, due_at_ms in due.items():
        await host.schedule_wake(
            wake_id.split("/")[0], due_at_ms=due_at_ms, reason="test", wake_id=wake_id
        )
    for session_id in {wake_id.split("/")[0] for wake_id in due}:
        await host.release(session_id)
    for n in range(WORKERS):
        await site.worker(f"worker-{n}", poll_s=0.01)
    await until(partial(_all_done, site, list(due)))
    fired = await _fired(site, due)
    late_ms = [at_ms - due[wake_id] for wake_id, at_ms in fired.items()]
    assert min(late_ms) >= 0
    assert max(late_ms) <= TTL_MS + 500
    outcomes = [
        record
        for session_id in _sessions(due)
        for record in await _records(site.ledger, session_id)
        if isinstance(record, OutcomeRecord)
    ]
    assert len(outcomes) == len(due)


def _sessions(due: Iterable[str]) -> list[str]:
    return sorted({wake_id.split("/")[0] for wake_id in due})


async def _fired(site: Site, due: Iterable[str]) -> dict[str, int]:
    """When each wake was brought in. Fails where one was brought in twice."""
    fired: dict[str, int] = {}
    for session_id in _sessions(due):
        for stored in await site.ledger.read(session_id, limit=100_000):
            record = stored.record
            if isinstance(record, TriggerRecord) and isinstance(record.trigger, ScheduledWake):
                assert record.trigger.wake_id not in fired
                fired[record.trigger.wake_id] = stored.occurred_at_ms
    return fired


async def _all_done(site: Site, due: Sequence[str]) -> bool:
    return len(await _fired(site, due)) == len(due) and all(
        [await _is_idle(site, session_id) for session_id in _sessions(due)]
    )


async def _is_idle(site: Site, session_id: str) -> bool:
    lease = await site.ledger.lease_of(session_id)
    stored = await site.ledger.read(session_id, limit=100_000)
    kinds = [one.kind for one in stored]
    return lease.owner is None and kinds.count("outcome") == kinds.count("trigger")


async def test_webhooks_are_taken_in_once(site: Site) -> None:
    """Each webhook comes ten times, in any order and through three processes: one trigger each."""
    deliveries = [(f"s{n % 20}", f"key-{n}") for n in range(WEBHOOKS)]
    shuffled = random.Random(1).sample(deliveries * 10, 10 * len(deliveries))
    members = [
        await site.fleet.start("submit", url=site.url, deliveries=shuffled[n::3]) for n in range(3)
    ]
    for member in members:
        assert await member.result() == "done"
    taken: list[tuple[str, str | None]] = []
    for n in range(20):
        assert (await verify_session(site.ledger, f"s{n}")).ok
        for stored in await site.ledger.read(f"s{n}", limit=100_000):
            assert stored.kind == "trigger"
            taken.append((f"s{n}", stored.idempotency_key))
    assert sorted(taken) == sorted(deliveries)
