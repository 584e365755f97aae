"""What the provider costs: to import, and on top of the SDK."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

import openai

from rainengine.model_servers import Answer

IMPORTED = """
import sys, time
import rainengine.core
began = time.process_time()
import rainengine.provider_openai
took = time.process_time() - began
print(took, *sorted({"openai", "httpx2", "httpx", "pydantic", "genai_prices"} & sys.modules.keys()))
"""


def test_importing_is_cheap() -> None:
    """Importing the package imports no SDK, and takes less than 50 ms (of one core) over core."""
    runs = [
        subprocess.run(
            [sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(3)
    ]
    assert [run[1:] for run in runs] == [[], [], []]
    assert min(float(run[0]) for run in runs) < 0.05


async def test_overhead(on_stage: Any, ask: Any, key: str) -> None:
    """A call takes hardly longer than the SDK's own, with a factor for a busy machine.

    `tests-integration/benchmarks/providers.py` tells the figure.
    """
    messages: Any = [{"role": "user", "content": "hi"}]
    ours: list[float] = []
    bare: list[float] = []
    async with on_stage(lambda _: Answer(text="Good morning.")) as stage:
        url = f"{stage.server.url}/v1"
        async with openai.AsyncOpenAI(api_key=key, base_url=url, max_retries=0) as client:
            for _ in range(60):
                began = time.perf_counter()
                await client.chat.completions.create(model="gpt-test", messages=messages)
                bare.append(time.perf_counter() - began)
                began = time.perf_counter()
                await stage.provider.generate_action(ask(skills=()))
                ours.append(time.perf_counter() - began)
    assert statistics.median(ours) - statistics.median(bare) < 0.005
