"""Delegations: work that leaves through the outbox, and comes back as a trigger."""

from __future__ import annotations

from collections.abc import Sequence

from rainengine.core import codec
from rainengine.core.abc import (
    ORDERS,
    RESULTS,
    DelegatedResult,
    DelegationCancelled,
    DelegationOrder,
    OutboxItem,
)
from rainengine.core.engine._services import Step
from rainengine.core.kernel import delegation_budget
from rainengine.core.projection import Run
from rainengine.core.records import (
    PAUSES,
    Delegate,
    Delegation,
    DelegationRequested,
    HumanInput,
    JsonObject,
    KernelEventRecord,
    Message,
    OutcomeRecord,
    ProviderUsage,
    Record,
    StopReason,
)

_ROOM_BYTES = 16 * 1024
"""What the trigger's record of a result needs besides it."""

ROOM_WHEN_ASKED = 1024
"""Bytes that an order may grow by from when people are asked of it until it goes out."""

ROOM_WHEN_APPROVED = 512
"""Bytes that it may grow by as it goes out; less, so that what was asked of can be approved."""

_LATEST_MS = 2**53
_DONE: frozenset[StopReason] = frozenset({"responded", "yielded"})


def delegate(
    step: Step, batch: Sequence[Record], number: int, action: Delegate, *, automatic: bool
) -> tuple[list[Record], tuple[OutboxItem, ...], OutcomeRecord]:
    """Return the records of a delegation, what goes out for it, and the run's outcome."""
    correlation_id = step.services.ids.new_id()
    made = _made(step, batch, number, action, correlation_id, automatic=automatic)
    requested = DelegationRequested(
        correlation_id=correlation_id,
        stream=action.target.stream,
        task_type=action.task.task_type,
    )
    outcome = OutcomeRecord(
        trigger_id=step.run.trigger_id,
        stop_reason="delegated",
        steps_executed=number,
        detail=f"{action.task.task_type:.200} was delegated to {action.target.stream}",
        resume_token=correlation_id,
    )
    order = _item(made.target.stream, _order(step, made))
    return [made, KernelEventRecord(requested), outcome], (order,), outcome


def check_order(
    step: Step, batch: Sequence[Record], number: int, action: Delegate, *, room: int
) -> None:
    """Raise `InadmissibleValue` where work could not go out with so many bytes to spare.

    Its decision may just fit: with what an order says besides, it may not.
    """
    made = _made(step, batch, number, action, "0" * 32, automatic=False)
    cap = step.session.backing.ledger.max_payload_bytes
    cap -= min(room, cap // 4)
    codec.encode(made, cap=cap)
    codec.to_json_object(codec.to_json(_order(step, made)), cap=cap)


def _made(
    step: Step,
    batch: Sequence[Record],
    number: int,
    action: Delegate,
    correlation_id: str,
    *,
    automatic: bool,
) -> Delegation:
    micros, tokens = _budget(step, batch)
    return Delegation(
        correlation_id=correlation_id,
        target=action.target,
        task=action.task,
        step=number,
        granted_scopes=step.run.granted_scopes,
        budget_micros=micros,
        budget_tokens=tokens,
        depth=step.depth + 1,
        automatic=automatic,
        expires_at_ms=min(step.now_ms() + step.profile.escalation.delegation_ttl_ms, _LATEST_MS),
    )


def _budget(step: Step, batch: Sequence[Record]) -> tuple[int, int | None]:
    """What may be used of what is left, once what `batch` settles is taken into account."""
    settled = [record for record in batch if isinstance(record, ProviderUsage)]
    held = [step.run.reservation] if settled and step.run.reservation is not None else []
    return delegation_budget(
        step.session.projection,
        step.run,
        step.policy,
        micros=_cost(settled) - _cost(held),
        tokens=_tokens(settled) - _tokens(held),
    )


def _order(step: Step, made: Delegation) -> DelegationOrder:
    return DelegationOrder(
        session_id=step.session.session_id,
        agent=step.run.agent.name,
        correlation_id=made.correlation_id,
        worker=made.target.worker,
        task=made.task,
        granted_scopes=made.granted_scopes,
        budget_micros=made.budget_micros or 0,
        budget_tokens=made.budget_tokens,
        depth=made.depth,
        max_depth=step.max_depth,
        requester=requester(step.run),
    )


def _item(stream: str, row: DelegationOrder | DelegationCancelled) -> OutboxItem:
    return OutboxItem(topic=f"{ORDERS}{stream}", payload=codec.to_json(row))


def requester(run: Run) -> str | None:
    """The person who set a run, or the one that delegated or asked for it, in motion, if any."""
    if run.parent is not None:
        return run.parent.requester
    if run.requester is not None:
        return run.requester
    if isinstance(run.trigger, Message):
        return run.trigger.user_id
    return run.trigger.actor_id if isinstance(run.trigger, HumanInput) else None


# The end of a run.


def set_aside(run: Run) -> tuple[ProviderUsage, ...]:
    """Return, as usage, the budget of a delegation that has no result as its run ends."""
    made = run.delegation
    if made is None:
        return ()
    micros, tokens = made.budget_micros or 0, made.budget_tokens or 0
    return (
        ProviderUsage(step=made.step, status="failed", cost_micros=micros, input_tokens=tokens),
    )


def call_off(run: Run, reason: str) -> tuple[OutboxItem, ...]:
    """Return what tells whoever works for a run that nobody waits any more."""
    made = run.delegation
    if made is None:
        return ()
    row = DelegationCancelled(correlation_id=made.correlation_id, reason=reason)
    return (_item(made.target.stream, row),)


def result_for_parent(
    run: Run, outcome: OutcomeRecord, spent: Sequence[ProviderUsage], *, cap: int
) -> tuple[OutboxItem, ...]:
    """Return what tells the run that delegated this one how it ended; nothing if none did.

    `spent` is what its projection does not know yet. A response that is too large for its parent's
    ledger is left out, as `detail` says.
    """
    if run.parent is None or outcome.stop_reason in PAUSES:
        return ()
    result = DelegatedResult(
        agent=run.parent.agent,
        session_id=run.parent.session_id,
        correlation_id=run.parent.correlation_id,
        payload=_told(outcome, cap - min(_ROOM_BYTES, cap // 4)),
        cost_micros=run.cost_micros + _cost(spent),
        tokens=run.tokens + _tokens(spent),
        failed=outcome.stop_reason not in _DONE,
    )
    return (OutboxItem(topic=RESULTS, payload=codec.to_json(result)),)


def _told(outcome: OutcomeRecord, room: int) -> JsonObject:
    told: JsonObject = {
        "stop_reason": outcome.stop_reason,
        "response": outcome.response,
        "detail": outcome.detail,
    }
    size = len(codec.encode_value(told))
    if size <= room:
        return told
    detail = f"what it answered is too large to be handed back: {size} bytes"
    return {**told, "response": None, "detail": detail}


def _cost(usage: Sequence[ProviderUsage]) -> int:
    return sum(record.cost_micros for record in usage)


def _tokens(usage: Sequence[ProviderUsage]) -> int:
    return sum(record.input_tokens + record.output_tokens for record in usage)
