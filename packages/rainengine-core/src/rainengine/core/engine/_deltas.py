"""What a batch of records means to the outside: events, changed ids, listings."""

from __future__ import annotations

from collections.abc import Sequence

from rainengine.core.abc import SessionIndex, SessionState
from rainengine.core.engine._requests import StateDelta, WakeRequest
from rainengine.core.projection import (
    ParkedRun,
    SessionProjection,
    answered_token,
    left_over,
    next_expiry_ms,
    still_parked,
)
from rainengine.core.records import (
    PAUSES,
    ArtifactProduced,
    Delegation,
    DelegationRequested,
    GoalCreated,
    HumanInputRequested,
    KernelEvent,
    KernelEventRecord,
    ObservationAppended,
    OutcomeRecord,
    PendingApproval,
    Record,
    ScheduledWake,
    StopReason,
    TaskAbandoned,
    TaskBlocked,
    TaskClaimed,
    TaskCompleted,
    TaskFailed,
    TaskPlanned,
    TriggerIntent,
    TriggerRecord,
    WakeCompleted,
    WakeRequested,
    WakeScheduled,
)

_STATES: dict[StopReason, SessionState] = {
    "responded": "completed",
    "yielded": "completed",
    "max_steps_reached": "stopped",
    "deadline_exceeded": "stopped",
    "cancelled": "stopped",
    "provider_failure": "failed",
    "policy_aborted": "failed",
    "suspended": "suspended",
    "delegated": "delegated",
}

_TELLING: frozenset[type[Record]] = frozenset({TriggerRecord, TriggerIntent, OutcomeRecord})
"""Records that change a session's row, other than by their events."""

_TASK_EVENTS = (
    TaskPlanned,
    TaskClaimed,
    TaskBlocked,
    TaskCompleted,
    TaskFailed,
    TaskAbandoned,
    HumanInputRequested,
)


def events_in(records: Sequence[Record]) -> list[KernelEvent]:
    """The kernel events of a batch, in order."""
    return [record.event for record in records if isinstance(record, KernelEventRecord)]


def delta_of(events: Sequence[KernelEvent]) -> StateDelta:
    """The ids that these events touch."""
    if not events:  # the usual case, quickly
        return StateDelta()
    return StateDelta(
        created_goal_ids=tuple(e.goal_id for e in events if isinstance(e, GoalCreated)),
        updated_task_ids=tuple(e.task_id for e in events if isinstance(e, _TASK_EVENTS)),
        observation_ids=tuple(
            e.observation_id for e in events if isinstance(e, ObservationAppended)
        ),
        artifact_ids=tuple(e.artifact_id for e in events if isinstance(e, ArtifactProduced)),
        delegation_correlation_ids=tuple(
            e.correlation_id for e in events if isinstance(e, DelegationRequested)
        ),
    )


def wake_of(events: Sequence[KernelEvent]) -> WakeRequest | None:
    """The first wake that was asked for."""
    for event in events:
        if isinstance(event, WakeRequested | WakeScheduled):
            return WakeRequest(
                wake_id=event.wake_id, due_at_ms=event.due_at_ms, reason=event.reason
            )
    return None


def index_after(
    projection: SessionProjection, records: Sequence[Record], events: Sequence[KernelEvent]
) -> SessionIndex | None:
    """How a batch changes the session's row in listings, or None where it does not."""
    telling = [record for record in records if type(record) in _TELLING]
    if not telling and not events:
        return None
    state: SessionState | None = None
    agent = None
    for record in telling:
        if isinstance(record, TriggerRecord):
            state = "running"
            agent = record.agent.name if _begins(record, telling) else agent
        elif isinstance(record, TriggerIntent):
            state = "running"
            agent = _agent_waiting(projection, record.trigger_id) or agent
        elif isinstance(record, OutcomeRecord):
            state = _state_after(projection, records, record)
    wake_due = _due_after(projection, records, events)
    if state is None and wake_due is None:
        return None
    return SessionIndex(state=state or _state_of(projection), agent=agent, wake_due_at_ms=wake_due)


def _state_after(
    projection: SessionProjection, records: Sequence[Record], outcome: OutcomeRecord
) -> SessionState:
    """The state that a batch leaves behind that ends a run, has it wait, or refuses an answer."""
    if left_over(projection, records):
        return "running"
    waiting: list[SessionState] = [_waits(one) for one in still_parked(projection, records)]
    if _is_refusal(projection, outcome):
        return _foremost(waiting, projection.last_outcome)
    if outcome.stop_reason in PAUSES:
        waiting.append(_STATES[outcome.stop_reason])
    return _foremost(waiting, outcome)


def _state_of(projection: SessionProjection) -> SessionState:
    if projection.run is not None or left_over(projection):
        return "running"
    waiting: list[SessionState] = [_waits(one) for one in projection.parked.values()]
    return _foremost(waiting, projection.last_outcome)


def _is_refusal(projection: SessionProjection, outcome: OutcomeRecord) -> bool:
    """Whether it is the outcome of an answer, which counted for nothing then."""
    answers = (
        run.trigger_id for run in projection.queue if answered_token(run.trigger) is not None
    )
    return outcome.trigger_id in answers


def _waits(parked: ParkedRun) -> SessionState:
    return "suspended" if parked.run.pending is not None else "delegated"


def _foremost(waiting: Sequence[SessionState], last: OutcomeRecord | None) -> SessionState:
    """Whoever waits for a person goes before who waits for another agent, and that before ends."""
    for state in ("suspended", "delegated"):
        if state in waiting:
            return state
    return "empty" if last is None else _STATES[last.stop_reason]


def _begins(trigger: TriggerRecord, records: Sequence[Record]) -> bool:
    return any(
        isinstance(record, TriggerIntent) and record.trigger_id == trigger.trigger_id
        for record in records
    )


def _agent_waiting(projection: SessionProjection, trigger_id: str) -> str | None:
    waiting = (run.agent.name for run in projection.queue if run.trigger_id == trigger_id)
    return next(waiting, None)


def _due_after(
    projection: SessionProjection, records: Sequence[Record], events: Sequence[KernelEvent]
) -> int | None:
    """When the next wake is due, or a wait over: 0 where none is, None where nothing changes."""
    asked = [event for event in events if isinstance(event, WakeRequested | WakeScheduled)]
    fired = {event.wake_id for event in events if isinstance(event, WakeCompleted)}
    fired |= _wakes_in(records)
    begun = [record for record in records if isinstance(record, PendingApproval | Delegation)]
    left = still_parked(projection, records)
    if not (asked or fired or begun or len(left) < len(projection.parked)):
        return None
    wakes = (*projection.world.wakes.values(), *asked)
    due = {wake.wake_id: wake.due_at_ms for wake in wakes if wake.wake_id not in fired}
    times = (next_expiry_ms(left), *(awaited.expires_at_ms for awaited in begun), *due.values())
    return min((at_ms for at_ms in times if at_ms is not None), default=0)


def _wakes_in(records: Sequence[Record]) -> set[str]:
    triggers = (record.trigger for record in records if isinstance(record, TriggerRecord))
    return {trigger.wake_id for trigger in triggers if isinstance(trigger, ScheduledWake)}
