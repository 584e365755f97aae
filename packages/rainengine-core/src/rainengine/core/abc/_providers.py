"""The protocol of model providers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import attrs

from rainengine.core.records import (
    Action,
    AgentRef,
    ChatMessage,
    EnginePolicy,
    ProviderCache,
    ProviderConfig,
    Purpose,
    SkillManifest,
    TokenPrice,
    Trigger,
)

ActionKind: TypeAlias = Literal[
    "respond",
    "yield",
    "continue",
    "plan",
    "call_skills",
    "memory_search",
    "memory_archive",
    "suspend",
    "delegate",
]
"""The `type` of an action that a model may decide."""


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
    """Everything a model is shown, and how it is to be asked.

    `actions` are those that the engine can follow now. Asked to `plan` or to `summarise`, a model
    is to `Respond` with text, which for a plan fits `config.response_schema`.
    """

    trigger: Trigger
    context: StepContext
    messages: tuple[ChatMessage, ...]
    available_skills: tuple[SkillManifest, ...]
    config: ProviderConfig
    policy: EnginePolicy
    purpose: Purpose = "act"
    actions: frozenset[ActionKind] = frozenset({"respond", "yield", "call_skills"})


@attrs.frozen(kw_only=True)
class Usage:
    """What a call used. `cost_micros` is millionths of a currency unit, 0 where unknown.

    `input_tokens` includes `cached_tokens`. `price` is what the cost was worked out from.
    Where something was reserved for the call, no figures at all count as all of that.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_micros: int = 0
    price: TokenPrice | None = None


@attrs.frozen(kw_only=True)
class ProviderDecision:
    """What the model decided, and what asking it used.

    `model` is the one that answered, `provider` the one of several that was asked.
    """

    action: Action
    usage: Usage | None = None
    cache: ProviderCache | None = None
    model: str | None = None
    provider: str | None = None


@attrs.frozen
class InvalidAnswer(Action):
    """What a model sent is no decision: it is told `reason`, and asked again in the next step.

    For a provider to return instead of an action; `raw` is as much of the answer as can be shown.
    """

    reason: str
    raw: str = ""


class LlmProvider(Protocol):
    """A model that decides what an agent does next."""

    async def generate_action(self, request: ProviderRequest) -> ProviderDecision:
        """Return one decision. Raises `ProviderError` and nothing else.

        The engine sets the timeout; a call has to stop when it is cancelled.
        """
        ...


SendText: TypeAlias = Callable[[str], None]
"""Takes a piece of an answer's text as it comes in; never blocks and never raises."""


@runtime_checkable
class Restartable(Protocol):
    """A `SendText` that can be told that an answer begins anew; the engine's can."""

    def restart(self) -> None:
        """Say that what was sent so far is void."""
        ...


@runtime_checkable
class StreamingProvider(Protocol):
    """A provider that can tell of an answer's text while it is being made."""

    async def stream_action(self, request: ProviderRequest, send: SendText) -> ProviderDecision:
        """As `generate_action`, and `send` the text of the answer piece by piece meanwhile.

        What is sent is transient: the decision, which holds the whole text, is what is stored.
        """
        ...


@attrs.frozen(kw_only=True)
class Quote:
    """The most that a call may use: tokens, and millionths of a currency unit.

    Where no price is known, `cost_micros` is 0 and `price` None: budgets of tokens still hold.
    """

    input_tokens: int
    output_tokens: int
    cost_micros: int
    price: TokenPrice | None = None


@runtime_checkable
class PricedProvider(Protocol):
    """A provider that knows before a call what it may use at most."""

    def quote(self, config: ProviderConfig, input_tokens: int) -> Quote | None:
        """Return the most that a call with up to so many input tokens may use.

        None where the length of its answers has no bound that is known. Pure and quick; one that
        fails or makes no sense ends the run, as a budget could not be kept by it.
        """
        ...


class EmbeddingProvider(Protocol):
    """A model that turns texts into vectors."""

    async def generate_embeddings(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return one vector a text, all of one length. Raises `ProviderError`."""
        ...
