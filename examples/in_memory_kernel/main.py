"""The smallest whole agent: an engine, a ledger in memory, a model that follows a script."""

from __future__ import annotations

import trio

from rainengine.core import (
    AgentEngine,
    InMemoryLedger,
    Message,
    ProcessRequest,
    Respond,
    ScriptedProvider,
)


async def main() -> None:
    """Advance one session by one step and print what came of it."""
    engine = AgentEngine(
        ledger=InMemoryLedger(),
        provider=ScriptedProvider([Respond("hello from rainengine")]),
    )
    request = ProcessRequest(
        session_id="hello",
        trigger=Message(user_id="you", content="Is anybody there?"),
    )
    result = await engine.advance(request)
    print(result.outcome)


if __name__ == "__main__":
    trio.run(main)
