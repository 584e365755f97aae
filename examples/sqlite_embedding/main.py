"""An agent inside a program of yours: one file as its memory, one function as its skill.

The conversation is in the file. Each turn below opens it anew, as another process would.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from rainengine.core import (
    AgentEngine,
    CallSkills,
    Message,
    PlannedSkillCall,
    ProcessRequest,
    Respond,
    ScriptedProvider,
    run_until_terminal,
    skill,
)
from rainengine.core.abc import ProviderRequest
from rainengine.core.records import Action, TextPart, ToolResultPart
from rainengine.store_sqlite import open_sqlite_ledger

STOCK = {"rye bread": 12, "cinnamon rolls": 3}


@skill(effects="pure")
async def count_stock(product: str) -> int:
    """Count what is left of a product.

    Args:
        product: its name, as on the price list
    """
    return STOCK[product]


def decide(request: ProviderRequest) -> Action:
    """Stand in for a model: ask for the stock of what was named, then answer."""
    newest = request.messages[-1].parts[-1]
    if isinstance(newest, ToolResultPart):
        return Respond(f"{newest.value} are left.")
    asked = newest.text if isinstance(newest, TextPart) else ""
    if "before" in asked:
        said = [
            part.text
            for message in request.messages
            if message.role == "assistant"
            for part in message.parts
            if isinstance(part, TextPart)
        ]
        return Respond(f'You asked, and I said: "{said[-1]}"')
    product = next(name for name in STOCK if name in asked)
    call = PlannedSkillCall(call_id="stock", name="count_stock", args={"product": product})
    return CallSkills([call])


async def turn(file: Path, question: str) -> str | None:
    """Open the file, have one question answered, and close it again."""
    async with open_sqlite_ledger(file) as ledger:
        engine = AgentEngine(
            ledger=ledger,
            provider=ScriptedProvider(decide),
            skills=[count_stock],
            owner="shop",
        )
        request = ProcessRequest(
            session_id="counter-1",
            trigger=Message(user_id="ada", content=question),
        )
        result = await run_until_terminal(engine, request)
        return result.outcome.response


async def main(file: Path) -> None:
    """Ask two questions, the second of which needs the memory of the first."""
    for question in ("How many cinnamon rolls are left?", "What did you say before?"):
        print(f"ada:   {question}")
        print(f"agent: {await turn(file, question)}")


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1] if len(sys.argv) > 1 else "shop.db"))
