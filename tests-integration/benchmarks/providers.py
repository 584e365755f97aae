"""Measure what a provider adds to a call of the bare SDK, against the same server on loopback.

Calls alternate, so that both see the same machine; what is printed are medians in milliseconds.
`--quick` only shows that it runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any, get_args

import attrs
import openai
import trio

from rainengine.core.records import (
    SkillManifest,
)
from rainengine.core.settings import Secret
from rainengine.core.testing import provider_request
from rainengine.model_servers import Answer, Call, Server, open_openai_server
from rainengine.provider_openai import Api, OpenAIProvider, OpenAISettings, open_openai_provider

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
SKILLS = tuple(
    SkillManifest(name=f"skill_{number}", description="Does something.", input_schema=SCHEMA)
    for number in range(8)
)
REQUEST = provider_request(
    *["How is the weather?"] * 16,
    available_skills=SKILLS,
    actions=frozenset({"respond", "call_skills"}),
)
ANSWER = Answer(
    text=" ".join(["word"] * 60),
    calls=tuple(Call(name="skill_1", args={"city": "Köln"}) for _ in range(3)),
)

Ask = Callable[[], Awaitable[object]]


async def main(calls: int) -> None:
    """Print a row for each API, whole and streamed."""
    print(f"{'':>22}{'SDK':>10}{'SDK, JSON':>12}{'provider':>10}")
    async with open_openai_server(lambda _: ANSWER) as server:
        for api in get_args(Api):
            settings = OpenAISettings(
                model="gpt-test", api_key=Secret("k"), base_url=f"{server.url}/v1", api=api
            )
            url = settings.base_url
            async with (
                open_openai_provider(settings) as provider,
                openai.AsyncOpenAI(api_key="k", base_url=url, max_retries=0) as client,
            ):
                await _measure(calls, Bare(client, settings), provider, server)


@attrs.frozen
class Bare:
    """The SDK's own calls: typed, and as JSON."""

    client: openai.AsyncOpenAI
    settings: OpenAISettings

    async def whole(self, body: dict[str, Any]) -> object:
        chat = self.settings.api == "chat"
        resource: Any = self.client.chat.completions if chat else self.client.responses
        return await resource.create(**body)

    async def streamed(self, body: dict[str, Any]) -> None:
        async with await self.whole({**body, "stream": True}) as stream:  # type: ignore[attr-defined]
            async for _ in stream:
                pass

    async def json(self, body: dict[str, Any], *, stream: bool) -> None:
        path = "/chat/completions" if self.settings.api == "chat" else "/responses"
        if not stream:
            await self.client.post(path, body=body, cast_to=object)
            return
        events = await self.client.post(
            path,
            body={**body, "stream": True},
            cast_to=object,
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )
        async with events:
            async for _ in events:
                pass


async def _measure(calls: int, bare: Bare, provider: OpenAIProvider, server: Server) -> None:
    await provider.generate_action(REQUEST)
    body: dict[str, Any] = server.requests[-1].json
    await _compare(
        f"{bare.settings.api}, whole",
        calls,
        lambda: bare.whole(body),
        lambda: bare.json(body, stream=False),
        lambda: provider.generate_action(REQUEST),
    )
    await _compare(
        f"{bare.settings.api}, streamed",
        calls,
        lambda: bare.streamed(body),
        lambda: bare.json(body, stream=True),
        lambda: provider.stream_action(REQUEST, lambda _: None),
    )


async def _compare(name: str, calls: int, *ways: Ask) -> None:
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(calls):
        for ask, took in zip(ways, times, strict=True):
            began = time.perf_counter()
            await ask()
            took.append(1000 * (time.perf_counter() - began))
    typed, untyped, ours = map(statistics.median, times)
    print(f"{name:>22}{typed:>10.2f}{untyped:>12.2f}{ours:>10.2f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tiny run, to see that it works")
    trio.run(main, 3 if parser.parse_args().quick else 300)
