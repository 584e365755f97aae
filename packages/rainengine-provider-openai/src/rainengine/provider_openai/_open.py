"""Opening a provider, by settings or by a plain mapping of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from rainengine.core.abc import Clock
from rainengine.core.environment import SystemClock
from rainengine.core.records import ProviderConfig
from rainengine.core.settings import read_settings
from rainengine.provider_openai._endpoint import Endpoint
from rainengine.provider_openai._provider import OpenAIProvider, Resolve
from rainengine.provider_openai._settings import OpenAISettings

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

_CONNECT_S = 10.0


@asynccontextmanager
async def open_openai_provider(
    settings: OpenAISettings,
    *,
    http_client: httpx2.AsyncClient | None = None,
    resolve: Resolve | None = None,
    clock: Clock | None = None,
) -> AsyncGenerator[OpenAIProvider]:
    """Open a provider for the model that the settings name.

    An `http_client` of one's own, of httpx2 or httpx, is used and left open. `resolve` finds the
    attachments that are in a blob store. Nothing is sent before the provider is asked.
    """
    # The SDK and the prices take a second to import, which happens aside.
    client = await trio.to_thread.run_sync(_build, settings, http_client)
    clock = clock or SystemClock()
    provider = OpenAIProvider(settings, Endpoint(client, clock), clock, resolve)
    await trio.to_thread.run_sync(provider.quote, ProviderConfig(max_tokens=1), 0)
    try:
        yield provider
    finally:
        if http_client is None:
            with trio.CancelScope(shield=True):  # closes connections, and waits for nobody
                await client.close()


@asynccontextmanager
async def open_openai_settings(settings: Mapping[str, object]) -> AsyncGenerator[OpenAIProvider]:
    """Open a provider by plain settings, the fields of `OpenAISettings`.

    The plugin `openai` in `rainengine.providers`. Raises `InvalidConfiguration`.
    """
    async with open_openai_provider(read_settings(OpenAISettings, settings)) as provider:
        yield provider


def _build(settings: OpenAISettings, http_client: Any) -> AsyncOpenAI:  # noqa: ANN401
    import httpx2
    from openai import AsyncOpenAI

    client = AsyncOpenAI(
        api_key=settings.api_key.reveal(),
        base_url=settings.base_url,
        organization=settings.organization,
        project=settings.project,
        timeout=httpx2.Timeout(settings.timeout_s, connect=min(settings.timeout_s, _CONNECT_S)),
        max_retries=0,  # the engine retries, and keeps a record of it
        http_client=http_client,
    )
    # The SDK would take these from the environment where they are not set, and headers too.
    client.organization, client.project = settings.organization, settings.project
    client._custom_headers = {}  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return client
