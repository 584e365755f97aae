"""What a session looks like after its records so far. Plain data, so that it can be saved."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from rainengine.core.records import (
    AgentRef,
    EffectClass,
    EnginePolicy,
    ExecutionPlan,
    JsonValue,
    NodeStatus,
    OutcomeRecord,
    PlannedSkillCall,
    PolicyOverlay,
    ProviderConfig,
    Summary,
    ToolResult,
    Trigger,
)

PROJECTION_VERSION = 2
"""Raise it whenever the meaning or the shape of the projection changes."""

WINDOW_ITEMS = 64
RECENT_CALLS = 20
OBSERVATIONS = 256
ARTIFACTS = 64
RELATIONSHIPS = 1024

TaskStatus: TypeAlias = Literal[
    "pending", "ready", "running", "blocked", "waiting_human", "done", "failed", "abandoned"
]
GoalStatus: TypeAlias = Literal["active", "blocked", "completed", "cancelled"]


@attrs.define(kw_only=True)
class Node:
    """One call of an open graph."""

    call: PlannedSkillCall
    status: NodeStatus = "queued"
    attempt: int = 0
    effects: EffectClass = "unsafe"
    idempotency_key: str = ""
    skill_version: str = ""
    failed: bool = False
    settled: bool = False

    @property
    def traceless(self) -> bool:
        """Whether an attempt without a stored result has left nothing behind."""
        return self.call.dry_run or self.effects in {"pure", "transactional"}


@attrs.define(kw_only=True)
class Graph:
    """The tool graph that is being run; nodes are in the provider's order."""

    graph_id: str
    step: int
    nodes: dict[str, Node]


@attrs.define(kw_only=True)
class Run:
    """A trigger being worked on."""

    trigger_id: str
    trigger: Trigger
    sequence: int
    idempotency_key: str | None
    agent: AgentRef
    granted_scopes: tuple[str, ...]
    policy: EnginePolicy
    provider: ProviderConfig
    traceparent: str | None
    body_hash: str
    started_at_ms: int = 0
    suspended_ms: int = 0
    steps: int = 0
    failure_steps: int = 0
    tool_results: int = 0
    tool_failures: int = 0
    cost_micros: int = 0
    graph: Graph | None = None
    plan: ExecutionPlan | None = None
    cancel_reason: str | None = None
    skills_used: list[str] = attrs.field(factory=list[str])


@attrs.define(kw_only=True)
class WindowItem:
    """A piece of the conversation that is never torn: calls stand together with their results."""

    sequence: int
    role: Literal["input", "reply", "note", "calls"]
    trigger_id: str | None = None
    trigger: Trigger | None = None
    text: str = ""
    calls: tuple[PlannedSkillCall, ...] = ()
    results: dict[str, ToolResult] = attrs.field(factory=dict[str, ToolResult])


@attrs.define(kw_only=True)
class SkillRecord:
    """How a skill has done: totals, and the newest calls (True is a success)."""

    calls: int = 0
    failures: int = 0
    recent: list[bool] = attrs.field(factory=list[bool])
    last_failure_at_ms: int = 0
    preference: Literal["avoid_when_alternatives_exist", "none"] = "none"


@attrs.define(kw_only=True)
class Goal:
    """A goal that is not yet settled."""

    goal_id: str
    title: str
    detail: str
    status: GoalStatus = "active"


@attrs.define(kw_only=True)
class Task:
    """A task that is not yet settled."""

    task_id: str
    title: str
    detail: str
    goal_id: str | None
    parent_id: str | None
    assignee: str | None
    blocked_by: list[str]
    status: TaskStatus = "pending"
    reason: str = ""


@attrs.define(kw_only=True)
class Observation:
    """Something that was observed. `at_ms` is Unix time."""

    observation_id: str
    source: str
    content: JsonValue
    at_ms: int


@attrs.define(kw_only=True)
class Artifact:
    """Something that the agent produced."""

    artifact_id: str
    name: str
    media_type: str
    content: JsonValue


@attrs.define(kw_only=True)
class Resource:
    """A thing in the agent's world."""

    resource_id: str
    resource_type: str
    attributes: JsonValue


@attrs.frozen(kw_only=True)
class Relationship:
    """Two things that are related."""

    source_id: str
    relation: str
    target_id: str


@attrs.define(kw_only=True)
class Wake:
    """A wake that has not fired: its trigger is not there yet. `due_at_ms` is Unix time."""

    wake_id: str
    due_at_ms: int
    reason: str
    scheduled: bool
    granted_scopes: tuple[str, ...] = ()
    agent: str | None = None


@attrs.define(kw_only=True)
class World:
    """What the agent knows and wants. Settled goals and tasks are only counted."""

    goals: dict[str, Goal] = attrs.field(factory=dict[str, Goal])
    tasks: dict[str, Task] = attrs.field(factory=dict[str, Task])
    settled_goals: dict[str, int] = attrs.field(factory=dict[str, int])
    settled_tasks: dict[str, int] = attrs.field(factory=dict[str, int])
    observations: list[Observation] = attrs.field(factory=list[Observation])
    artifacts: list[Artifact] = attrs.field(factory=list[Artifact])
    resources: dict[str, Resource] = attrs.field(factory=dict[str, Resource])
    relationships: list[Relationship] = attrs.field(factory=list[Relationship])
    wakes: dict[str, Wake] = attrs.field(factory=dict[str, Wake])


@attrs.define(kw_only=True)
class UsageTotals:
    """Tokens and cost of the whole session; cost in millionths of a currency unit."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_micros: int = 0
    reserved_micros: int = 0


@attrs.define(kw_only=True)
class SessionProjection:
    """A session after its records up to `sequence`; `fold` takes in the next one.

    It is bounded: settled goals and tasks are counted, and of the conversation, observations,
    artifacts and relationships only the newest are kept. The ledger has the rest.
    """

    sequence: int = 0
    first_recorded_at_ms: int = 0
    last_recorded_at_ms: int = 0
    run: Run | None = None
    queue: list[Run] = attrs.field(factory=list[Run])
    window: list[WindowItem] = attrs.field(factory=list[WindowItem])
    window_cut: bool = False
    summary: Summary | None = None
    world: World = attrs.field(factory=World)
    skills: dict[str, SkillRecord] = attrs.field(factory=dict[str, SkillRecord])
    usage: UsageTotals = attrs.field(factory=UsageTotals)
    overlay: PolicyOverlay | None = None
    outcomes: int = 0
    last_outcome: OutcomeRecord | None = None
    last_reflection_sequence: int = 0

    def has_open(self, trigger_id: str) -> bool:
        """Whether the trigger's run is active or waits for its turn."""
        return any(run.trigger_id == trigger_id for run in (self.run, *self.queue) if run)
