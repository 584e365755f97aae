"""An editor who has a colleague look things up: an agent that delegates to another one."""

from __future__ import annotations

from typing import Any

import trio

from rainengine.core import (
    Agent,
    AgentEngine,
    AgentProfile,
    Delegate,
    InMemoryLedger,
    Message,
    ProcessRequest,
    ProviderRequest,
    Respond,
    ScriptedProvider,
    run_until_terminal,
)
from rainengine.core.abc import Ledger
from rainengine.core.records import DelegatedTask, DelegationTarget, JsonPart, ReviewPolicy
from rainengine.core.subagents import SubAgents
from rainengine.runtime import Worker


def newest(request: ProviderRequest) -> Any:  # noqa: ANN401 - JSON
    """Return what the newest message tells."""
    part = request.messages[-1].parts[0]
    return part.value if isinstance(part, JsonPart) else None


def edit(request: ProviderRequest) -> Delegate | Respond:
    """Hand the question over, and write down what came back; in place of a model."""
    if request.context.step > 1:
        return Respond(f"As our researcher found: {newest(request)['payload']['response']}")
    target = DelegationTarget(stream="researcher")
    return Delegate(target=target, task=DelegatedTask(task_type="look up", payload="herons"))


def research(request: ProviderRequest) -> Respond:
    """Answer a task; in place of a model with tools."""
    return Respond(f"nothing new about {newest(request)['payload']['payload']}")


MODELS = {"editor": edit, "researcher": research}
PROFILES = {
    "editor": AgentProfile(
        delegates=("researcher",), review=ReviewPolicy(require_review_for_delegation=False)
    ),
    "researcher": AgentProfile(),
}


def engine_for(ledger: Ledger, name: str | None) -> AgentEngine | None:
    """Make the engine of an agent; the editor's where none is named."""
    name = name or "editor"
    if name not in MODELS:
        return None
    agent = Agent(name=name, profile=PROFILES[name])
    provider = ScriptedProvider(MODELS[name])
    return AgentEngine(ledger=ledger, provider=provider, agent=agent, owner="office")


async def main() -> None:
    """Ask the editor, and let a worker do the rest; it might be in another process."""
    store = InMemoryLedger()
    editor = engine_for(store, "editor")
    assert editor is not None
    wish = Message(user_id="ada", content="What is new about herons?")
    request = ProcessRequest(session_id="article", trigger=wish, idempotency_key="wish")
    run = await run_until_terminal(editor, request)
    print(f"{run.outcome.stop_reason}: {run.outcome.detail}")

    worker = Worker(store, engine_for, publisher=SubAgents(store, engine_for))
    for _ in range(3):  # the task goes out, the result comes back, the editor goes on
        await worker.run_once()
    print((await run_until_terminal(editor, request)).response)


if __name__ == "__main__":
    trio.run(main)
