"""Openers. The SDK is imported here, when one is called, and not before."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from rainengine.core.abc import Clock
from rainengine.core.environment import SystemClock
from rainengine.core.errors import InvalidConfiguration
from rainengine.core.settings import read_settings
from rainengine.provider_gemini._caches import Caches
from rainengine.provider_gemini._files import Resolve
from rainengine.provider_gemini._provider import GeminiProvider
from rainengine.provider_gemini._settings import GeminiSettings
from rainengine.provider_gemini._transport import Transport


@asynccontextmanager
async def open_gemini_provider(
    settings: GeminiSettings, *, resolve: Resolve | None = None, clock: Clock | None = None
) -> AsyncGenerator[GeminiProvider]:
    """Open a provider of Gemini models; leaving the block closes its connections.

    `resolve` finds attachments that are not inline: it returns the URI of a file that was
    uploaded to Gemini or is public, or the whole file as a `data:` URL. What it returns None for
    cannot be sent, and neither can any such attachment without it.
    """
    clock = clock or SystemClock()
    async with _open_transport(settings) as transport:
        caches = Caches(transport, clock, settings.cache_ttl_s)
        yield GeminiProvider(settings, transport, caches, clock, resolve)


def open_gemini_settings(
    given: Mapping[str, object],
) -> AbstractAsyncContextManager[GeminiProvider]:
    """Open a provider from plain settings; what the entry point `gemini` names."""
    return open_gemini_provider(read_settings(GeminiSettings, given))


def _open_transport(settings: GeminiSettings) -> AbstractAsyncContextManager[Transport]:
    if settings.sdk == "google-genai":
        from rainengine.provider_gemini._genai import open_genai

        return open_genai(settings)
    try:
        from rainengine.provider_gemini._generativeai import open_generativeai
    except ImportError as error:
        reason = "google-generativeai is not installed: install the extra generativeai"
        raise InvalidConfiguration("sdk", reason) from error
    return open_generativeai(settings)
