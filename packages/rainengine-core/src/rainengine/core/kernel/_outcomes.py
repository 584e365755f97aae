"""What is recorded when a run ends."""

from __future__ import annotations

from rainengine.core.kernel._gates import Finish
from rainengine.core.kernel._graph import Ended, progress
from rainengine.core.projection import Graph, Node, Run, SessionProjection, SkillRecord
from rainengine.core.records import (
    OutcomeRecord,
    Record,
    Reflection,
    SkillStatistics,
    ToolFailure,
    ToolPerformance,
    ToolResult,
)


def closing_records(
    projection: SessionProjection,
    run: Run,
    finish: Finish,
    *,
    steps: int,
    now_ms: int,
    response: str | None = None,
    cost_micros: int = 0,
) -> list[Record]:
    """Return the batch that ends a run: open calls settled, outcome, reflection, performance.

    `cost_micros` is what the last call cost, which the projection does not have yet.
    """
    settled = settle_open_calls(run.graph, finish.detail) if run.graph is not None else ()
    outcome = OutcomeRecord(
        trigger_id=run.trigger_id,
        stop_reason=finish.stop_reason,
        steps_executed=steps,
        response=response,
        detail=_detail(finish, settled),
    )
    cost_micros += run.cost_micros
    results = [record for record in settled if isinstance(record, ToolResult)]
    reflection = Reflection(
        trigger_id=run.trigger_id,
        stop_reason=finish.stop_reason,
        steps=steps,
        tool_results=run.tool_results + len(results),
        tool_failures=run.tool_failures + len(results),
        cost_micros=cost_micros,
        duration_ms=max(now_ms - run.started_at_ms - run.suspended_ms, 0),
    )
    return [*settled, outcome, *_learned(projection, run, reflection)]


def _detail(finish: Finish, settled: tuple[Record, ...]) -> str | None:
    doubtful = [
        f"{record.name} ({record.call_id})"
        for record in settled
        if isinstance(record, ToolResult)
        and record.failure is not None
        and record.failure.kind == "unknown_outcome"
    ]
    doubt = f"in doubt: {', '.join(doubtful)}" if doubtful else ""
    return "; ".join(part for part in (finish.detail, doubt) if part) or None


def settle_open_calls(graph: Graph, reason: str) -> tuple[Record, ...]:
    """Give every call without a result one that says what is known of it."""
    ended = [
        _abandoned(node, reason)
        for node in graph.nodes.values()
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


def _learned(projection: SessionProjection, run: Run, reflection: Reflection) -> list[Record]:
    """Reflect, at most once every `reflection_interval_records` records."""
    policy = run.policy.self_improvement
    since = projection.sequence - projection.last_reflection_sequence
    if not policy.enabled or since < policy.reflection_interval_records:
        return []
    skills = tuple(_statistics(name, projection.skills[name]) for name in run.skills_used)
    return [reflection, ToolPerformance(skills=skills)] if skills else [reflection]


def _statistics(name: str, record: SkillRecord) -> SkillStatistics:
    return SkillStatistics(name=name, calls=record.calls, failures=record.failures)
