"""Workers on a SQLite file, over handles of their own, as two processes would."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio

from rainengine.core import (
    Agent,
    AgentEngine,
    AgentProfile,
    Continue,
    Message,
    ProcessRequest,
    Respond,
    ScriptedProvider,
    SystemClock,
    verify_session,
)
from rainengine.core.abc import OutboxItem
from rainengine.core.records import (
    KernelEventRecord,
    NewRecord,
    ObservationAppended,
    OutcomeRecord,
    TriggerRecord,
    WakePolicy,
)
from rainengine.runtime import Worker, WorkerSettings
from rainengine.store_sqlite import open_sqlite_ledger

AGENT = Agent(profile=AgentProfile(wake=WakePolicy(max_pending_wakes=100)))
TENANTS = ("acme", "default")


class Sink:
    """Remembers what was published."""

    def __init__(self) -> None:
        self.keys: Counter[str] = Counter()

    async def publish(self, entry: Any) -> None:
        self.keys[entry.key] += 1


def decide(request: Any) -> Any:
    """Take two steps for each run."""
    return Continue() if request.context.step == 1 else Respond("x")


def engine(ledger: Any, owner: str) -> AgentEngine:
    """An engine as all processes make it."""
    return AgentEngine(
        ledger=ledger, provider=ScriptedProvider(decide), agent=AGENT, owner=owner, lease_ttl_ms=500
    )


def worker(store: Any, owner: str, sink: Sink) -> Worker:
    """A worker with a short poll."""
    settings = WorkerSettings(poll_interval_s=0.1, max_concurrent=8)
    return Worker(store, lambda ledger, _: engine(ledger, owner), publisher=sink, settings=settings)


async def fill(store: Any) -> None:
    """Leave runs, abandoned runs, wakes and rows for the outbox in each tenant."""
    now_ms = SystemClock().now_ms()
    for ledger in map(store.for_tenant, TENANTS):
        host = engine(ledger, "host")
        for number in range(10):
            session_id, trigger = f"s{number}", Message(user_id="u", content="hi")
            request = ProcessRequest(session_id=session_id, trigger=trigger, idempotency_key="k")
            await (host.submit(request) if number % 2 else host.advance(request))
            due_at_ms = now_ms + 100 * number
            await host.schedule_wake(session_id, due_at_ms=due_at_ms, reason="r", wake_id="w")
        note = NewRecord(KernelEventRecord(ObservationAppended(observation_id="o", source="t")), 0)
        rows = [OutboxItem(topic=f"t{number % 3}", payload=number) for number in range(20)]
        await ledger.append("rows", [note], expected=None, outbox=rows)


async def settled(ledger: Any, session_id: str) -> tuple[int, int]:
    """How many triggers a session has, and how many of them have exactly one outcome."""
    records = [stored.record for stored in await ledger.read(session_id)]
    ended = Counter(r.trigger_id for r in records if isinstance(r, OutcomeRecord))
    triggers = [r.trigger_id for r in records if isinstance(r, TriggerRecord)]
    return len(triggers), sum(ended[trigger_id] == 1 for trigger_id in triggers)


async def all_settled(store: Any) -> bool:
    """Whether each session has the two runs that it is to have, and both are over."""
    ledgers = [store.for_tenant(tenant) for tenant in TENANTS]
    counts = [await settled(ledger, f"s{number}") for ledger in ledgers for number in range(10)]
    return set(counts) == {(2, 2)}


@pytest.mark.parametrize("lives_s", [0.2, 60])
async def test_two_workers_do_everything_once(tmp_path: Path, lives_s: float) -> None:
    """Runs, wakes and rows of two tenants are done once each, also if a worker dies on the way."""
    path, sink = tmp_path / "agents.db", Sink()
    async with open_sqlite_ledger(path) as one, open_sqlite_ledger(path) as two:
        await fill(one)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                await nursery.start(worker(two, "two", sink).run)
                with trio.move_on_after(lives_s):
                    async with trio.open_nursery() as other:
                        other.start_soon(worker(one, "one", sink).run)
                        await until_done(two, sink)
                        other.cancel_scope.cancel()
                await until_done(two, sink)
                nursery.cancel_scope.cancel()
        for tenant in TENANTS:
            for number in range(10):
                answer = await verify_session(two.for_tenant(tenant), f"s{number}")
                assert (True, None) == (answer.ok, answer.reason)
        assert [] == [*await two.due("run"), *await two.due("wake"), *await two.due("outbox")]


async def until_done(store: Any, sink: Sink) -> None:
    """Return once every run is over and every row was published."""
    while True:
        if len(sink.keys) == 40 and await all_settled(store):
            return
        await trio.sleep(0.05)
