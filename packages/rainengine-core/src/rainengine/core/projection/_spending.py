"""Folding of what models cost: reserved before a call, settled after it.

A reservation whose call has no recorded end counts as spent: the call may have been made.
"""

from __future__ import annotations

from typing import Any

from rainengine.core.projection._state import Run, SessionProjection
from rainengine.core.records import ProviderUsage, Record


def _usage(state: SessionProjection, record: ProviderUsage, *_: object) -> None:
    run = state.run
    if record.status == "reserved":
        if run is not None:
            forfeit_reservation(state, run)
            run.reservation = record
        reserve(state, record.cost_micros, record.input_tokens + record.output_tokens)
        return
    if run is not None:
        _release(state, run)
    if record.status != "released":
        _spend(state, run, record)


def _spend(state: SessionProjection, run: Run | None, record: ProviderUsage) -> None:
    totals = state.usage
    totals.calls += 1
    totals.input_tokens += record.input_tokens
    totals.output_tokens += record.output_tokens
    totals.cached_tokens += record.cached_tokens
    totals.cost_micros += record.cost_micros
    if run is None:
        return
    run.cost_micros += record.cost_micros
    run.tokens += record.input_tokens + record.output_tokens
    run.retry_at_ms = record.retry_at_ms or 0
    if record.status == "failed":
        run.steps = max(run.steps, record.step)
        run.provider_failures += 1
    else:
        run.provider_failures = 0


def forfeit_reservation(state: SessionProjection, run: Run) -> None:
    """Count what is still reserved for a call of the run as spent by it."""
    reserved = run.reservation
    if reserved is None:
        return
    _release(state, run)
    state.usage.input_tokens += reserved.input_tokens
    state.usage.output_tokens += reserved.output_tokens
    state.usage.cost_micros += reserved.cost_micros
    run.cost_micros += reserved.cost_micros
    run.tokens += reserved.input_tokens + reserved.output_tokens


def _release(state: SessionProjection, run: Run) -> None:
    reserved, run.reservation = run.reservation, None
    if reserved is not None:
        reserve(state, -reserved.cost_micros, -reserved.input_tokens - reserved.output_tokens)


def reserve(state: SessionProjection, micros: int, tokens: int) -> None:
    """Set aside what something may use; negative amounts give it back."""
    state.usage.reserved_micros += micros
    state.usage.reserved_tokens += tokens


def settle_delegation(state: SessionProjection, run: Run, micros: int, tokens: int) -> None:
    """Count what handed-over work used, instead of what was set aside for it."""
    if run.delegation is None:
        return
    reserve(state, -(run.delegation.budget_micros or 0), -(run.delegation.budget_tokens or 0))
    state.usage.cost_micros += micros
    state.usage.input_tokens += tokens
    run.cost_micros += micros
    run.tokens += tokens


SPENDING_FOLDS: dict[type[Record], Any] = {ProviderUsage: _usage}
