"""Decisions from which nothing can follow, as what follows could not be stored.

They are recorded as any other that cannot be followed, with what they cost: a call of the model
that left no trace would be made again with every advance, outside of steps and budgets.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from rainengine.core import codec
from rainengine.core.engine import _asking as asking
from rainengine.core.engine._planning import given_up
from rainengine.core.engine._services import Step
from rainengine.core.errors import InadmissibleValue
from rainengine.core.records import (
    ExecutionPlan,
    ModelDecision,
    ProviderCache,
    ProviderUsage,
    Record,
)

UNSTORABLE = (
    InadmissibleValue,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What may be raised where records are made of a decision, before anything is appended."""

_REASON_CHARACTERS = 500


def unfollowed(
    step: Step, batch: Sequence[Record], number: int, error: Exception
) -> list[Record] | None:
    """Return what is recorded instead of `batch`, as a step; None where it was no step at all."""
    why = codec.clean_text(asking.told(error))[:_REASON_CHARACTERS]
    spent = [record for record in batch if isinstance(record, ProviderUsage | ProviderCache)]
    plans = [record for record in batch if isinstance(record, ExecutionPlan)]
    decisions = [record for record in batch if isinstance(record, ModelDecision)]
    broken = [plan for plan in plans if plan.status == "abandoned"]
    if decisions:
        return [*broken, *spent, *(_invalid(decision, why) for decision in decisions)]
    if spent:
        return [*broken, *spent, ModelDecision(step=number, action=None, invalid=why)]
    if plans and step.run.plan is not None:
        return [given_up(step.run.plan, number, why)]
    return None


def _invalid(decision: ModelDecision, why: str) -> ModelDecision:
    if decision.action is None:
        return decision
    return attrs.evolve(decision, action=None, invalid=why, raw=asking.raw(decision.action))
