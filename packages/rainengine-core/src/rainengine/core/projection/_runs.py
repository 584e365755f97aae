"""Folding of triggers, decisions and outcomes: which run is active and how far it is."""

from __future__ import annotations

from typing import Any

import attrs

from rainengine.core.projection._learning import observed
from rainengine.core.projection._spending import forfeit_reservation
from rainengine.core.projection._state import (
    Run,
    SessionProjection,
    WindowItem,
    answered_token,
)
from rainengine.core.projection._waiting import give_up, park
from rainengine.core.projection._window import add_input, add_to_window, tell
from rainengine.core.records import (
    PAUSES,
    Action,
    CancelRequest,
    Deliberation,
    ExecutionPlan,
    ModelDecision,
    NewRecord,
    OutcomeRecord,
    Record,
    Respond,
    ScheduledWake,
    StoredRecord,
    Summary,
    TriggerIntent,
    TriggerRecord,
)


def waiting_run(
    record: TriggerRecord, sequence: int, idempotency_key: str | None, stored_at_ms: int = 0
) -> Run:
    """The run that a trigger stands for, before it has begun."""
    return Run(
        trigger_id=record.trigger_id,
        trigger=record.trigger,
        sequence=sequence,
        stored_at_ms=stored_at_ms,
        idempotency_key=idempotency_key,
        agent=record.agent,
        granted_scopes=record.granted_scopes,
        policy=record.policy,
        provider=record.provider,
        traceparent=record.traceparent,
        body_hash=record.body_hash,
        resumes=record.resumes,
        parent=record.parent,
        requester=record.requester,
    )


def _trigger(
    state: SessionProjection, record: TriggerRecord, sequence: int, entry: NewRecord | StoredRecord
) -> None:
    at_ms = entry.occurred_at_ms
    state.queue.append(waiting_run(record, sequence, entry.idempotency_key, at_ms))
    if isinstance(record.trigger, ScheduledWake):
        state.world.wakes.pop(record.trigger.wake_id, None)


def _trigger_intent(
    state: SessionProjection, record: TriggerIntent, sequence: int, entry: NewRecord | StoredRecord
) -> None:
    position = next(
        (i for i, run in enumerate(state.queue) if run.trigger_id == record.trigger_id), None
    )
    if position is None:
        return
    run = state.run = state.queue.pop(position)
    run.started_at_ms = entry.occurred_at_ms
    if answered_token(run.trigger) is None:  # an answer is heard where it resumes a run
        add_input(state, run, sequence)


def _cancel_request(state: SessionProjection, record: CancelRequest, *_: object) -> None:
    begun = [run for run in (state.run, *state.queue) if run is not None]
    parked = [waiting.run for waiting in state.parked.values()]
    if record.trigger_id is None:
        meant = begun[:1] or parked
    else:
        meant = [run for run in (*begun, *parked) if run.trigger_id == record.trigger_id]
    for run in meant:
        run.cancel_reason = record.reason


def _model_decision(
    state: SessionProjection, record: ModelDecision, sequence: int, entry: NewRecord | StoredRecord
) -> None:
    if state.run is not None:
        _decided(state.run, record)
    if record.purpose != "act":
        return
    if record.invalid is not None:
        add_to_window(state, WindowItem(sequence=sequence, role="note", text=record.invalid))
    elif record.action is not None:
        _tell_of_answer(state, record.action, sequence)


def _decided(run: Run, record: ModelDecision) -> None:
    run.steps = max(run.steps, record.step)
    run.provider_failures = run.retry_at_ms = 0
    run.planned = True
    run.unsummarised |= record.purpose == "summarise" and record.invalid is not None


def _deliberation(
    state: SessionProjection, record: Deliberation, sequence: int, entry: NewRecord | StoredRecord
) -> None:
    add_to_window(state, WindowItem(sequence=sequence, role="reply", text=record.summary))


def _execution_plan(
    state: SessionProjection, record: ExecutionPlan, sequence: int, *_: object
) -> None:
    run = state.run
    if run is None:
        return
    run.steps = max(run.steps, record.step)
    plan = run.plan
    if record.status == "abandoned":
        told = record.objective, record.reason
        tell(state, sequence, {"event": "plan_given_up", "plan": told[0], "reason": told[1]})
    elif plan is not None and plan.plan_id == record.plan_id and not record.steps:
        for action in plan.steps[plan.position : record.position]:
            _tell_of_answer(state, action, sequence)
        record = attrs.evolve(record, steps=plan.steps)
    run.plan = record if record.status == "active" else None
    run.plan_broken = False


def _tell_of_answer(state: SessionProjection, action: Action, sequence: int) -> None:
    if isinstance(action, Respond):
        add_to_window(state, WindowItem(sequence=sequence, role="reply", text=action.content))


def _summary(state: SessionProjection, record: Summary, *_: object) -> None:
    state.summary = record


def _outcome(
    state: SessionProjection, record: OutcomeRecord, sequence: int, entry: NewRecord | StoredRecord
) -> None:
    run = state.run
    if run is not None and run.trigger_id == record.trigger_id:
        state.run = None
        if answered_token(run.trigger) is not None:
            return  # it was refused, and that is all
        forfeit_reservation(state, run)
        if record.stop_reason in PAUSES and record.resume_token is not None:
            park(state, run, record.resume_token, entry.occurred_at_ms)
    else:
        give_up(state, record.trigger_id)
    state.outcomes += 1
    state.last_outcome = record
    state.learning = observed(state.learning, record)


RUN_FOLDS: dict[type[Record], Any] = {
    TriggerRecord: _trigger,
    TriggerIntent: _trigger_intent,
    CancelRequest: _cancel_request,
    ModelDecision: _model_decision,
    Deliberation: _deliberation,
    ExecutionPlan: _execution_plan,
    Summary: _summary,
    OutcomeRecord: _outcome,
}
