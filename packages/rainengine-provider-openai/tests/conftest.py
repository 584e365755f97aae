"""What the tests of the provider share: requests, settings, and a provider at a model server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import attrs
import pytest

from rainengine.core.abc import ActionKind, ProviderRequest
from rainengine.core.records import (
    ChatMessage,
    Part,
    ProviderConfig,
    Purpose,
    Role,
    SkillManifest,
    TextPart,
)
from rainengine.core.settings import Secret
from rainengine.core.testing import provider_request
from rainengine.model_servers import Script, Server, open_openai_server
from rainengine.provider_openai import Api, OpenAIProvider, OpenAISettings, open_openai_provider

KEY = "sk-canary-0815-never-shown"

LOOK_UP = SkillManifest(
    name="look_up",
    description="Looks up a city.",
    input_schema={"type": "object", "properties": {"city": {"type": "string"}}},
)

Ask: TypeAlias = Callable[..., ProviderRequest]


@pytest.fixture
def ask() -> Ask:
    """Return a function that makes a request of messages, each a role and its parts."""

    def make(
        *messages: tuple[Role, Any],
        skills: Sequence[SkillManifest] = (LOOK_UP,),
        actions: frozenset[ActionKind] = frozenset({"respond", "call_skills"}),
        purpose: Purpose = "act",
        **config: Any,
    ) -> ProviderRequest:
        return provider_request(
            *(_message(*one) for one in messages or [("user", "hi")]),
            available_skills=tuple(skills),
            config=ProviderConfig(**config),
            purpose=purpose,
            actions=actions,
        )

    return make


def _message(role: Role, parts: str | Part | Sequence[Part]) -> ChatMessage:
    if isinstance(parts, str):
        return ChatMessage(role, (TextPart(parts),))
    return ChatMessage(role, tuple(parts) if isinstance(parts, Sequence) else (parts,))


@pytest.fixture(params=["chat", "responses"])
def api(request: pytest.FixtureRequest) -> Api:
    """Each API in turn."""
    one: Api = request.param
    return one


@pytest.fixture
def key() -> str:
    """The key that the server wants, and that must be seen nowhere else."""
    return KEY


Settings: TypeAlias = Callable[..., OpenAISettings]


@pytest.fixture
def settings() -> Settings:
    """Return a function that makes settings with a model and a key."""

    def make(**others: Any) -> OpenAISettings:
        return OpenAISettings(**{"model": "gpt-test", "api_key": Secret(KEY), **others})

    return make


@attrs.frozen
class Stage:
    """A provider, and the server that it asks."""

    provider: OpenAIProvider
    server: Server

    def bodies(self) -> list[Any]:
        """What was asked."""
        return [request.json for request in self.server.requests]


OnStage: TypeAlias = Callable[..., AbstractAsyncContextManager[Stage]]


@pytest.fixture
def on_stage(settings: Settings) -> OnStage:
    """Return what opens a server with a script, and a provider that asks it."""

    @asynccontextmanager
    async def opened(
        script: Script = (), *, embed: Any = None, **others: Any
    ) -> AsyncGenerator[Stage]:
        more = {} if embed is None else {"embed": embed}
        async with open_openai_server(script, api_key=KEY, **more) as server:
            options = {name: others.pop(name) for name in ("resolve",) if name in others}
            chosen = settings(base_url=f"{server.url}/v1", **others)
            async with open_openai_provider(chosen, **options) as provider:
                yield Stage(provider, server)

    return opened
