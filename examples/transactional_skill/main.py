"""A skill that happens exactly once, as it is stored with its own result.

The process is cut off twice on the way, which `CrashingLedger` stands for.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import trio

from rainengine.core import (
    AgentEngine,
    CallSkills,
    ContinueRequest,
    Message,
    PlannedSkillCall,
    ProcessRequest,
    Respond,
    ScriptedProvider,
    Transaction,
    run_until_terminal,
    transactional_skill,
)
from rainengine.core.abc import Ledger, ProviderRequest
from rainengine.core.records import Action
from rainengine.core.testing import CrashingLedger, SimulatedCrash
from rainengine.store_sqlite import open_sqlite_ledger

SCHEMA = """
CREATE TABLE IF NOT EXISTS stock (product TEXT PRIMARY KEY, pieces INTEGER CHECK (pieces >= 0));
CREATE TABLE IF NOT EXISTS orders (customer TEXT, product TEXT, pieces INTEGER);
INSERT OR IGNORE INTO stock VALUES ('rye bread', 12);
"""

QUERIES = {
    "stock": "SELECT * FROM stock",
    "orders": "SELECT * FROM orders",
    "outbox": "SELECT topic, payload FROM rainengine_outbox",
}


@transactional_skill
def sell(
    transaction: Transaction[sqlite3.Connection], customer: str, product: str, pieces: int
) -> int:
    """Sell bread, and return how much of it is left."""
    connection = transaction.connection
    sold = connection.execute(
        "UPDATE stock SET pieces = pieces - ? WHERE product = ? RETURNING pieces",
        (pieces, product),
    ).fetchall()
    connection.execute("INSERT INTO orders VALUES (?, ?, ?)", (customer, product, pieces))
    transaction.publish("oven", {"bake": product, "pieces": pieces})
    return int(sold[0][0])


def decide(request: ProviderRequest) -> Action:
    """Stand in for a model: sell once, then say so."""
    if request.context.step > 1:
        return Respond("Here you are.")
    args = {"customer": "ada", "product": "rye bread", "pieces": 2}
    return CallSkills([PlannedSkillCall(call_id="sale", name="sell", args=args)])


def engine_on(ledger: Ledger) -> AgentEngine:
    """Make an engine, as each process does."""
    return AgentEngine(
        ledger=ledger, provider=ScriptedProvider(decide), skills=[sell], owner="counter"
    )


async def work(file: Path, *, until: int | None = None, stored: bool = False) -> None:
    """Be a process: serve the customer, or be cut off at append number `until`, `stored` or not."""
    request = ProcessRequest(
        session_id="ada",
        trigger=Message(user_id="ada", content="Two rye breads, please"),
        idempotency_key="visit-1",
    )
    async with open_sqlite_ledger(file) as ledger:
        dying = CrashingLedger(ledger, until, "after" if stored else "before")
        try:
            await run_until_terminal(engine_on(dying), request)
        except SimulatedCrash as crash:
            print(f"... {crash}")


async def main(file: Path) -> None:
    """Sell once, with two crashes on the way."""
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(SCHEMA)
    await work(file, until=3)
    await work(file, until=3, stored=True)
    await work(file)
    async with open_sqlite_ledger(file) as ledger:
        result = await run_until_terminal(engine_on(ledger), ContinueRequest(session_id="ada"))
        print(f"agent:  {result.outcome.response}")
    with closing(sqlite3.connect(file)) as connection:
        for name, query in QUERIES.items():
            print(f"{name + ':':7} {connection.execute(query).fetchall()}")


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1] if len(sys.argv) > 1 else "bakery.db"))
