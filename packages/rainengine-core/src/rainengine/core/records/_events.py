"""Kernel events: how the agent's world changes."""

from __future__ import annotations

from typing import Literal

import attrs

from rainengine.core.records._base import JsonValue, KernelEvent
from rainengine.core.records._policy import EnginePolicy


@attrs.frozen(kw_only=True)
class GoalCreated(KernelEvent):
    """A goal was set."""

    goal_id: str
    title: str
    detail: str = ""
    type: Literal["goal_created"] = attrs.field(default="goal_created", init=False, repr=False)


@attrs.frozen(kw_only=True)
class GoalStatusChanged(KernelEvent):
    """A goal was reached, given up or is stuck."""

    goal_id: str
    status: Literal["active", "blocked", "completed", "cancelled"]
    reason: str = ""
    type: Literal["goal_status_changed"] = attrs.field(
        default="goal_status_changed", init=False, repr=False
    )


@attrs.frozen(kw_only=True)
class TaskPlanned(KernelEvent):
    """A task was planned. It is ready once every task in `blocked_by` is done."""

    task_id: str
    title: str
    detail: str = ""
    goal_id: str | None = None
    parent_id: str | None = None
    assignee: str | None = None
    blocked_by: tuple[str, ...] = ()
    type: Literal["task_planned"] = attrs.field(default="task_planned", init=False, repr=False)


@attrs.frozen(kw_only=True)
class TaskClaimed(KernelEvent):
    """Somebody began a task."""

    task_id: str
    assignee: str
    type: Literal["task_claimed"] = attrs.field(default="task_claimed", init=False, repr=False)


@attrs.frozen(kw_only=True)
class TaskBlocked(KernelEvent):
    """A task cannot go on."""

    task_id: str
    reason: str
    blocked_by: tuple[str, ...] = ()
    type: Literal["task_blocked"] = attrs.field(default="task_blocked", init=False, repr=False)


@attrs.frozen(kw_only=True)
class TaskCompleted(KernelEvent):
    """A task is done."""

    task_id: str
    result: JsonValue = None
    type: Literal["task_completed"] = attrs.field(default="task_completed", init=False, repr=False)


@attrs.frozen(kw_only=True)
class TaskFailed(KernelEvent):
    """A task failed."""

    task_id: str
    error: str
    type: Literal["task_failed"] = attrs.field(default="task_failed", init=False, repr=False)


@attrs.frozen(kw_only=True)
class TaskAbandoned(KernelEvent):
    """A task is no longer wanted."""

    task_id: str
    reason: str
    type: Literal["task_abandoned"] = attrs.field(default="task_abandoned", init=False, repr=False)


@attrs.frozen(kw_only=True)
class HumanInputRequested(KernelEvent):
    """A task waits for a person."""

    task_id: str
    prompt: str
    type: Literal["human_input_requested"] = attrs.field(
        default="human_input_requested", init=False, repr=False
    )


@attrs.frozen(kw_only=True)
class ObservationAppended(KernelEvent):
    """Something was observed. `source` is `message:USER`, `webhook:SOURCE` and the like."""

    observation_id: str
    source: str
    content: JsonValue = None
    type: Literal["observation_appended"] = attrs.field(
        default="observation_appended", init=False, repr=False
    )


@attrs.frozen(kw_only=True)
class ArtifactProduced(KernelEvent):
    """The agent produced something worth keeping."""

    artifact_id: str
    name: str
    media_type: str = "application/json"
    content: JsonValue = None
    type: Literal["artifact_produced"] = attrs.field(
        default="artifact_produced", init=False, repr=False
    )


@attrs.frozen(kw_only=True)
class WakeRequested(KernelEvent):
    """The agent asks to be woken. `due_at_ms` is Unix time."""

    wake_id: str
    due_at_ms: int
    reason: str
    type: Literal["wake_requested"] = attrs.field(default="wake_requested", init=False, repr=False)


@attrs.frozen(kw_only=True)
class AskingRun:
    """The run that asked for a wake: what bound it binds the run that follows.

    `policy` is None where it was its engine's own. `requester` is the person who set the run in
    motion, if it was one.
    """

    policy: EnginePolicy | None = None
    requester: str | None = None


@attrs.frozen(kw_only=True)
class WakeScheduled(KernelEvent):
    """A wake will fire. `due_at_ms` is Unix time.

    `agent` is whose run it will be; None stands for the agent that comes to it. Its scopes are
    `granted_scopes`, and that agent's own as well unless a run asked for it (`asked_by`).
    """

    wake_id: str
    due_at_ms: int
    reason: str
    granted_scopes: tuple[str, ...] = ()
    agent: str | None = None
    asked_by: AskingRun | None = None
    type: Literal["wake_scheduled"] = attrs.field(default="wake_scheduled", init=False, repr=False)


@attrs.frozen(kw_only=True)
class WakeCompleted(KernelEvent):
    """A wake has fired, and its run has begun."""

    wake_id: str
    type: Literal["wake_completed"] = attrs.field(default="wake_completed", init=False, repr=False)


@attrs.frozen(kw_only=True)
class DelegationRequested(KernelEvent):
    """Work was handed over."""

    correlation_id: str
    stream: str
    task_type: str
    type: Literal["delegation_requested"] = attrs.field(
        default="delegation_requested", init=False, repr=False
    )


@attrs.frozen(kw_only=True)
class DelegationResolved(KernelEvent):
    """Delegated work came back. What it used is in millionths of a currency unit, and tokens."""

    correlation_id: str
    failed: bool = False
    cost_micros: int = 0
    tokens: int = 0
    type: Literal["delegation_resolved"] = attrs.field(
        default="delegation_resolved", init=False, repr=False
    )


@attrs.frozen(kw_only=True)
class ResourceRegistered(KernelEvent):
    """The agent learned of a thing in its world."""

    resource_id: str
    resource_type: str
    attributes: JsonValue = None
    type: Literal["resource_registered"] = attrs.field(
        default="resource_registered", init=False, repr=False
    )


@attrs.frozen(kw_only=True)
class RelationshipObserved(KernelEvent):
    """Two things are related."""

    source_id: str
    relation: str
    target_id: str
    type: Literal["relationship_observed"] = attrs.field(
        default="relationship_observed", init=False, repr=False
    )


@attrs.frozen(kw_only=True)
class MemorySearched(KernelEvent):
    """The session's memory was searched; `hits` are the sequences found."""

    query: str
    hits: tuple[int, ...] = ()
    type: Literal["memory_searched"] = attrs.field(
        default="memory_searched", init=False, repr=False
    )


@attrs.frozen(kw_only=True)
class MemoryArchived(KernelEvent):
    """A note was kept."""

    note_id: str
    content: str
    type: Literal["memory_archived"] = attrs.field(
        default="memory_archived", init=False, repr=False
    )
