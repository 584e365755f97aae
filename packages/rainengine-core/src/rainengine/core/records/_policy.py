"""Policies: the bounds within which an agent acts. The numbers are defaults, all overridable."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from rainengine.core.records._base import JsonObject

EffectClass: TypeAlias = Literal["pure", "idempotent", "unsafe", "transactional"]
"""What running a skill twice does: nothing; nothing, as the key is honoured; possibly harm.

`transactional`: it cannot be done twice, as it is stored together with its result or not at all.
"""

DoubtPolicy: TypeAlias = Literal["report", "suspend"]
"""What becomes of a call in doubt: the model is told so, or the run waits for a person."""

BusyPolicy: TypeAlias = Literal["queue", "reject", "interrupt"]
"""What becomes of a message while a run is open: it waits, is refused, or stops that run."""

LearningMode: TypeAlias = Literal["auto_with_guardrails", "advisory", "shadow"]


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often to try, and how long to wait in between.

    The wait before attempt n + 1 is drawn evenly from 0 to
    `min(max_interval_ms, initial_interval_ms * backoff_multiplier ** (n - 1))`
    ("full jitter", https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """

    max_attempts: int = 3
    initial_interval_ms: int = 250
    backoff_multiplier: float = 2.0
    max_interval_ms: int = 10_000


@attrs.frozen(kw_only=True)
class ResourcePolicy:
    """What one call of a skill may use. Fuel and memory bind WASM skills."""

    timeout_ms: int = 5_000
    max_memory_bytes: int = 8 * 1024 * 1024
    max_fuel: int = 10_000_000
    priority_class: int = 0
    retry_policy: RetryPolicy = RetryPolicy()
    dry_run_supported: bool = False


@attrs.frozen(kw_only=True)
class SelfImprovementPolicy:
    """How the engine may tune the policy that this is a part of.

    What it finds is applied at once (`auto_with_guardrails`), once later runs have confirmed it
    (`shadow`), or never (`advisory`). No value is raised by more than `max_policy_delta_percent`
    of the operator's. `reflection_interval_records` is how many records there are at least between
    reflections, `min_observations_before_tuning` how many runs a limit has to end.
    `evaluator_model` is for evaluators of the host's own: the engine asks no model.
    """

    enabled: bool = True
    mode: LearningMode = "auto_with_guardrails"
    evaluator_model: str | None = None
    reflection_interval_records: int = 8
    min_observations_before_tuning: int = 2
    max_policy_delta_percent: float = 25.0
    require_approval_for_scope_expansion: bool = True
    rollback_on_regression: bool = True


@attrs.frozen(kw_only=True)
class EnginePolicy:
    """The operator's bounds for a run. Times are milliseconds, cost is in currency units.

    Budgets of cost and tokens are ceilings where the provider is an `abc.PricedProvider`: the most
    that a call may use is reserved before it is made. Elsewhere they are checked between calls.
    A run's budgets are part of its session's; a delegation gets at most
    `max_cost_per_delegation` of what is left.
    `provider_retry` is how failed calls of the provider are made again, each as a step of its own.
    Nothing reads `max_inline_attachment_bytes` yet.
    """

    max_steps: int = 16
    max_execution_time_ms: int = 120_000
    provider_timeout_ms: int = 45_000
    max_tool_timeout_ms: int = 10_000
    max_consecutive_tool_failures: int = 20
    cache_threshold_tokens: int = 32_000
    max_cost_per_session: float = 5.0
    max_cost_per_run: float | None = None
    max_cost_per_delegation: float = 1.0
    max_tokens_per_session: int | None = None
    max_tokens_per_run: int | None = None
    provider_retry: RetryPolicy = RetryPolicy()
    on_doubt: DoubtPolicy = "report"
    max_parallel_skill_calls: int = 4
    max_inline_attachment_bytes: int = 524_288
    allow_native_skills: bool = True
    validate_tool_args: bool = True
    max_ready_tool_nodes: int = 64
    max_tool_retries_per_step: int = 2
    enable_tool_dry_run: bool = False
    self_improvement: SelfImprovementPolicy = SelfImprovementPolicy()


@attrs.frozen(kw_only=True)
class MemoryPolicy:
    """How much of the past a model is shown.

    Once more than `max_recent_items` of the conversation are in no summary, a step is spent on
    one, if the agent is to `summarise`. Nothing reads `graph_hops` yet.
    """

    max_recent_items: int = 32
    summarise: bool = True
    semantic_retrieval_limit: int = 8
    graph_hops: int = 6


@attrs.frozen(kw_only=True)
class EscalationPolicy:
    """When people have to be asked, and how much may be delegated without asking.

    `max_auto_delegations` counts over the whole life of a session. A delegation without a result
    after `delegation_ttl_ms` (7 days) is called off, and the run that waits for it ends.
    """

    require_human_approval_scopes: tuple[str, ...] = ("scope:human_approval",)
    max_auto_delegations: int = 50
    max_delegation_depth: int = 3
    delegation_ttl_ms: int = 604_800_000


@attrs.frozen(kw_only=True)
class WakePolicy:
    """Whether and how far the agent may schedule its own wakes.

    Nothing reads `default_recheck_ms` yet.
    """

    allow_scheduled_wakes: bool = True
    default_recheck_ms: int = 1_800_000
    max_pending_wakes: int = 8


@attrs.frozen(kw_only=True)
class ReviewPolicy:
    """What has to be reviewed by people, by whom, and for how long they can be waited for."""

    require_review_for_native_skills: bool = False
    require_review_for_delegation: bool = True
    reviewer_scopes: tuple[str, ...] = ("scope:human_approval",)
    requester_may_approve: bool = True
    approval_ttl_ms: int = 86_400_000


@attrs.frozen(kw_only=True)
class AgentProfile:
    """What an agent is for and what it may use. `allowed_skills=None` allows all registered.

    It may delegate to the streams in `delegates`, and to no others. `prompt_version` is recorded
    with each decision, to tell by which prompt it was made.
    """

    role: str = ""
    prompt_version: str = ""
    default_scopes: tuple[str, ...] = ()
    allowed_skills: tuple[str, ...] | None = None
    delegates: tuple[str, ...] = ()
    goals: tuple[str, ...] = ()
    memory: MemoryPolicy = MemoryPolicy()
    wake: WakePolicy = WakePolicy()
    review: ReviewPolicy = ReviewPolicy()
    escalation: EscalationPolicy = EscalationPolicy()
    busy: BusyPolicy = "queue"


@attrs.frozen(kw_only=True)
class AgentRef:
    """The agent that a run belongs to, as its trigger names it."""

    name: str = "default"
    version: str = "1"


@attrs.frozen(kw_only=True)
class ProviderConfig:
    """Which model to ask, and how. Never holds a secret.

    `max_tokens` bounds what one answer may have; an answer is to fit `response_schema`, a JSON
    Schema, where there is one.
    """

    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    response_schema: JsonObject | None = None


@attrs.frozen(kw_only=True)
class KeyValueRead:
    """A WASM skill may read these namespaces of the host's key/value store."""

    namespaces: tuple[str, ...]


@attrs.frozen(kw_only=True)
class HttpOutbound:
    """A WASM skill may fetch from these hosts."""

    allow_hosts: tuple[str, ...]


@attrs.frozen(kw_only=True)
class CapabilityGrants:
    """What a sandboxed skill may reach; nothing by default."""

    key_value_read: KeyValueRead | None = None
    http_outbound: HttpOutbound | None = None
    structured_log: bool = False
