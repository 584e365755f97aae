"""The process that is killed: an engine, a ledger in a file, and one request.

It knows nothing of having been killed. It makes the same request whenever it is started;
the request's idempotency key and the ledger see to it that the work is done once.
"""

from __future__ import annotations

from collections.abc import Callable

import trio
from mind import open_mind
from skills import SKILLS

from rainengine.core import (
    Agent,
    AgentEngine,
    AgentProfile,
    EnginePolicy,
    Message,
    ProcessRequest,
    TextDelta,
    run_until_terminal,
)
from rainengine.store_sqlite import open_sqlite_ledger

LEDGER = "ledger.db"
SESSION = "invoices"
ROLE = """
You keep the books of a bakery. List the invoices that have come in, and read each of them.
Check each one, look for duplicates among them, and convert amounts that are not in euros.
Post every invoice that is in order, in euro cents. Do not post one that has a fault, came in
before or cannot be converted: write a letter to its supplier that says what is wrong.
Do what does not depend on each other in one answer: all postings and letters together.
When everything is posted or set aside, write the report; then mail "the owner" that it is done.
Then answer in two sentences.
"""
BOOKKEEPER = Agent(name="bookkeeper", profile=AgentProfile(role=ROLE.strip()))
PATIENCE = EnginePolicy(
    max_steps=40,
    max_execution_time_ms=900_000,
    provider_timeout_ms=120_000,  # a real model may think for long
)
REQUEST = ProcessRequest(
    session_id=SESSION,
    trigger=Message(
        user_id="owner",
        content="Today is 2025-04-01. Post the invoices that are in order, and see to the others.",
    ),
    idempotency_key="invoices-2025-03",
)


async def main(on_delta: Callable[[TextDelta], None] | None = None) -> None:
    """Do the request, from wherever it was left."""
    async with open_sqlite_ledger(LEDGER) as ledger, open_mind() as provider:
        engine = AgentEngine(
            ledger=ledger,
            provider=provider,
            skills=SKILLS,
            agent=BOOKKEEPER,
            policy=PATIENCE,
            on_delta=on_delta,
            owner="bookkeeper-1",  # the same in every life, so that no lease has to run out first
        )
        await run_until_terminal(engine, REQUEST)


if __name__ == "__main__":
    trio.run(main)
