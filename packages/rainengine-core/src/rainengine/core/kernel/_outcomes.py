"""What is recorded when a run ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rainengine.core.kernel._gates import REASON_CHARACTERS, Finish
from rainengine.core.kernel._graph import Ended, progress
from rainengine.core.kernel._learning import learned
from rainengine.core.projection import Graph, Node, Run, SessionProjection
from rainengine.core.records import (
    CallReference,
    OutcomeRecord,
    Record,
    Reflection,
    ToolFailure,
    ToolResult,
)

_UNTOLD = ("responded", "yielded")
"""Ends that a run comes to by itself: what it has done is told by its answer."""


def closing_records(
    projection: SessionProjection,
    run: Run,
    finish: Finish,
    *,
    steps: int,
    now_ms: int,
    response: str | None = None,
    cost_micros: int = 0,
    found_out: Sequence[Ended] = (),
) -> list[Record]:
    """Return the batch that ends a run: open calls settled, outcome, reflection, performance.

    `cost_micros` is what the last call cost, which the projection does not have yet; `found_out`
    is what became of calls that were interrupted.
    """
    settled: tuple[Record, ...] = ()
    if run.graph is not None:
        settled = settle_open_calls(run.graph, finish.detail, found_out)
    stopped = finish.stop_reason not in _UNTOLD
    outcome = OutcomeRecord(
        trigger_id=run.trigger_id,
        stop_reason=finish.stop_reason,
        steps_executed=steps,
        response=response,
        detail=_detail(finish, settled),
        limit=finish.limit,
        done=(*run.done, *_references(run, _done(settled))) if stopped else (),
        in_doubt=(*run.in_doubt, *_references(run, _doubtful(settled))) if stopped else (),
    )
    cost_micros += run.cost_micros
    results = [record for record in settled if isinstance(record, ToolResult)]
    reflection = Reflection(
        trigger_id=run.trigger_id,
        stop_reason=finish.stop_reason,
        steps=steps,
        tool_results=run.tool_results + len(results),
        tool_failures=run.tool_failures + sum(result.failure is not None for result in results),
        cost_micros=cost_micros,
        duration_ms=_duration_ms(projection, run, now_ms),
    )
    return [*settled, outcome, *learned(projection, run, outcome, reflection, results)]


def _duration_ms(projection: SessionProjection, run: Run, now_ms: int) -> int:
    waiting = projection.waiting(run.trigger_id)
    end_ms = now_ms if waiting is None else waiting.since_ms
    return max(end_ms - run.started_at_ms - run.suspended_ms, 0)


def _references(run: Run, results: Sequence[ToolResult]) -> Iterable[CallReference]:
    step = 0 if run.graph is None else run.graph.step
    for result in results:
        yield CallReference(step=step, call_id=result.call_id, name=result.name)


def _done(settled: tuple[Record, ...]) -> list[ToolResult]:
    return [r for r in settled if isinstance(r, ToolResult) and r.failure is None]


def _doubtful(settled: tuple[Record, ...]) -> list[ToolResult]:
    results = (record for record in settled if isinstance(record, ToolResult))
    return [r for r in results if r.failure is not None and r.failure.kind == "unknown_outcome"]


def _detail(finish: Finish, settled: tuple[Record, ...]) -> str | None:
    doubtful = [f"{record.name} ({record.call_id})" for record in _doubtful(settled)]
    doubt = f"in doubt: {', '.join(doubtful)}" if doubtful else ""
    told = finish.detail if finish.stop_reason in _UNTOLD else finish.detail[:REASON_CHARACTERS]
    return "; ".join(part for part in (told, doubt) if part) or None


def settle_open_calls(
    graph: Graph, reason: str, found_out: Sequence[Ended] = ()
) -> tuple[Record, ...]:
    """Give every call without a result one that says what is known of it."""
    reason = reason[:REASON_CHARACTERS]
    known = {call.call_id: call for call in found_out}
    ended = [
        known.get(call_id) or _abandoned(node, reason)
        for call_id, node in graph.nodes.items()
        if not node.settled and node.status != "queued"
    ]
    never = ToolFailure(kind="cancelled", message=f"never started: {reason}")
    refusals = {call_id: never for call_id, node in graph.nodes.items() if node.status == "queued"}
    return progress(graph, ended=ended, refusals=refusals, limit=0).records


def _abandoned(node: Node, reason: str) -> Ended:
    if node.traceless:
        failure = ToolFailure(kind="cancelled", message=reason)
    else:
        failure = ToolFailure(
            kind="unknown_outcome", message=f"was started and may have happened: {reason}"
        )
    return Ended(call_id=node.call.call_id, failure=failure, attempts=node.attempt)
