"""Gates: the conditions under which a run may not go on. They are asked in this order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs

from rainengine.core.errors import ProviderErrorKind
from rainengine.core.kernel._budgets import reached, shown, used_up
from rainengine.core.projection import Run, SessionProjection
from rainengine.core.records import EnginePolicy, LimitReached, StopReason

REASON_CHARACTERS = 500
"""A reason is repeated by the records that end a run, which have to fit a ledger."""


@attrs.frozen
class Finish:
    """Effect: end the run with this reason, and on account of this limit of the policy, if any."""

    stop_reason: StopReason
    detail: str
    limit: LimitReached | None = None


Gate: TypeAlias = Callable[[Run, SessionProjection, EnginePolicy, int], Finish | None]


def deadline_ms(run: Run, policy: EnginePolicy) -> int:
    """When the run's time is over, in Unix milliseconds; suspended time does not count."""
    return run.started_at_ms + run.suspended_ms + policy.max_execution_time_ms


def cancelled(reason: str) -> Finish:
    """End a run that somebody has asked to be stopped; a long reason is cut."""
    return Finish("cancelled", reason[:REASON_CHARACTERS])


def _cancelled(run: Run, *_: object) -> Finish | None:
    return None if run.cancel_reason is None else cancelled(run.cancel_reason)


def _deadline(
    run: Run, projection: SessionProjection, policy: EnginePolicy, now_ms: int
) -> Finish | None:
    if now_ms < deadline_ms(run, policy):
        return None
    return out_of_time(run, policy, now_ms)


def out_of_time(run: Run, policy: EnginePolicy, now_ms: int) -> Finish:
    """End a run that may take no longer."""
    allowed = policy.max_execution_time_ms
    limit = LimitReached(
        name="max_execution_time_ms",
        allowed=allowed,
        reached=now_ms - run.started_at_ms - run.suspended_ms,
    )
    return Finish("deadline_exceeded", f"max_execution_time_ms={allowed} is over", limit)


def provider_failed(policy: EnginePolicy, detail: str, kind: ProviderErrorKind | None) -> Finish:
    """End a run whose provider failed, which is a limit reached where it took too long."""
    allowed = policy.provider_timeout_ms
    limit = LimitReached(name="provider_timeout_ms", allowed=allowed, reached=allowed)
    detail = detail[:REASON_CHARACTERS]
    return Finish("provider_failure", detail, limit if kind == "timeout" else None)


def _max_steps(
    run: Run, projection: SessionProjection, policy: EnginePolicy, now_ms: int
) -> Finish | None:
    if run.steps < policy.max_steps:
        return None
    limit = LimitReached(name="max_steps", allowed=policy.max_steps, reached=run.steps)
    return Finish("max_steps_reached", f"max_steps={policy.max_steps} is used up", limit)


def _tool_failures(
    run: Run, projection: SessionProjection, policy: EnginePolicy, now_ms: int
) -> Finish | None:
    if run.failure_steps < policy.max_consecutive_tool_failures:
        return None
    limit = LimitReached(
        name="max_consecutive_tool_failures",
        allowed=policy.max_consecutive_tool_failures,
        reached=run.failure_steps,
    )
    told = f"{run.failure_steps} steps in a row had only failed calls"
    return Finish("policy_aborted", told, limit)


def _budget(
    run: Run, projection: SessionProjection, policy: EnginePolicy, now_ms: int
) -> Finish | None:
    budget = used_up(projection, run, policy)
    if budget is None:
        return None
    used, limit = shown(budget, budget.used), shown(budget, budget.limit)
    detail = f"{budget.name}={limit} is used up, with {used}"
    return Finish("policy_aborted", detail, reached(budget))


GATES: tuple[Gate, ...] = (
    _cancelled,
    _deadline,
    _max_steps,
    _tool_failures,
    _budget,
)
"""Asked before every step."""

GRAPH_GATES: tuple[Gate, ...] = (_cancelled, _deadline)
"""Asked before an unfinished graph goes on; its step was let through when it began."""


def closed_gate(
    gates: tuple[Gate, ...],
    run: Run,
    projection: SessionProjection,
    policy: EnginePolicy,
    now_ms: int,
) -> Finish | None:
    """Return how the first closed gate ends the run, or None where all are open."""
    for gate in gates:
        finish = gate(run, projection, policy, now_ms)
        if finish is not None:
            return finish
    return None
