"""Tuning of the policy: what is proposed, applied and taken back when a run has ended.

- A limit is raised once it has ended `min_observations_before_tuning` runs, and only to its
  ceiling, which is one step of `max_policy_delta_percent` above the operator's value. The outcomes
  are counted as they are folded, so none is lost where the reflection is left out.
- What is counted was seen at the limit of today: outcomes at a smaller one are no evidence.
- A run that goes wrong under an overlay takes the whole overlay back, whatever went wrong: which
  of its values did it cannot be known, and the operator's own policy is the safe one. It is not
  waited for the next reflection. A run without a step has gone wrong by itself.
- After a rollback nothing is known any more: all is counted anew, from the next run on. What was
  taken back needs twice as many outcomes as before, so a tuning that does harm comes back ever more
  seldom: n outcomes see about log n rollbacks of it.
- Budgets are never raised. That one has ended runs is recorded once, as `rejected_unsafe`.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from rainengine.core.kernel._policy import ceiling, effective_policy
from rainengine.core.projection import Learning, LimitHistory, Proposal, Run, SessionProjection
from rainengine.core.projection import observed as learning_after
from rainengine.core.records import (
    EnginePolicy,
    OutcomeRecord,
    PolicyOverlay,
    PolicyTuning,
    SelfImprovementPolicy,
    StopReason,
)

_RAISED = ("provider_timeout_ms", "max_steps", "max_execution_time_ms")
"""The limits that are raised where they end runs."""

_BUDGETS = (
    "max_cost_per_session",
    "max_cost_per_run",
    "max_tokens_per_session",
    "max_tokens_per_run",
)

_REGRESSIONS: frozenset[StopReason] = frozenset(
    {"provider_failure", "deadline_exceeded", "policy_aborted"}
)

_ROLLBACK_CONDITION = f"a run under it ends with {', '.join(sorted(_REGRESSIONS))}"
_MOST_DOUBLINGS = 16

_Status: TypeAlias = Literal["proposed", "applied"]


def needed(policy: SelfImprovementPolicy, history: LimitHistory) -> int:
    """How many runs a limit has to end before it is tuned."""
    least = max(policy.min_observations_before_tuning, 1)
    return least << min(history.rollbacks, _MOST_DOUBLINGS)


# Taking back.


def rollbacks(
    projection: SessionProjection, run: Run, outcome: OutcomeRecord
) -> list[PolicyTuning]:
    """Return what takes the overlay back, if the run went wrong under it."""
    policy = effective_policy(run.policy, projection.overlay)
    wrong = outcome.stop_reason in _REGRESSIONS and outcome.steps_executed > 0
    if policy is run.policy or not wrong or not policy.self_improvement.rollback_on_regression:
        return []
    by_tuning: dict[str, list[str]] = {}
    for name, reference in projection.learning.tuned.items():
        by_tuning.setdefault(reference.tuning_id, []).append(name)
    return [
        _rollback(tuning_id, names, projection, policy, outcome)
        for tuning_id, names in by_tuning.items()
    ]


def _rollback(
    tuning_id: str,
    names: list[str],
    projection: SessionProjection,
    policy: EnginePolicy,
    outcome: OutcomeRecord,
) -> PolicyTuning:
    return PolicyTuning(
        tuning_id=tuning_id,
        status="rolled_back",
        limit=names[0],
        reason=f"the run {outcome.trigger_id} ended with {outcome.stop_reason} under it",
        overlay=PolicyOverlay(**{name: getattr(projection.overlay, name) for name in names}),
        prior=PolicyOverlay(**{name: getattr(policy, name) for name in names}),
        evidence=(outcome.trigger_id,),
        confidence=1.0,
    )


# Raising.


@attrs.frozen(kw_only=True)
class _Facts:
    """What tuning goes by: the operator's policy, the one in force, and what was learned."""

    trigger_id: str
    base: EnginePolicy
    policy: EnginePolicy
    learning: Learning


def tunings(projection: SessionProjection, run: Run, outcome: OutcomeRecord) -> list[PolicyTuning]:
    """Return what the limits that ended this run and earlier ones call for."""
    facts = _Facts(
        trigger_id=run.trigger_id,
        base=run.policy,
        policy=effective_policy(run.policy, projection.overlay),
        learning=learning_after(projection.learning, outcome),
    )
    if not facts.learning.limits:
        return []
    found = (*(_raise(facts, name) for name in _RAISED), *(_reject(facts, b) for b in _BUDGETS))
    return [tuning for tuning in found if tuning is not None]


def _raise(facts: _Facts, name: str) -> PolicyTuning | None:
    history = _enough(facts, name)
    now, most = getattr(facts.policy, name), ceiling(facts.base, name)
    if history is None or history.allowed < now or most <= now:
        return None
    earlier = facts.learning.proposals.get(name)
    if earlier is not None and earlier.value != most:
        earlier = None
    status = _status(facts, history, earlier)
    if status is None:
        return None
    confirmed = () if earlier is None or status == "proposed" else earlier.confirmed_by
    return PolicyTuning(
        tuning_id=_id(facts, name) if earlier is None else earlier.tuning_id,
        status=status,
        limit=name,
        reason=_reason(facts, name, history),
        prior=PolicyOverlay(**{name: now}),
        overlay=PolicyOverlay(**{name: most}),
        evidence=confirmed or history.evidence,
        confidence=_confidence(facts, history),
        rollback_condition=_ROLLBACK_CONDITION,
    )


def _status(facts: _Facts, history: LimitHistory, earlier: Proposal | None) -> _Status | None:
    policy = facts.base.self_improvement
    if policy.mode == "auto_with_guardrails":
        return "applied"
    if earlier is None:
        return "proposed"
    confirmed = earlier.confirmations >= needed(policy, history)
    return "applied" if policy.mode == "shadow" and confirmed else None


def _reject(facts: _Facts, name: str) -> PolicyTuning | None:
    history = _enough(facts, name)
    earlier = facts.learning.proposals.get(name)
    if history is None or (earlier is not None and earlier.value == history.allowed):
        return None
    return PolicyTuning(
        tuning_id=_id(facts, name),
        status="rejected_unsafe",
        limit=name,
        reason=f"{_reason(facts, name, history)}: a budget is never raised by itself",
        evidence=history.evidence,
        confidence=_confidence(facts, history),
    )


def _enough(facts: _Facts, name: str) -> LimitHistory | None:
    history = facts.learning.limits.get(name)
    if history is None or history.stops < needed(facts.base.self_improvement, history):
        return None
    return history


def _id(facts: _Facts, name: str) -> str:
    return f"{facts.trigger_id}:{name}"


def _seen(facts: _Facts, history: LimitHistory) -> int:
    return facts.learning.runs - history.since


def _reason(facts: _Facts, name: str, history: LimitHistory) -> str:
    return f"{name} ended {history.stops} of {_seen(facts, history)} runs"


def _confidence(facts: _Facts, history: LimitHistory) -> float:
    return round(history.stops / _seen(facts, history), 4)
