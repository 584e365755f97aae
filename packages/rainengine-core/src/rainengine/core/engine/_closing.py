"""Ending a run: what is recorded, and who else is told of it."""

from __future__ import annotations

from collections.abc import Sequence

from rainengine.core.engine._delegations import call_off, result_for_parent, set_aside
from rainengine.core.engine._reservations import forfeited, unused
from rainengine.core.engine._services import Step
from rainengine.core.kernel import Ended, Finish, closing_records
from rainengine.core.records import OutcomeRecord, ProviderUsage, Record


async def finish(
    step: Step,
    batch: list[Record],
    end: Finish,
    *,
    steps: int,
    response: str | None = None,
    found_out: Sequence[Ended] = (),
) -> OutcomeRecord:
    """Append what ends the run, after `batch`; return its outcome.

    `found_out` is what became of calls that were interrupted.
    """
    batch = [*unused(step), *batch]
    spent = [record for record in batch if isinstance(record, ProviderUsage)]
    spent += [*forfeited(step, batch), *set_aside(step.run)]
    closing = closing_records(
        step.session.projection,
        step.run,
        end,
        steps=steps,
        now_ms=step.now_ms(),
        response=response,
        cost_micros=sum(record.cost_micros for record in spent),
        found_out=found_out,
    )
    outcome = next(record for record in closing if isinstance(record, OutcomeRecord))
    cap = step.session.backing.ledger.max_payload_bytes
    told = result_for_parent(step.run, outcome, spent, cap=cap)
    await step.commit([*batch, *closing], (*told, *call_off(step.run, end.detail)))
    return outcome
