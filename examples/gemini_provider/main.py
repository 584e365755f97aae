"""A Gemini model decides, calls a function of yours, and its answer is shown as it is written."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import trio

from rainengine.core import (
    AgentEngine,
    InMemoryLedger,
    Message,
    ProcessRequest,
    TextDelta,
    run_until_terminal,
    skill,
)
from rainengine.provider_gemini import open_gemini_settings

SETTINGS = {
    "model": os.environ.get("RAINENGINE_MODEL", "gemini-2.5-flash"),
    "api_key": "env:GEMINI_API_KEY",  # where the key is, and not the key
    "max_output_tokens": 1000,
}
"""As they may stand in a file of configuration."""

STOCK = {"rye bread": 12, "cinnamon rolls": 3}


@skill(effects="pure")
async def count_stock(product: str) -> int:
    """Count what is left of a product.

    Args:
        product: its name, as on the price list: rye bread, cinnamon rolls
    """
    return STOCK[product]


def show(delta: TextDelta) -> None:
    """Print a piece of the answer."""
    print(delta.text, end="", flush=True)


async def main(question: str, settings: Mapping[str, object] = SETTINGS) -> str | None:
    """Have the question answered."""
    async with open_gemini_settings(settings) as provider:
        engine = AgentEngine(
            ledger=InMemoryLedger(), provider=provider, skills=[count_stock], on_delta=show
        )
        trigger = Message(user_id="ada", content=question)
        result = await run_until_terminal(engine, ProcessRequest(session_id="s", trigger=trigger))
    print()
    if result.outcome.response is None:
        print(f"{result.outcome.stop_reason}: {result.outcome.detail}")
    return result.outcome.response


if __name__ == "__main__":
    trio.run(main, " ".join(sys.argv[1:]) or "How many cinnamon rolls are left?")
