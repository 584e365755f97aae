"""The protocol of model providers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs

from rainengine.core.records import (
    Action,
    AgentRef,
    ChatMessage,
    EnginePolicy,
    ProviderCache,
    ProviderConfig,
    SkillManifest,
    Trigger,
)


@attrs.frozen(kw_only=True)
class StepContext:
    """Where in which run the model is asked. `deadline_ms` is Unix time in milliseconds."""

    tenant: str
    session_id: str
    trigger_id: str
    agent: AgentRef
    step: int
    granted_scopes: tuple[str, ...]
    deadline_ms: int


@attrs.frozen(kw_only=True)
class ProviderRequest:
    """Everything a model is shown, and how it is to be asked."""

    trigger: Trigger
    context: StepContext
    messages: tuple[ChatMessage, ...]
    available_skills: tuple[SkillManifest, ...]
    config: ProviderConfig
    policy: EnginePolicy


@attrs.frozen(kw_only=True)
class Usage:
    """What a call used. `cost_micros` is millionths of a currency unit, 0 where unknown."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_micros: int = 0


@attrs.frozen(kw_only=True)
class ProviderDecision:
    """What the model decided, and what asking it used."""

    action: Action
    usage: Usage | None = None
    cache: ProviderCache | None = None
    model: str | None = None


class LlmProvider(Protocol):
    """A model that decides what an agent does next."""

    async def generate_action(self, request: ProviderRequest) -> ProviderDecision:
        """Return one decision. Raises `ProviderError` and nothing else.

        The engine sets the timeout; a call has to stop when it is cancelled.
        """
        ...


class EmbeddingProvider(Protocol):
    """A model that turns texts into vectors."""

    async def generate_embeddings(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return one vector a text, all of one length. Raises `ProviderError`."""
        ...
