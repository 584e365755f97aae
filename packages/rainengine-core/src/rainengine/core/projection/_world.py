"""Folding of kernel events: goals, tasks, observations, artifacts, resources, wakes."""

from __future__ import annotations

from typing import Any, TypeVar

from rainengine.core import records as r
from rainengine.core.projection import _state as s
from rainengine.core.projection._state import SessionProjection, World
from rainengine.core.projection._waiting import resolve_delegation
from rainengine.core.projection._window import tell

T = TypeVar("T")

RECALLED = "memory:search"
"""The source of an observation that holds what was found in memory."""


def _event(
    state: SessionProjection,
    record: r.KernelEventRecord,
    sequence: int,
    entry: r.NewRecord | r.StoredRecord,
) -> None:
    event = record.event
    change = _EVENTS.get(type(event))
    if change is not None:
        change(state.world, event, entry.occurred_at_ms)
    if isinstance(event, r.DelegationResolved):
        resolve_delegation(state, event, sequence, entry.occurred_at_ms)
    elif isinstance(event, r.MemoryArchived):
        tell(state, sequence, {"event": "kept_in_memory", "content": event.content})
    elif isinstance(event, r.ObservationAppended) and event.source == RECALLED:
        tell(state, sequence, {"event": "memory_search", "found": event.content})


def _goal_created(world: World, event: r.GoalCreated, at_ms: int) -> None:
    world.goals[event.goal_id] = s.Goal(
        goal_id=event.goal_id, title=event.title, detail=event.detail
    )


def _goal_status(world: World, event: r.GoalStatusChanged, at_ms: int) -> None:
    goal = world.goals.get(event.goal_id)
    if goal is None:
        return
    goal.status = event.status
    if event.status in ("completed", "cancelled"):
        del world.goals[event.goal_id]
        _count(world.settled_goals, event.status)


def _task_planned(world: World, event: r.TaskPlanned, at_ms: int) -> None:
    open_blockers = [task_id for task_id in event.blocked_by if task_id in world.tasks]
    world.tasks[event.task_id] = s.Task(
        task_id=event.task_id,
        title=event.title,
        detail=event.detail,
        goal_id=event.goal_id,
        parent_id=event.parent_id,
        assignee=event.assignee,
        blocked_by=open_blockers,
        status="pending" if open_blockers else "ready",
    )


def _task_claimed(world: World, event: r.TaskClaimed, at_ms: int) -> None:
    task = world.tasks.get(event.task_id)
    if task is not None:
        task.status, task.assignee = "running", event.assignee


def _task_blocked(world: World, event: r.TaskBlocked, at_ms: int) -> None:
    task = world.tasks.get(event.task_id)
    if task is not None:
        task.status, task.reason = "blocked", event.reason
        task.blocked_by = [blocker for blocker in event.blocked_by if blocker in world.tasks]


def _human_input(world: World, event: r.HumanInputRequested, at_ms: int) -> None:
    task = world.tasks.get(event.task_id)
    if task is not None:
        task.status, task.reason = "waiting_human", event.prompt


def _task_completed(world: World, event: r.TaskCompleted, at_ms: int) -> None:
    if _settle_task(world, event.task_id, "done"):
        for task in world.tasks.values():
            if event.task_id in task.blocked_by:
                task.blocked_by.remove(event.task_id)
                if not task.blocked_by and task.status in ("pending", "blocked"):
                    task.status = "ready"


def _task_failed(world: World, event: r.TaskFailed, at_ms: int) -> None:
    _settle_task(world, event.task_id, "failed")


def _task_abandoned(world: World, event: r.TaskAbandoned, at_ms: int) -> None:
    _settle_task(world, event.task_id, "abandoned")


def _settle_task(world: World, task_id: str, status: str) -> bool:
    known = world.tasks.pop(task_id, None) is not None
    if known:
        _count(world.settled_tasks, status)
    return known


