"""What a session looks like after its records so far. Plain data, so that it can be saved."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from rainengine.core.projection._evidence import Learning
from rainengine.core.records import (
    AgentRef,
    Approval,
    AskingRun,
    CallReference,
    Delegation,
    DelegationResult,
    DoubtResolution,
    EffectClass,
    EnginePolicy,
    ExecutionPlan,
    JsonValue,
    NodeStatus,
    OutcomeRecord,
    ParentRun,
    PendingApproval,
    PlannedSkillCall,
    PolicyOverlay,
    ProviderConfig,
    ProviderUsage,
    Summary,
    ToolResult,
    Trigger,
)

PROJECTION_VERSION = 5
"""Raise it whenever the meaning or the shape of the projection changes."""

WINDOW_ITEMS = 64
RECENT_CALLS = 20
OBSERVATIONS = 256
ARTIFACTS = 64
RELATIONSHIPS = 1024
RESOURCES = 256
DONE_CALLS = 64
SPENT_TOKENS = 256
PARKED_RUNS = 64

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
    """The tool graph that is being run; nodes are in the provider's order.

    `approved` are the versions of skills that a person let run, by call id.
    """

    graph_id: str
    step: int
    nodes: dict[str, Node]
    approved: dict[str, str] = attrs.field(factory=dict[str, str])

    @property
    def doubtful(self) -> list[str]:
        """The ids of the calls that may or may not have happened, as was found out."""
        doubt = (n for n in self.nodes.values() if n.status == "in_doubt" and not n.settled)
        return [node.call.call_id for node in doubt]


@attrs.define(kw_only=True)
class Run:
    """A trigger being worked on; `stored_at_ms` is when it came in, in Unix milliseconds.

    `reservation` is what the next call of the provider may use, `retry_at_ms` when it may be made
    again after `provider_failures` in a row. `pending` or `delegation` is what the run will wait
    for once its outcome says so. `planned`: a planner has been asked; `plan_broken`: a step of the
    plan failed or was rejected; `unsummarised`: there is no summary to be had in this run.
    """

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
    stored_at_ms: int = 0
    started_at_ms: int = 0
    suspended_ms: int = 0
    steps: int = 0
    failure_steps: int = 0
    tool_results: int = 0
    tool_failures: int = 0
    cost_micros: int = 0
    tokens: int = 0
    reservation: ProviderUsage | None = None
    provider_failures: int = 0
    retry_at_ms: int = 0
    graph: Graph | None = None
    plan: ExecutionPlan | None = None
    plan_broken: bool = False
    planned: bool = False
    unsummarised: bool = False
    cancel_reason: str | None = None
    pending: PendingApproval | None = None
    delegation: Delegation | None = None
    resumes: str | None = None
    parent: ParentRun | None = None
    requester: str | None = None
    skills_used: list[str] = attrs.field(factory=list[str])
    done: list[CallReference] = attrs.field(factory=list[CallReference])
    in_doubt: list[CallReference] = attrs.field(factory=list[CallReference])


@attrs.define(kw_only=True)
class ParkedRun:
    """A run that waits for an answer: to an approval, to a doubt, or from another worker."""

    run: Run
    since_ms: int

    @property
    def expires_at_ms(self) -> int | None:
        """When nobody can answer any more, in Unix milliseconds; None: never."""
        awaited = self.run.pending or self.run.delegation
        return None if awaited is None else awaited.expires_at_ms

    def is_late(self, now_ms: int) -> bool:
        """Whether an answer that is stored now comes too late, for a run that is not stopped."""
        due_ms = self.expires_at_ms
        return due_ms is not None and due_ms <= now_ms and self.run.cancel_reason is None


@attrs.define(kw_only=True)
class WindowItem:
    """A piece of the conversation that is never torn: calls stand together with their results."""

    sequence: int
    role: Literal["input", "reply", "note", "calls", "event"]
    trigger_id: str | None = None
    trigger: Trigger | None = None
    text: str = ""
    facts: JsonValue = None
    graph_id: str | None = None
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
    asked_by: AskingRun | None = None


@attrs.define(kw_only=True)
class World:
    """What the agent knows and wants. Settled goals, tasks and delegations are only counted."""

    goals: dict[str, Goal] = attrs.field(factory=dict[str, Goal])
    tasks: dict[str, Task] = attrs.field(factory=dict[str, Task])
    settled_goals: dict[str, int] = attrs.field(factory=dict[str, int])
    settled_tasks: dict[str, int] = attrs.field(factory=dict[str, int])
    settled_delegations: dict[str, int] = attrs.field(factory=dict[str, int])
    observations: list[Observation] = attrs.field(factory=list[Observation])
    artifacts: list[Artifact] = attrs.field(factory=list[Artifact])
    resources: dict[str, Resource] = attrs.field(factory=dict[str, Resource])
    relationships: list[Relationship] = attrs.field(factory=list[Relationship])
    wakes: dict[str, Wake] = attrs.field(factory=dict[str, Wake])


@attrs.define(kw_only=True)
class UsageTotals:
    """Tokens and cost of the whole session; cost in millionths of a currency unit.

    What is reserved is for a call that is under way, and for delegations without a result.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_micros: int = 0
    reserved_micros: int = 0
    reserved_tokens: int = 0

    @property
    def tokens(self) -> int:
        """All tokens, in and out."""
        return self.input_tokens + self.output_tokens


