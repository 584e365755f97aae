"""A run that is stopped while it works, and what its outcome tells."""

from __future__ import annotations

import trio

from rainengine.core import (
    AgentEngine,
    CallSkills,
    InMemoryLedger,
    Message,
    PlannedSkillCall,
    ProcessRequest,
    ProviderRequest,
    Respond,
    ScriptedProvider,
    run_until_terminal,
    skill,
)


@skill(effects="idempotent")
async def book(city: str) -> str:
    """Book a hotel."""
    return f"a room in {city}"


async def think(request: ProviderRequest) -> CallSkills | Respond:
    """Book one hotel, and then think for ever about the next one."""
    if request.context.step > 1:
        await trio.sleep_forever()
    return CallSkills([PlannedSkillCall(call_id="1", name="book", args={"city": "Oslo"})])


async def travel(engine: AgentEngine) -> None:
    """Let the agent work until it is done, or stopped."""
    wish = Message(user_id="ada", content="Book me a tour of the north.")
    run = await run_until_terminal(engine, ProcessRequest(session_id="tour", trigger=wish))
    print(f"{run.outcome.stop_reason}: {run.outcome.detail}")
    for call in run.outcome.done:
        print(f"already done: {call.name} in step {call.step}")
    for call in run.outcome.in_doubt:
        print(f"may have happened: {call.name} in step {call.step}")


async def main() -> None:
    """Start a tour, and change one's mind."""
    engine = AgentEngine(ledger=InMemoryLedger(), provider=ScriptedProvider(think), skills=[book])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(travel, engine)
        await trio.sleep(0.1)
        if await engine.cancel("tour", "we stay at home"):
            print("asked it to stop")


if __name__ == "__main__":
    trio.run(main)
