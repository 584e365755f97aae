"""Folding of runs that wait for an answer: parked under a token, which is spent once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rainengine.core.projection._spending import reserve, settle_delegation
from rainengine.core.projection._state import SPENT_TOKENS, ParkedRun, Run, SessionProjection
from rainengine.core.projection._window import add_input, tell
from rainengine.core.records import (
    ApprovalResolution,
    Delegation,
    DelegationResolved,
    JsonObject,
    JsonValue,
    KernelEventRecord,
    NewRecord,
    OutcomeRecord,
    PendingApproval,
    Record,
    StoredRecord,
    TriggerIntent,
)


def _pending(
    state: SessionProjection, record: PendingApproval, sequence: int, entry: object
) -> None:
    if state.run is not None:
        state.run.pending = record
    tell(state, sequence, _asked(record))


def _asked(record: PendingApproval) -> JsonObject:
    facts: JsonObject = {"event": "waiting_for_a_person", "reason": record.reason}
    if record.calls:
        calls: list[JsonValue] = [{"name": call.name, "args": call.args} for call in record.calls]
        facts["calls"] = calls
    if record.delegation is not None:
        facts["delegation"] = record.delegation.task.task_type
    if record.doubts:
        facts["in_doubt"] = [*record.doubts]
    return facts


def _resolution(
    state: SessionProjection,
    record: ApprovalResolution,
    sequence: int,
    entry: NewRecord | StoredRecord,
) -> None:
    parked = _unpark(state, record.resume_token)
    if parked is not None:
        _resume(state, parked, sequence, entry.occurred_at_ms)
        _break_plan(parked.run, broken=record.decision == "rejected")


def _delegation(state: SessionProjection, record: Delegation, sequence: int, entry: object) -> None:
    if state.run is not None:
        state.run.delegation = record
    state.auto_delegations += record.automatic
    reserve(state, record.budget_micros or 0, record.budget_tokens or 0)
    task = record.task.task_type
    tell(state, sequence, {"event": "delegated", "to": record.target.stream, "task": task})


def resolve_delegation(
    state: SessionProjection, event: DelegationResolved, sequence: int, at_ms: int
) -> None:
    """Take in that handed-over work came back: its run goes on."""
    _count_settled(state, event.correlation_id, "failed" if event.failed else "resolved")
    parked = _unpark(state, event.correlation_id)
    if parked is not None:
        settle_delegation(state, parked.run, event.cost_micros, event.tokens)
        _resume(state, parked, sequence, at_ms)
        _break_plan(parked.run, broken=event.failed)


def park(state: SessionProjection, run: Run, token: str, at_ms: int) -> None:
    """Set a run aside until somebody answers to this token."""
    state.parked[token] = ParkedRun(run=run, since_ms=at_ms)


def give_up(state: SessionProjection, trigger_id: str) -> None:
    """Forget a parked run that has ended; what was set aside for it counts as spent."""
    for token, parked in list(state.parked.items()):
        if parked.run.trigger_id == trigger_id:
            _unpark(state, token)
            delegation = parked.run.delegation
            if delegation is not None:
                _count_settled(state, token, "called_off")
                spent = delegation.budget_micros or 0, delegation.budget_tokens or 0
                settle_delegation(state, parked.run, *spent)


def _count_settled(state: SessionProjection, correlation_id: str, end: str) -> None:
    """Forget work that was handed over, but for how it ended."""
    if state.world.resources.pop(correlation_id, None) is not None:
        settled = state.world.settled_delegations
        settled[end] = settled.get(end, 0) + 1


def _unpark(state: SessionProjection, token: str) -> ParkedRun | None:
    state.spent_tokens.append(token)
    del state.spent_tokens[:-SPENT_TOKENS]
    return state.parked.pop(token, None)


def _resume(state: SessionProjection, parked: ParkedRun, sequence: int, at_ms: int) -> None:
    answer, run = state.run, parked.run
    if answer is not None:
        add_input(state, answer, sequence)
    state.run = run
    run.suspended_ms += max(at_ms - parked.since_ms, 0)
    run.pending = run.delegation = None


def _break_plan(run: Run, *, broken: bool) -> None:
    run.plan_broken |= broken and run.plan is not None


def next_expiry_ms(parked: Iterable[ParkedRun]) -> int | None:
    """When the first of these runs can be answered no more; None where all can be for ever."""
    times = (one.expires_at_ms for one in parked if one.run.cancel_reason is None)
    return min((at_ms for at_ms in times if at_ms is not None), default=None)


def left_over(state: SessionProjection, batch: Sequence[Record] = ()) -> int:
    """How many runs have their turn behind one that `batch` ends."""
    if not state.queue and not state.parked:  # the usual case, quickly
        return 0
    begun = {record.trigger_id for record in batch if isinstance(record, TriggerIntent)}
    ended = {record.trigger_id for record in batch if isinstance(record, OutcomeRecord)}
    queued = {run.trigger_id for run in state.queue}
    called_off = {
        parked.run.trigger_id
        for parked in state.parked.values()
        if parked.run.cancel_reason is not None
    }
    return len(queued - begun) + len(called_off - ended)


def still_parked(state: SessionProjection, batch: Sequence[Record] = ()) -> list[ParkedRun]:
    """Return the runs that wait for an answer, and still will behind `batch`."""
    if not state.parked:  # the usual case, quickly
        return []
    spent = {record.resume_token for record in batch if isinstance(record, ApprovalResolution)}
    spent |= {
        record.event.correlation_id
        for record in batch
        if isinstance(record, KernelEventRecord) and isinstance(record.event, DelegationResolved)
    }
    ended = {record.trigger_id for record in batch if isinstance(record, OutcomeRecord)}
    return [
        parked
        for token, parked in state.parked.items()
        if token not in spent and parked.run.trigger_id not in ended
    ]


WAITING_FOLDS: dict[type[Record], Any] = {
    PendingApproval: _pending,
    ApprovalResolution: _resolution,
    Delegation: _delegation,
}
