"""Budgets of cost and tokens: what is left, and whether a call fits into it.

Amounts of cost are millionths of a currency unit. What is reserved counts as used.
"""

from __future__ import annotations

from typing import Literal

import attrs

from rainengine.core.projection import Run, SessionProjection
from rainengine.core.records import EnginePolicy, LimitReached

MICROS = 1_000_000
_MOST_MICROS = 2**53
"""More than this is no amount that a call can cost: a ceiling up there is none."""


def micros_of(amount: float) -> int:
    """Return an amount of the policy in millionths, as far as they can be counted."""
    return round(max(min(amount * MICROS, _MOST_MICROS), -_MOST_MICROS))


@attrs.frozen(kw_only=True)
class Budget:
    """One ceiling: its name in the policy, how much it allows, and how much of that is used.

    Both are counted in its `unit`: tokens, or millionths of a currency unit.
    """

    name: str
    limit: int
    used: int
    unit: Literal["micros", "tokens"]

    @property
    def left(self) -> int:
        """How much may still be used; never below 0."""
        return max(self.limit - self.used, 0)


@attrs.frozen(kw_only=True)
class Shortfall:
    """Why a call does not fit under a ceiling, in words and in numbers."""

    detail: str
    limit: LimitReached


def cost_budgets(projection: SessionProjection, run: Run, policy: EnginePolicy) -> list[Budget]:
    """The ceilings of cost that hold for a run."""
    usage, reserved = projection.usage, _reserved_micros(run)
    session = _budget(
        "max_cost_per_session",
        policy.max_cost_per_session,
        usage.cost_micros + usage.reserved_micros,
    )
    if policy.max_cost_per_run is None:
        return [session]
    return [
        _budget("max_cost_per_run", policy.max_cost_per_run, run.cost_micros + reserved),
        session,
    ]


def token_budgets(projection: SessionProjection, run: Run, policy: EnginePolicy) -> list[Budget]:
    """The ceilings of tokens that hold for a run."""
    budgets: list[Budget] = []
    if policy.max_tokens_per_run is not None:
        used = run.tokens + _reserved_tokens(run)
        budgets.append(
            Budget(
                name="max_tokens_per_run",
                limit=policy.max_tokens_per_run,
                used=used,
                unit="tokens",
            )
        )
    if policy.max_tokens_per_session is not None:
        used = projection.usage.tokens + projection.usage.reserved_tokens
        limit = policy.max_tokens_per_session
        budgets.append(Budget(name="max_tokens_per_session", limit=limit, used=used, unit="tokens"))
    return budgets


def _budget(name: str, amount: float, used: int) -> Budget:
    return Budget(name=name, limit=micros_of(amount), used=used, unit="micros")


def _reserved_micros(run: Run) -> int:
    return 0 if run.reservation is None else run.reservation.cost_micros


def _reserved_tokens(run: Run) -> int:
    if run.reservation is None:
        return 0
    return run.reservation.input_tokens + run.reservation.output_tokens


def used_up(projection: SessionProjection, run: Run, policy: EnginePolicy) -> Budget | None:
    """Return a ceiling that leaves nothing for another call, or None.

    With a reservation for that call there is nothing left only where something passed the ceiling.
    """
    slack = 0 if run.reservation is None else 1
    budgets = (*cost_budgets(projection, run, policy), *token_budgets(projection, run, policy))
    return next((budget for budget in budgets if budget.used >= budget.limit + slack), None)


def too_small(
    projection: SessionProjection, run: Run, policy: EnginePolicy, *, micros: int, tokens: int
) -> Shortfall | None:
    """Say why a call that may use so much does not fit under the ceilings; None where it does."""
    for budget in cost_budgets(projection, run, policy):
        if micros > budget.left:
            return _lacking(budget, micros)
    for budget in token_budgets(projection, run, policy):
        if tokens > budget.left:
            return _lacking(budget, tokens)
    return None


def _lacking(budget: Budget, amount: int) -> Shortfall:
    needed, limit = shown(budget, amount), shown(budget, budget.limit)
    left = shown(budget, budget.left)
    return Shortfall(
        detail=f"the next call may use {needed}, and of {budget.name}={limit} there is {left} left",
        limit=reached(budget),
    )


def reached(budget: Budget) -> LimitReached:
    """Tell of a ceiling as the limit that ended a run."""
    return LimitReached(name=budget.name, allowed=max(budget.limit, 0), reached=budget.used)


def shown(budget: Budget, amount: int) -> str:
    """Say an amount in the unit that the policy has for it."""
    return f"{amount} tokens" if budget.unit == "tokens" else f"{amount / MICROS:g}"


def delegation_budget(
    projection: SessionProjection, run: Run, policy: EnginePolicy, *, micros: int, tokens: int
) -> tuple[int, int | None]:
    """What a delegation may use of what is left: cost, and tokens if they are bounded.

    `micros` and `tokens` are what is used beyond what the projection knows, and may be negative.
    """
    most = micros_of(policy.max_cost_per_delegation)
    cost = [budget.limit - budget.used for budget in cost_budgets(projection, run, policy)]
    left = [budget.limit - budget.used for budget in token_budgets(projection, run, policy)]
    of_tokens = max(min(left) - tokens, 0) if left else None
    return max(min(most, min(cost) - micros), 0), of_tokens