def _count(counts: dict[str, int], status: str) -> None:
    counts[status] = counts.get(status, 0) + 1


def _observation(world: World, event: r.ObservationAppended, at_ms: int) -> None:
    observation = s.Observation(
        observation_id=event.observation_id,
        source=event.source,
        content=event.content,
        at_ms=at_ms,
    )
    _keep_newest(world.observations, observation, s.OBSERVATIONS)


def _artifact(world: World, event: r.ArtifactProduced, at_ms: int) -> None:
    world.artifacts[:] = [a for a in world.artifacts if a.artifact_id != event.artifact_id]
    artifact = s.Artifact(
        artifact_id=event.artifact_id,
        name=event.name,
        media_type=event.media_type,
        content=event.content,
    )
    _keep_newest(world.artifacts, artifact, s.ARTIFACTS)


def _keep_newest(kept: list[T], item: T, limit: int) -> None:
    kept.append(item)
    if len(kept) > limit:
        del kept[0]


def _resource(world: World, event: r.ResourceRegistered, at_ms: int) -> None:
    resource = s.Resource(
        resource_id=event.resource_id,
        resource_type=event.resource_type,
        attributes=event.attributes,
    )
    _keep_resource(world, resource)


def _keep_resource(world: World, resource: s.Resource) -> None:
    world.resources.pop(resource.resource_id, None)
    world.resources[resource.resource_id] = resource
    if len(world.resources) > s.RESOURCES:
        del world.resources[next(iter(world.resources))]


def _delegation(world: World, event: r.DelegationRequested, at_ms: int) -> None:
    resource = s.Resource(
        resource_id=event.correlation_id,
        resource_type="delegation",
        attributes={"stream": event.stream, "task_type": event.task_type, "status": "requested"},
    )
    _keep_resource(world, resource)


def _relationship(world: World, event: r.RelationshipObserved, at_ms: int) -> None:
    edge = s.Relationship(
        source_id=event.source_id, relation=event.relation, target_id=event.target_id
    )
    if edge not in world.relationships:
        _keep_newest(world.relationships, edge, s.RELATIONSHIPS)


def _wake_requested(world: World, event: r.WakeRequested, at_ms: int) -> None:
    world.wakes[event.wake_id] = s.Wake(
        wake_id=event.wake_id,
        due_at_ms=event.due_at_ms,
        reason=event.reason,
        scheduled=False,
    )


def _wake_scheduled(world: World, event: r.WakeScheduled, at_ms: int) -> None:
    world.wakes[event.wake_id] = s.Wake(
        wake_id=event.wake_id,
        due_at_ms=event.due_at_ms,
        reason=event.reason,
        scheduled=True,
        granted_scopes=event.granted_scopes,
        agent=event.agent,
        asked_by=event.asked_by,
    )


def _wake_completed(world: World, event: r.WakeCompleted, at_ms: int) -> None:
    world.wakes.pop(event.wake_id, None)


_EVENTS: dict[type[r.KernelEvent], Any] = {
    r.GoalCreated: _goal_created,
    r.GoalStatusChanged: _goal_status,
    r.TaskPlanned: _task_planned,
    r.TaskClaimed: _task_claimed,
    r.TaskBlocked: _task_blocked,
    r.TaskCompleted: _task_completed,
    r.TaskFailed: _task_failed,
    r.TaskAbandoned: _task_abandoned,
    r.HumanInputRequested: _human_input,
    r.ObservationAppended: _observation,
    r.ArtifactProduced: _artifact,
    r.WakeRequested: _wake_requested,
    r.WakeScheduled: _wake_scheduled,
    r.WakeCompleted: _wake_completed,
    r.DelegationRequested: _delegation,
    r.ResourceRegistered: _resource,
    r.RelationshipObserved: _relationship,
}

WORLD_FOLDS: dict[type[r.Record], Any] = {r.KernelEventRecord: _event}
