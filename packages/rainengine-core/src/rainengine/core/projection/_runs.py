"""Folding of triggers, decisions and outcomes: which run is active and how far it is."""

from __future__ import annotations

from typing import Any

from rainengine.core.projection._state import WINDOW_ITEMS, Run, SessionProjection, WindowItem
from rainengine.core.records import (
    CancelRequest,
    Deliberation,
    ExecutionPlan,
    ModelDecision,
    NewRecord,
    OutcomeRecord,
    ProviderUsage,
    Record,
    Respond,
    ScheduledWake,
    StoredRecord,
    Summary,
    TriggerIntent,
    TriggerRecord,
)


def _trigger(
    state: SessionProjection, record: TriggerRecord, sequence: int, entry: NewRecord | StoredRecord
) -> None:
    state.queue.append(
        Run(
            trigger_id=record.trigger_id,
            trigger=record.trigger,
            sequence=sequence,
            idempotency_key=entry.idempotency_key,
            agent=record.agent,
            granted_scopes=record.granted_scopes,
            policy=record.policy,
            provider=record.provider,
            traceparent=record.traceparent,
            body_hash=record.body_hash,
        )
    )
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
    add_to_window(
        state,
        WindowItem(
            sequence=run.sequence, role="input", trigger_id=run.trigger_id, trigger=run.trigger
        ),
    )


def _cancel_request(state: SessionProjection, record: CancelRequest, *_: object) -> None:
    runs = [run for run in (state.run, *state.queue) if run is not None]
    for run in runs if record.trigger_id is not None else runs[:1]:
        if record.trigger_id in (None, run.trigger_id):
            run.cancel_reason = record.reason


def _model_decision(
    state: SessionProjection, record: ModelDecision, sequence: int, entry: NewRecord | StoredRecord
) -> None:
    if state.run is not None:
        state.run.steps = max(state.run.steps, record.step)
    action = record.action
    if record.invalid is not None:
        add_to_window(state, WindowItem(sequence=sequence, role="note", text=record.invalid))
    elif isinstance(action, Respond):
        add_to_window(state, WindowItem(sequence=sequence, role="reply", text=action.content))


def _deliberation(
    state: SessionProjection, record: Deliberation, sequence: int, entry: NewRecord | StoredRecord
) -> None:
    add_to_window(state, WindowItem(sequence=sequence, role="reply", text=record.summary))


def _execution_plan(state: SessionProjection, record: ExecutionPlan, *_: object) -> None:
    if state.run is not None:
        state.run.plan = record if record.status == "active" else None


def _summary(state: SessionProjection, record: Summary, *_: object) -> None:
    state.summary = record


def _usage(state: SessionProjection, record: ProviderUsage, *_: object) -> None:
    totals = state.usage
    if record.status == "reserved":
        totals.reserved_micros += record.cost_micros
        return
    totals.calls += 1
    totals.reserved_micros = 0
    totals.input_tokens += record.input_tokens
    totals.output_tokens += record.output_tokens
    totals.cached_tokens += record.cached_tokens
    totals.cost_micros += record.cost_micros
    if state.run is not None:
        state.run.cost_micros += record.cost_micros


def _outcome(state: SessionProjection, record: OutcomeRecord, *_: object) -> None:
    if state.run is not None and state.run.trigger_id == record.trigger_id:
        state.run = None
    state.outcomes += 1
    state.last_outcome = record


def add_to_window(state: SessionProjection, item: WindowItem) -> None:
    """Add to the conversation and let go of its oldest item where there are too many."""
    state.window.append(item)
    if len(state.window) > WINDOW_ITEMS:
        del state.window[0]
        state.window_cut = True


RUN_FOLDS: dict[type[Record], Any] = {
    TriggerRecord: _trigger,
    TriggerIntent: _trigger_intent,
    CancelRequest: _cancel_request,
    ModelDecision: _model_decision,
    Deliberation: _deliberation,
    ExecutionPlan: _execution_plan,
    Summary: _summary,
    ProviderUsage: _usage,
    OutcomeRecord: _outcome,
}
