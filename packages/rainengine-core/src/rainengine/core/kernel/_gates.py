"""Gates: the conditions under which a run may not go on. They are asked in this order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs

from rainengine.core.projection import Run, SessionProjection
from rainengine.core.records import Approval, DelegationResult, EnginePolicy, StopReason


@attrs.frozen
class Finish:
    """Effect: end the run with this reason."""

    stop_reason: StopReason
    detail: str


Gate: TypeAlias = Callable[[Run, SessionProjection, EnginePolicy, int], Finish | None]


def deadline_ms(run: Run, policy: EnginePolicy) -> int:
    """When the run's time is over, in Unix milliseconds; suspended time does not count."""
    return run.started_at_ms + run.suspended_ms + policy.max_execution_time_ms


def _nothing_waits(run: Run, *_: object) -> Finish | None:
    """An answer for which nothing waits: its token is unknown, and nothing runs."""
    if not isinstance(run.trigger, Approval | DelegationResult):
        return None
    return Finish("policy_aborted", "nothing in this session waits for this answer")


def _cancelled(run: Run, *_: object) -> Finish | None:
    return None if run.cancel_reason is None else Finish("cancelled", run.cancel_reason)


def _deadline(
    run: Run, projection: SessionProjection, policy: EnginePolicy, now_ms: int
) -> Finish | None:
    if now_ms < deadline_ms(run, policy):
        return None
    return Finish(
        "deadline_exceeded", f"max_execution_time_ms={policy.max_execution_time_ms} is over"
    )


def _max_steps(
    run: Run, projection: SessionProjection, policy: EnginePolicy, now_ms: int
) -> Finish | None:
    if run.steps < policy.max_steps:
        return None
    return Finish("max_steps_reached", f"max_steps={policy.max_steps} is used up")


def _tool_failures(
    run: Run, projection: SessionProjection, policy: EnginePolicy, now_ms: int
) -> Finish | None:
    if run.failure_steps < policy.max_consecutive_tool_failures:
        return None
    return Finish("policy_aborted", f"{run.failure_steps} steps in a row had only failed calls")


def _cost(
    run: Run, projection: SessionProjection, policy: EnginePolicy, now_ms: int
) -> Finish | None:
    spent = projection.usage.cost_micros + projection.usage.reserved_micros
    if spent < policy.max_cost_per_session * 1_000_000:
        return None
    return Finish(
        "policy_aborted",
        f"the session cost {spent / 1_000_000:g}, its limit is {policy.max_cost_per_session:g}",
    )


GATES: tuple[Gate, ...] = (
    _nothing_waits,
    _cancelled,
    _deadline,
    _max_steps,
    _tool_failures,
    _cost,
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
