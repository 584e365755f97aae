"""The process that is killed: an engine, a ledger in a file, and one request.

It knows nothing of having been killed. It makes the same request whenever it is started;
the request's idempotency key and the ledger see to it that the work is done once.
"""

from __future__ import annotations

import trio
from model import decide
from skills import SKILLS

from rainengine.core import (
    Agent,
    AgentEngine,
    Message,
    ProcessRequest,
    ScriptedProvider,
    run_until_terminal,
)
from rainengine.store_sqlite import open_sqlite_ledger

LEDGER = "ledger.db"
SESSION = "invoices"
REQUEST = ProcessRequest(
    session_id=SESSION,
    trigger=Message(
        user_id="owner",
        content="Today is 2025-04-01. Post the invoices that are in order, and see to the others.",
    ),
    idempotency_key="invoices-2025-03",
)


async def main() -> None:
    """Do the request, from wherever it was left."""
    async with open_sqlite_ledger(LEDGER) as ledger:
        engine = AgentEngine(
            ledger=ledger,
            provider=ScriptedProvider(decide),
            skills=SKILLS,
            agent=Agent(name="bookkeeper"),
            owner="bookkeeper-1",  # the same in every life, so that no lease has to run out first
        )
        await run_until_terminal(engine, REQUEST)


if __name__ == "__main__":
    trio.run(main)
