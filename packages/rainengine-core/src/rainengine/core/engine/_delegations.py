"""Delegations: work that leaves through the outbox, and comes back as a trigger.

An order goes to the topic `delegation:STREAM`, a result to `delegation-result`. Whoever works on an
order answers with a `DelegationResult` to the parent's session, which the correlation id names.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from rainengine.core import codec
from rainengine.core.abc import OutboxItem
from rainengine.core.engine._services import Step
from rainengine.core.kernel import delegation_budget
from rainengine.core.projection import Run
from rainengine.core.records import (
    Delegate,
    DelegatedTask,
    Delegation,
    DelegationRequested,
    JsonObject,
    JsonValue,
    KernelEventRecord,
    OutcomeRecord,
    ProviderUsage,
    Record,
)

ORDERS = "delegation:"
"""The beginning of the topics that delegated work goes to; the stream's name follows."""

RESULTS = "delegation-result"
"""The topic that the results of delegated runs go to."""

_PAUSES = ("suspended", "delegated")


@attrs.frozen(kw_only=True)
class DelegationOrder:
    """Work that was delegated, as it stands in the outbox.

    `agent` and `session_id` are the parent's. The scopes and the budget (millionths of a currency
    unit, and tokens if they are bounded) are the most that whoever works on it may have; `depth`
    is how many delegations led to it.
    """

    session_id: str
    agent: str
    correlation_id: str
    worker: str | None
    task: DelegatedTask
    granted_scopes: tuple[str, ...]
    budget_micros: int
    budget_tokens: int | None
    depth: int

    @classmethod
    def read(cls, payload: JsonValue) -> DelegationOrder:
        """Read an outbox row's payload. Raises `InadmissibleValue`."""
        order: DelegationOrder = codec.structure(payload, cls)
        return order


@attrs.frozen(kw_only=True)
class DelegatedResult:
    """How a delegated run ended, as it stands in the outbox.

    `session_id` and `agent` are the parent's; cost is in millionths of a currency unit.
    """

    agent: str
    session_id: str
    correlation_id: str
    payload: JsonValue
    cost_micros: int
    tokens: int

    @classmethod
    def read(cls, payload: JsonValue) -> DelegatedResult:
        """Read an outbox row's payload. Raises `InadmissibleValue`."""
        result: DelegatedResult = codec.structure(payload, cls)
        return result


def delegate(
    step: Step, number: int, action: Delegate, *, automatic: bool
) -> tuple[list[Record], tuple[OutboxItem, ...], OutcomeRecord]:
    """Return the records of a delegation, what goes out for it, and the run's outcome."""
    correlation_id = step.services.ids.new_id()
    micros, tokens = delegation_budget(step.session.projection, step.run, step.policy)
    made = Delegation(
        correlation_id=correlation_id,
        target=action.target,
        task=action.task,
        step=number,
        granted_scopes=step.run.granted_scopes,
        budget_micros=micros,
        budget_tokens=tokens,
        depth=step.depth + 1,
        automatic=automatic,
    )
    requested = DelegationRequested(
        correlation_id=correlation_id,
        stream=action.target.stream,
        task_type=action.task.task_type,
    )
    outcome = OutcomeRecord(
        trigger_id=step.run.trigger_id,
        stop_reason="delegated",
        steps_executed=number,
        detail=f"{action.task.task_type} was delegated to {action.target.stream}",
        resume_token=correlation_id,
    )
    return [made, KernelEventRecord(requested), outcome], (_order(step, made),), outcome


def _order(step: Step, made: Delegation) -> OutboxItem:
    order: JsonObject = {
        "session_id": step.session.session_id,
        "agent": step.run.agent.name,
        "correlation_id": made.correlation_id,
        "worker": made.target.worker,
        "task": {"task_type": made.task.task_type, "payload": made.task.payload},
        "granted_scopes": [*made.granted_scopes],
        "budget_micros": made.budget_micros,
        "budget_tokens": made.budget_tokens,
        "depth": made.depth,
    }
    return OutboxItem(topic=f"{ORDERS}{made.target.stream}", payload=order)


def result_for_parent(
    run: Run, outcome: OutcomeRecord, spent: Sequence[ProviderUsage]
) -> tuple[OutboxItem, ...]:
    """Return what tells the run that delegated this one how it ended; nothing if none did."""
    if run.parent is None or outcome.stop_reason in _PAUSES:
        return ()
    payload: JsonObject = {
        "stop_reason": outcome.stop_reason,
        "response": outcome.response,
        "detail": outcome.detail,
    }
    result: JsonObject = {
        "agent": run.parent.agent,
        "session_id": run.parent.session_id,
        "correlation_id": run.parent.correlation_id,
        "payload": payload,
        "cost_micros": run.cost_micros + sum(usage.cost_micros for usage in spent),
        "tokens": run.tokens + sum(usage.input_tokens + usage.output_tokens for usage in spent),
    }
    return (OutboxItem(topic=RESULTS, payload=result),)
