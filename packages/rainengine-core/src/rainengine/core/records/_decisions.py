"""Records of thinking: decisions, deliberations, plans, summaries, usage."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

import attrs

from rainengine.core.errors import ProviderErrorKind
from rainengine.core.records._base import Action, Record

UsageStatus: TypeAlias = Literal["reserved", "settled", "failed", "released"]

Purpose: TypeAlias = Literal["act", "plan", "summarise"]
"""What a model is asked for: the next action, a plan for the run, or a summary of its past."""


@attrs.frozen(kw_only=True)
class TokenPrice:
    """What a model's tokens cost, in millionths of a currency unit a million tokens.

    `source` says where the figures are from, such as a library and its version.
    """

    input_micros: int
    output_micros: int
    cached_micros: int | None = None
    source: str = ""


@attrs.frozen(kw_only=True)
class ContextManifest:
    """What a model was shown, without showing it again.

    `first_sequence` to `last_sequence` is the range of records behind the messages;
    `prompt_hash` is the SHA-256 (hex) of messages and offered skills;
    `skills` names them as `name@version`, `agent` and `prompt` likewise who was asked, and how.
    """

    first_sequence: int
    last_sequence: int
    prompt_hash: str
    skills: tuple[str, ...] = ()
    agent: str = ""
    prompt: str = ""


@attrs.frozen(kw_only=True)
class ModelDecision(Record):
    """What the model decided in a step.

    A decision that cannot be followed has no action but says in `invalid` why,
    and keeps in `raw` as much as could be kept of it.
    `provider` is the one of several that answered.
    """

    kind: ClassVar[str] = "model_decision"
    step: int
    action: Action | None
    purpose: Purpose = "act"
    context: ContextManifest | None = None
    model: str | None = None
    provider: str | None = None
    invalid: str | None = None
    raw: str | None = None


@attrs.frozen(kw_only=True)
class Deliberation(Record):
    """The model thought before acting."""

    kind: ClassVar[str] = "deliberation"
    step: int
    summary: str
    candidate_actions: tuple[str, ...]
    confidence: float
    status: Literal["ready_to_act", "needs_refinement"]


@attrs.frozen(kw_only=True)
class ProviderUsage(Record):
    """What a model call used, in tokens and in millionths of a currency unit.

    `reserved` precedes a call and holds the most that it may use, `settled` follows it, `failed`
    says how it ended instead; the next attempt is then made at `retry_at_ms` (Unix time), if any.
    `released`: the call that was reserved for was never made.
    `price` is what `cost_micros` was worked out from.
    """

    kind: ClassVar[str] = "provider_usage"
    step: int
    status: UsageStatus
    model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_micros: int = 0
    price: TokenPrice | None = None
    retry_at_ms: int | None = None
    error_kind: ProviderErrorKind | None = None
    error: str | None = None


@attrs.frozen(kw_only=True)
class ProviderCache(Record):
    """The provider keeps a part of the context. `expires_at_ms` is Unix time."""

    kind: ClassVar[str] = "provider_cache"
    cache_id: str
    model: str | None
    tokens: int
    through_sequence: int
    expires_at_ms: int


@attrs.frozen(kw_only=True)
class ExecutionPlan(Record):
    """Actions to be taken one a step without asking the model; `position` is the next one.

    A plan that moves on is recorded without its `steps`, which are as they were, and with the
    `step` of the run that its last action was. `reason` says why one was abandoned.
    """

    kind: ClassVar[str] = "execution_plan"
    plan_id: str
    objective: str
    steps: tuple[Action, ...] = ()
    position: int = 0
    step: int = 0
    status: Literal["active", "completed", "abandoned"] = "active"
    reason: str = ""


@attrs.frozen(kw_only=True)
class Summary(Record):
    """The history up to `through_sequence` in short."""

    kind: ClassVar[str] = "summary"
    text: str
    through_sequence: int
