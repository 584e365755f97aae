"""The turn that every workload repeats, and the engine that takes it.

A user's message; the model asks for three tools at once; each returns about 200 bytes of JSON,
which is made durable; the model answers with 500 bytes.
The model is scripted and the tools do nothing, so what is measured is the engine and its store.

The tools are declared `idempotent`, which is what a durable engine may assume of a tool at best:
started again after a crash, finished never again. `pure` ones are stored in the same way;
they differ only where an attempt fails.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio
from stores import Store

from rainengine.core import (
    Agent,
    AgentEngine,
    AgentProfile,
    CallSkills,
    ContinueRequest,
    Message,
    NativeSkill,
    PlannedSkillCall,
    ProcessRequest,
    Respond,
    run_until_terminal,
    skill,
)
from rainengine.core.abc import ProviderDecision, ProviderRequest
from rainengine.core.records import EffectClass, MemoryPolicy

TOOLS = ("tool_a", "tool_b", "tool_c")
ANSWER = ("The three lookups agree with each other and nothing needs attention today. " * 7)[:500]
OWNER = "benchmark"


def user_text(number: int) -> str:
    """What the user says in a session's turn of this number."""
    return f"Question {number}: please look up the three reports for today and sum them up for me."


def tool_args(session_id: str, name: str) -> dict[str, Any]:
    """What the model asks a tool for."""
    return {"query": f"report for {name}", "key": session_id[:24]}


def tool_result(name: str, key: str) -> dict[str, Any]:
    """About 200 bytes of JSON."""
    return {
        "tool": name,
        "ok": True,
        "rows": [1, 2, 3, 4, 5],
        "unit": "items",
        "source": "scripted",
        "note": "x" * 70,
        "key": key,
    }


@attrs.frozen
class Trace:
    """Writes down every call as it begins; with `kill`, the second tool ends the process."""

    path: Path | None = None
    kill: bool = False

    def begin(self, call: str) -> None:
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(f"{call}\n")

    async def tool(self, name: str) -> None:
        self.begin(name)
        if self.kill and name == TOOLS[1]:
            await trio.sleep(0.5)  # its siblings have long been stored by then
            os.kill(os.getpid(), signal.SIGKILL)


@attrs.define
class Model:
    """Asks for the three tools in a run's first step and answers in its second."""

    trace: Trace
    calls: int = 0

    async def generate_action(self, request: ProviderRequest) -> ProviderDecision:
        self.calls += 1
        context = request.context
        self.trace.begin(f"model_{context.step}")
        if context.step > 1:
            return ProviderDecision(action=Respond(ANSWER))
        return ProviderDecision(
            action=CallSkills(
                [
                    PlannedSkillCall(
                        call_id=f"call_{name}",
                        name=name,
                        args=tool_args(context.session_id, name),
                    )
                    for name in TOOLS
                ]
            )
        )


def make_skill(name: str, effects: EffectClass, trace: Trace) -> NativeSkill[..., Any]:
    """One of the three tools."""

    @skill(name=name, effects=effects)
    async def look_up(query: str, key: str) -> dict[str, Any]:
        """Look up a report."""
        await trace.tool(name)
        return tool_result(name, key)

    return look_up


@attrs.frozen
class Subject:
    """What a workload drives: something that takes turns, and counts what it does for them."""

    turn: Callable[[str, int], Any]
    counts: Callable[[], dict[str, int]]
    ledger: Any = None


def make_engine(ledger: Any, effects: EffectClass, trace: Trace) -> tuple[AgentEngine, Model]:
    """An engine with the scripted model and the three tools.

    It makes no summaries: a late turn is to have the same two model calls as an early one.
    """
    model = Model(trace)
    skills = [make_skill(name, effects, trace) for name in TOOLS]
    agent = Agent(profile=AgentProfile(memory=MemoryPolicy(summarise=False)))
    engine = AgentEngine(ledger=ledger, provider=model, skills=skills, agent=agent, owner=OWNER)
    return engine, model


@asynccontextmanager
async def open_engine(
    store: Store,
    place: Path,
    effects: EffectClass = "idempotent",
    trace: Trace = Trace(),  # frozen
) -> AsyncIterator[Subject]:
    """Open the store at `place` with an engine on it."""
    async with store.open_ledger(place) as ledger:
        engine, model = make_engine(ledger, effects, trace)

        def counts() -> dict[str, int]:
            return {"provider_calls": model.calls, **attrs.asdict(ledger.stats())}

        yield Subject(partial(run_turn, engine), counts, ledger)


async def run_turn(engine: AgentEngine, session_id: str, number: int) -> str:
    """Take a session's turn of this number; return the answer."""
    trigger = Message(user_id="user", content=user_text(number))
    request = ProcessRequest(session_id=session_id, trigger=trigger)
    return _answer(await run_until_terminal(engine, request))


async def resume(engine: AgentEngine, session_id: str) -> str:
    """Finish the turn that a crash interrupted."""
    return _answer(await run_until_terminal(engine, ContinueRequest(session_id=session_id)))


def _answer(result: Any) -> str:
    answer = result.outcome.response
    if answer != ANSWER:
        raise AssertionError(f"the turn went wrong: {result}")
    return answer
