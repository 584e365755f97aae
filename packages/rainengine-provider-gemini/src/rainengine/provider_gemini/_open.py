"""Openers. The SDK is imported here, when one is called, and not before."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import trio

from rainengine.core.abc import Clock
from rainengine.core.environment import SystemClock
from rainengine.core.errors import InvalidConfiguration
from rainengine.core.prices import known_price
from rainengine.core.settings import read_settings
from rainengine.provider_gemini._caches import Caches
from rainengine.provider_gemini._files import Resolve
from rainengine.provider_gemini._provider import GeminiProvider
from rainengine.provider_gemini._settings import GeminiSettings
from rainengine.provider_gemini._transport import Transport

_Opener: TypeAlias = Callable[[GeminiSettings, Clock], AbstractAsyncContextManager[Transport]]


@asynccontextmanager
async def open_gemini_provider(
    settings: GeminiSettings, *, resolve: Resolve | None = None, clock: Clock | None = None
) -> AsyncGenerator[GeminiProvider]:
    """Open a provider of Gemini models; leaving the block closes its connections.

    `resolve` finds attachments that are in a blob store: it returns their bytes, or a URI where
    Gemini can read them, of an uploaded file for example. Without it they cannot be sent.
    """
    clock = clock or SystemClock()
    # An SDK and the prices take a second to import, which happens aside.
    opener = await trio.to_thread.run_sync(_import, settings)
    async with opener(settings, clock) as transport:
        caches = Caches(transport, clock, settings.cache_ttl_s)
        yield GeminiProvider(settings, transport, caches, clock, resolve)


@asynccontextmanager
async def open_gemini_settings(settings: Mapping[str, object]) -> AsyncGenerator[GeminiProvider]:
    """Open a provider by plain settings, the fields of `GeminiSettings`.

    The plugin `gemini` in `rainengine.providers`. Raises `InvalidConfiguration`.
    """
    async with open_gemini_provider(read_settings(GeminiSettings, settings)) as provider:
        yield provider


def _import(settings: GeminiSettings) -> _Opener:
    known_price(settings.model, at_ms=0)
    if settings.sdk == "google-genai":
        from rainengine.provider_gemini._genai import open_genai

        return open_genai
    try:
        from rainengine.provider_gemini._generativeai import open_generativeai
    except ImportError as error:
        reason = "google-generativeai is not installed: install the extra generativeai"
        raise InvalidConfiguration("sdk", reason) from error
    return open_generativeai
