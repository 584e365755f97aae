"""A model behind an OpenAI-compatible endpoint decides, calls a function of yours, and answers."""

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
from rainengine.provider_openai import open_openai_settings

ENDPOINTS: dict[str, dict[str, object]] = {
    "openai": {
        "model": "gpt-5-mini",
        "api": "responses",
        "api_key": "env:OPENAI_API_KEY",  # where the key is, and not the key
    },
    "openrouter": {
        "model": "qwen/qwen3-32b",
        "base_url": "https://openrouter.ai/api/v1",
        "api_key": "env:OPENROUTER_API_KEY",
    },
    "ollama": {
        "model": "qwen3",
        "base_url": "http://localhost:11434/v1",
        "api_key": "env:OLLAMA_API_KEY",  # which may be anything
        "price": {"input_micros": 0, "output_micros": 0},
    },
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


async def main(question: str, settings: Mapping[str, object]) -> str | None:
    """Have the question answered."""
    async with open_openai_settings(settings) as provider:
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
    chosen = ENDPOINTS[os.environ.get("ENDPOINT", "openai")]
    trio.run(main, " ".join(sys.argv[1:]) or "How many cinnamon rolls are left?", chosen)
