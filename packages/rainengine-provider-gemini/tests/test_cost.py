"""What the provider costs: to import, and a call of it over one of the bare SDK.

What is measured is the processor's time, as the machine may have other things to do.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
from google import genai
from google.genai import types

from rainengine.core.records import SkillManifest
from rainengine.model_servers import Answer, Call, Server

CALLS = 60
ALLOWED_S = 0.004
"""The promise is 1 ms; where others use the processor too, both vary by more."""

IMPORTING = """
import json, sys, time
import rainengine.core
before = set(sys.modules)
began = time.process_time()
import rainengine.provider_gemini
took = time.process_time() - began
print(json.dumps([took, sorted(set(sys.modules) - before)]))
"""


def test_import_is_cheap() -> None:
    """Importing the package costs less than 50 ms over core, and brings no SDK or HTTP client."""
    runs: list[Any] = [
        json.loads(subprocess.check_output([sys.executable, "-c", IMPORTING])) for _ in range(5)
    ]
    assert min(took for took, _ in runs) < 0.05
    brought = {module.partition(".")[0] for module in runs[0][1]}
    assert brought.isdisjoint({"google", "httpx", "httpx2", "requests", "genai_prices", "pydantic"})


async def bare(server: Server, http: httpx2.AsyncClient) -> Callable[[], Awaitable[object]]:
    """Return a function that makes the same call by the SDK alone."""
    options = types.HttpOptions(base_url=server.url, api_version="v1beta", httpx_async_client=http)
    client = genai.Client(api_key="canary-3f9a", vertexai=False, http_options=options)
    body = server.requests[0].json
    contents = [types.Content.model_validate(turn) for turn in body["contents"]]
    config = types.GenerateContentConfig(
        tools=[types.Tool.model_validate(tool) for tool in body["tools"]],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )

    async def call() -> object:
        response = await client.aio.models.generate_content(
            model="gemini-2.5-flash", contents=contents, config=config
        )
        return response.candidates[0].content.parts  # type: ignore[index, union-attr]

    return call


async def seconds(call: Callable[[], Awaitable[object]]) -> float:
    """How long a call takes."""
    began = time.process_time()
    await call()
    return time.process_time() - began


async def test_call_costs_little_more_than_the_sdk(
    serving: Any, asking: Any, look_up: SkillManifest
) -> None:
    """Mapping both ways, prices and tokens add about a millisecond to a call, at most."""
    answer = Answer(text="I look.", calls=(Call(name="look_up", args={"city": "Oslo"}),))
    request = asking(*["Hello"] * 20, available_skills=(look_up,))
    async with serving(lambda _: answer) as (server, provider):
        await provider.generate_action(request)
        async with httpx2.AsyncClient() as http:
            by_sdk, by_us = await bare(server, http), lambda: provider.generate_action(request)
            await by_sdk()
            pairs = [(await seconds(by_sdk), await seconds(by_us)) for _ in range(CALLS)]
    sdk, ours = (statistics.median(times) for times in zip(*pairs, strict=True))
    assert ours - sdk < ALLOWED_S, f"{(ours - sdk) * 1000:.2f} ms over {sdk * 1000:.2f} ms"
