"""Three agents, each of which hands its work to the next; the last one acts on the world outside.

A boss delegates to a digger, who delegates to a mole, who pays under a key and sends without one.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import attrs
import trio

from crash_sweep.counter import RemoteReceiver
from rainengine.core import (
    Agent,
    AgentEngine,
    AgentProfile,
    Delegate,
    EnginePolicy,
    ProviderDecision,
    Respond,
    ScriptedProvider,
)
from rainengine.core.abc import Ledger, ProviderRequest, Usage
from rainengine.core.records import Action, DelegatedTask, DelegationTarget, ReviewPolicy
from rainengine.core.subagents import SubAgents
from rainengine.runtime import Worker, WorkerSettings
from rainengine.store_pg import open_postgres_ledger
from rainengine.store_sqlite import open_sqlite_ledger
from testbed.agents import CALLS, Pay, Send, paused

HELPERS = {"boss": ("digger",), "digger": ("mole",), "mole": ()}
PRICE_MICROS = 1_000


def open_any(url: str) -> AbstractAsyncContextManager[Any]:
    """Open a ledger by URL, or by the path of a file."""
    return open_postgres_ledger(url) if "://" in url else open_sqlite_ledger(url)


def _decide(name: str, request: ProviderRequest) -> Action:
    if request.context.step > 1:
        came_back: Any = getattr(request.messages[-1].parts[0], "value", None)
        said = came_back.get("payload", {}).get("response") if HELPERS[name] else "dug"
        return Respond(f"{name}: {said}")
    if not HELPERS[name]:
        return CALLS
    task = DelegatedTask(task_type="dig", payload={"for": name})
    return Delegate(target=DelegationTarget(stream=HELPERS[name][0]), task=task)


@attrs.frozen(kw_only=True)
class Agents:
    """Makes the engines of one process."""

    counter: str
    owner: str
    ttl_ms: int
    pause_s: float

    def engine(self, ledger: Ledger, name: str | None) -> AgentEngine | None:
        """The engine of an agent; the boss's where none is named."""
        name = name or "boss"
        if name not in HELPERS:
            return None
        receiver, after = RemoteReceiver(Path(self.counter)), paused(self.pause_s)

        def decide(request: ProviderRequest) -> ProviderDecision:
            usage = Usage(input_tokens=1, output_tokens=1, cost_micros=PRICE_MICROS)
            return ProviderDecision(action=_decide(str(name), request), usage=usage)

        review = ReviewPolicy(require_review_for_delegation=False)
        return AgentEngine(
            ledger=ledger,
            provider=ScriptedProvider(decide),
            skills=[Pay(receiver, after), Send(receiver, after)],
            agent=Agent(name=name, profile=AgentProfile(delegates=HELPERS[name], review=review)),
            policy=EnginePolicy(max_cost_per_session=0.1),
            owner=self.owner,
            lease_ttl_ms=self.ttl_ms,
        )

    def worker(self, store: Any, poll_s: float) -> Worker:
        """A worker that runs all of them, and delivers what they hand to each other."""
        settings = WorkerSettings(poll_interval_s=poll_s, max_concurrent=4, publish_timeout_s=2.0)
        publisher = SubAgents(store, self.engine)
        return Worker(store, self.engine, publisher=publisher, settings=settings)


async def work_for_ever(report: Any, url: str, poll_s: float, agents: Agents) -> None:
    """Be a process that works."""
    async with open_any(url) as store, trio.open_nursery() as nursery:
        await nursery.start(agents.worker(store, poll_s).run)
        report("ready")
