"""Folding of tool graphs: which calls are open, and how skills have done."""

from __future__ import annotations

from typing import Any

from rainengine.core.projection._state import (
    DONE_CALLS,
    RECENT_CALLS,
    Graph,
    Node,
    Run,
    SessionProjection,
    SkillRecord,
    WindowItem,
)
from rainengine.core.projection._window import add_to_window
from rainengine.core.records import (
    CallReference,
    FailureKind,
    NewRecord,
    Record,
    StoredRecord,
    ToolCalls,
    ToolExecutionGraph,
    ToolNodeCheckpoint,
    ToolResult,
)

_NO_VERDICT_ON_SKILL: frozenset[FailureKind] = frozenset(
    {"permission_denied", "capability_denied", "invalid_arguments", "cancelled"}
)
"""Failures that say nothing about how well the skill works."""


def new_graph(record: ToolExecutionGraph) -> Graph:
    """The state of a graph of which nothing has been started."""
    return Graph(
        graph_id=record.graph_id,
        step=record.step,
        nodes={call.call_id: Node(call=call) for call in record.calls},
        approved=_approved(record),
    )


def _approved(record: ToolExecutionGraph) -> dict[str, str]:
    versions = zip(record.calls, record.approved_versions, strict=False)
    return {call.call_id: version for call, version in versions}


def _graph(
    state: SessionProjection,
    record: ToolExecutionGraph,
    sequence: int,
    entry: NewRecord | StoredRecord,
) -> None:
    if state.run is None:
        return
    state.run.graph = new_graph(record)
    item = WindowItem(sequence=sequence, role="calls", calls=record.calls, graph_id=record.graph_id)
    add_to_window(state, item)


def _open_graph(state: SessionProjection, graph_id: str) -> tuple[Run, Graph] | tuple[None, None]:
    """Return the graph with its run: the active one, or one that ends while it waits."""
    runs = (state.run, *(parked.run for parked in state.parked.values()))
    for run in runs:
        if run is not None and run.graph is not None and run.graph.graph_id == graph_id:
            return run, run.graph
    return None, None


def _issued(state: SessionProjection, record: ToolCalls, *_: object) -> None:
    graph = _open_graph(state, record.graph_id)[1]
    if graph is None:
        return
    for call in record.calls:
        node = graph.nodes[call.call_id]
        node.effects = call.effects
        node.idempotency_key = call.idempotency_key
        node.skill_version = call.skill_version


def _checkpoint(state: SessionProjection, record: ToolNodeCheckpoint, *_: object) -> None:
    graph = _open_graph(state, record.graph_id)[1]
    if graph is None:
        return
    for change in record.nodes:
        node = graph.nodes[change.call_id]
        node.status = change.statuses[-1]
        node.attempt = change.attempt


def _result(
    state: SessionProjection, record: ToolResult, sequence: int, entry: NewRecord | StoredRecord
) -> None:
    run, graph = _open_graph(state, record.graph_id)
    if run is None or graph is None or graph.nodes[record.call_id].settled:
        return
    node = graph.nodes[record.call_id]
    node.settled = True
    node.failed = record.failure is not None
    run.tool_results += 1
    run.tool_failures += node.failed
    _list(run, graph, record)
    _add_to_conversation(state, record, node, sequence)
    if node.attempt:
        _score(state, run, record, entry.occurred_at_ms)
    if all(other.settled for other in graph.nodes.values()):
        _close(run, graph)


def _close(run: Run, graph: Graph) -> None:
    everything_failed = all(node.failed for node in graph.nodes.values())
    run.failure_steps = run.failure_steps + 1 if everything_failed else 0
    run.plan_broken = run.plan is not None and any(node.failed for node in graph.nodes.values())
    run.graph = None


def _list(run: Run, graph: Graph, record: ToolResult) -> None:
    """Keep what an outcome will tell of: all calls in doubt, and the newest of those done."""
    reference = CallReference(step=graph.step, call_id=record.call_id, name=record.name)
    if record.failure is None:
        run.done.append(reference)
        del run.done[:-DONE_CALLS]
    elif record.failure.kind == "unknown_outcome":
        run.in_doubt.append(reference)


def _add_to_conversation(
    state: SessionProjection, record: ToolResult, node: Node, sequence: int
) -> None:
    summarised = -1 if state.summary is None else state.summary.through_sequence
    for item in reversed(state.window):
        if item.sequence <= summarised:
            continue
        if item.role == "calls" and item.graph_id == record.graph_id:
            item.results[record.call_id] = record
            return
    # The run waited for so long that its calls were let go, or summarised without this result:
    # the call comes again, with it.
    item = WindowItem(sequence=sequence, role="calls", calls=(node.call,), graph_id=record.graph_id)
    item.results[record.call_id] = record
    add_to_window(state, item)


def _score(state: SessionProjection, run: Run, record: ToolResult, at_ms: int) -> None:
    skill = state.skills.get(record.name) or SkillRecord()
    if not score(skill, record, at_ms):
        return
    state.skills[record.name] = skill
    if record.name not in run.skills_used:
        run.skills_used.append(record.name)


def score(skill: SkillRecord, result: ToolResult, at_ms: int) -> bool:
    """Count a call for or against its skill; False where its result says nothing about it."""
    if result.failure is not None and result.failure.kind in _NO_VERDICT_ON_SKILL:
        return False
    succeeded = result.failure is None
    skill.calls += 1
    skill.recent.append(succeeded)
    if len(skill.recent) > RECENT_CALLS:
        del skill.recent[0]
    if not succeeded:
        skill.failures += 1
        skill.last_failure_at_ms = at_ms
    return True


TOOL_FOLDS: dict[type[Record], Any] = {
    ToolExecutionGraph: _graph,
    ToolCalls: _issued,
    ToolNodeCheckpoint: _checkpoint,
    ToolResult: _result,
}