@attrs.define(kw_only=True)
class SessionProjection:
    """A session after its records up to `sequence`; `fold` takes in the next one.

    It is bounded: settled goals, tasks and delegations are counted, and of the conversation,
    observations, artifacts, resources and relationships only the newest are kept. The ledger has
    the rest.
    """

    sequence: int = 0
    first_recorded_at_ms: int = 0
    last_recorded_at_ms: int = 0
    run: Run | None = None
    queue: list[Run] = attrs.field(factory=list[Run])
    parked: dict[str, ParkedRun] = attrs.field(factory=dict[str, ParkedRun])
    spent_tokens: list[str] = attrs.field(factory=list[str])
    auto_delegations: int = 0
    window: list[WindowItem] = attrs.field(factory=list[WindowItem])
    window_cut: bool = False
    summary: Summary | None = None
    world: World = attrs.field(factory=World)
    skills: dict[str, SkillRecord] = attrs.field(factory=dict[str, SkillRecord])
    usage: UsageTotals = attrs.field(factory=UsageTotals)
    overlay: PolicyOverlay | None = None
    outcomes: int = 0
    last_outcome: OutcomeRecord | None = None
    learning: Learning = attrs.field(factory=Learning)
    last_reflection_sequence: int = 0

    def has_open(self, trigger_id: str) -> bool:
        """Whether the trigger's run is active or waits for its turn."""
        return any(run.trigger_id == trigger_id for run in (self.run, *self.queue) if run)

    def next_run(self, now_ms: int) -> Run | None:
        """The run that the next step is for: the active one, or else whichever comes next."""
        if self.run is not None:
            return self.run
        over = self.over(now_ms)
        if over is not None:
            return over
        head = self.queue[0] if self.queue else None
        awaited = None if head is None else self.parked.get(answered_token(head.trigger) or "")
        return head if awaited is None else awaited.run

    def over(self, now_ms: int) -> Run | None:
        """The first run that waited, and is to end: cancelled, or nobody can answer any more."""
        cancelled = (p.run for p in self.parked.values() if p.run.cancel_reason is not None)
        return next(cancelled, None) or next(iter(self.overdue(now_ms)), None)

    def overdue(self, now_ms: int) -> tuple[Run, ...]:
        """The runs whose time to be answered is over.

        An answer that waits for its turn may have been stored in time: it is judged first.
        """
        late = {token: p.run for token, p in self.parked.items() if p.is_late(now_ms)}
        answered = {answered_token(run.trigger) for run in self.queue} if late else ()
        return tuple(run for token, run in late.items() if token not in answered)

    def waiting(self, trigger_id: str) -> ParkedRun | None:
        """The run of this trigger, if it waits for an answer."""
        runs = self.parked.values()
        return next((parked for parked in runs if parked.run.trigger_id == trigger_id), None)


def answered_token(trigger: Trigger) -> str | None:
    """The token that a trigger answers to, or None where it is no answer."""
    if isinstance(trigger, Approval | DoubtResolution):
        return trigger.resume_token
    return trigger.correlation_id if isinstance(trigger, DelegationResult) else None
