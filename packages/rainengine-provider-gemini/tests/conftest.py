"""What tests of the provider share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import attrs
import pytest

from rainengine.core.abc import ProviderRequest
from rainengine.core.records import (
    ChatMessage,
    ProviderConfig,
    SkillManifest,
)
from rainengine.core.settings import Secret
from rainengine.core.testing import provider_request
from rainengine.model_servers import Script, Server, open_gemini_server
from rainengine.provider_gemini import GeminiProvider, GeminiSettings, open_gemini_provider

KEY = "canary-3f9a"

Asking: TypeAlias = Callable[..., ProviderRequest]
Setting: TypeAlias = Callable[..., GeminiSettings]
Served: TypeAlias = tuple[Server, GeminiProvider]
Serving: TypeAlias = Callable[..., AbstractAsyncContextManager[Served]]


@attrs.define
class StoppedClock:
    """A clock that moves when it is told to."""

    at_ms: int = 1_000_000

    def now_ms(self) -> int:
        return self.at_ms


@pytest.fixture
def clock() -> StoppedClock:
    """A clock that stands still."""
    return StoppedClock()


@pytest.fixture(params=["google-genai", "google-generativeai"])
def sdk(request: pytest.FixtureRequest) -> str:
    """Each of the SDKs."""
    return request.param


@pytest.fixture
def asking() -> Asking:
    """Return a function that makes requests: of messages, or of the words of a user."""

    def make(*messages: ChatMessage | str, **changes: Any) -> ProviderRequest:
        config = {
            name: changes.pop(name)
            for name in ("model", "temperature", "max_tokens", "response_schema")
            if name in changes
        }
        return provider_request(*messages or ("Hello",), config=ProviderConfig(**config), **changes)

    return make


@pytest.fixture
def look_up() -> SkillManifest:
    """A skill."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    return SkillManifest(name="look_up", description="Looks up a city.", input_schema=schema)


@pytest.fixture
def serving(clock: StoppedClock) -> Serving:
    """Return a function that opens a model server and a provider that asks it."""

    @asynccontextmanager
    async def serve(
        script: Script = (), *, sdk: str = "google-genai", **changes: Any
    ) -> AsyncGenerator[Served]:
        server_options = {
            name: changes.pop(name) for name in ("embed", "min_cache_tokens") if name in changes
        }
        resolve = changes.pop("resolve", None)
        async with open_gemini_server(script, api_key=KEY, clock=clock, **server_options) as server:
            given = {
                "model": "gemini-2.5-flash",
                "api_key": Secret(KEY),
                "base_url": server.url,
                "sdk": sdk,
                **changes,
            }
            if "bearer_token" in changes:
                del given["api_key"]
            settings = GeminiSettings(**given)
            async with open_gemini_provider(settings, clock=clock, resolve=resolve) as provider:
                yield server, provider

    return serve
