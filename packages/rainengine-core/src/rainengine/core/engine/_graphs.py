"""The tool graph of a step: begun, run to its end, or held until people have answered."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import attrs

from rainengine.core.abc import SkillContext
from rainengine.core.engine._nurseries import in_nursery
from rainengine.core.engine._reservations import next_call
from rainengine.core.engine._services import Step
from rainengine.core.engine._transactions import transact
from rainengine.core.engine._waits import suspend
from rainengine.core.kernel import Ended, deadline_ms, progress
from rainengine.core.projection import Graph, new_graph
from rainengine.core.records import (
    OutcomeRecord,
    Record,
    SkillInputValidation,
    ToolExecutionGraph,
    ToolResult,
)
from rainengine.core.tools import Caller, GraphRunner, Inspection, Inspector


@attrs.frozen
class Begun:
    """A graph whose first calls are recorded as started, but not yet made."""

    inspector: Inspector
    inspection: Inspection
    starts: Sequence[str]


async def begin(
    step: Step, batch: list[Record], record: ToolExecutionGraph
) -> Begun | OutcomeRecord:
    """Append a graph with all that follows before its first effect, after `batch`.

    Where a call needs an approval the run is suspended instead, and nothing of the graph starts.
    With no room to wait, such calls are refused.
    """
    graph = new_graph(record)
    inspector = inspector_of(step)
    inspection = inspector.inspect(graph, asking=step.may_wait)
    if inspection.approvals:
        reason = "; ".join(dict.fromkeys(inspection.approvals.values()))
        return await suspend(step, batch, number=record.step, reason=reason, calls=record.calls)
    begun = progress(
        graph,
        refusals=inspection.refusals,
        issued=inspection.issued,
        classes=inspection.classes,
        limit=max(step.policy.max_parallel_skill_calls, 1),
    )
    checks = SkillInputValidation(graph_id=graph.graph_id, checks=tuple(inspection.checks))
    records = [*batch, record, checks, *begun.records]
    await step.commit([*records, *(next_call(step, records) if begun.finished else ())])
    return Begun(inspector, inspection, begun.starts)


async def run(step: Step, begun: Begun) -> OutcomeRecord | None:
    """Run a graph that has begun; an outcome says that people have to be asked about it."""
    graph = step.run.graph
    if graph is None:
        return None
    work = runner(step, graph, begun.inspector).run
    await in_nursery(lambda nursery: work(nursery, begun.inspection, begun.starts))
    return await _ask_about_doubts(step, graph)


async def resume(step: Step, begun: Sequence[str] = ()) -> OutcomeRecord | None:
    """Settle what an interruption left of the open graph, and run it to its end.

    `begun` are calls whose start is recorded and that this step has yet to make.
    """
    graph = step.run.graph
    if graph is None:
        return None
    inspector = inspector_of(step)
    work, inspection = runner(step, graph, inspector).resume, inspector.inspect(graph)
    await in_nursery(lambda nursery: work(nursery, inspection, begun))
    return await _ask_about_doubts(step, graph)


async def _ask_about_doubts(step: Step, graph: Graph) -> OutcomeRecord | None:
    """Have the run wait for what people know, unless it is to end anyway."""
    doubts = graph.doubtful
    if not doubts or runner(step, graph).caller.halted() is not None:
        return None
    names = ", ".join(f"{graph.nodes[i].call.name} ({i})" for i in doubts)
    return await suspend(
        step,
        [],
        number=graph.step,
        reason=f"it is not known whether these calls have happened: {names}",
        doubts=tuple(doubts),
    )


async def find_out(step: Step) -> tuple[Ended, ...]:
    """Ask the skills of interrupted calls what became of them, as the run is about to end."""
    graph = step.run.graph
    if graph is None:
        return ()
    started = [n for n in graph.nodes.values() if n.status != "queued" and not n.settled]
    doubtful = [node for node in started if not node.traceless]
    return await runner(step, graph).find_out(doubtful) if doubtful else ()


def inspector_of(step: Step) -> Inspector:
    """Return what looks at the calls of the run's graph."""
    return Inspector(
        tenant=step.session.backing.ledger.tenant,
        session_id=step.session.session_id,
        projection=step.session.projection,
        run=step.run,
        policy=step.policy,
        skills=step.services.skills,
        profile=step.profile,
        now_ms=step.now_ms(),
    )


def runner(step: Step, graph: Graph, inspector: Inspector | None = None) -> GraphRunner:
    """Return what makes the calls of a graph, which `inspector` may have looked at already."""
    run = step.run
    caller = Caller(
        skills=step.services.skills,
        policy=step.policy,
        context=SkillContext(
            tenant=step.session.backing.ledger.tenant,
            session_id=step.session.session_id,
            trigger_id=run.trigger_id,
            graph_id=graph.graph_id,
            step=graph.step,
            granted_scopes=run.granted_scopes,
            fence=step.session.tenure.fence or 0,
        ),
        deadline_ms=deadline_ms(run, step.policy),
        payload_bytes=step.session.backing.ledger.max_payload_bytes,
        bar=partial((inspector or inspector_of(step)).bar, graph),
        cancelled=lambda: step.session.cancelled(run),
        asks_people=step.policy.on_doubt == "suspend" and step.may_wait,
        clock=step.services.clock,
        ids=step.services.ids,
    )
    return GraphRunner(
        graph=graph,
        caller=caller,
        commit=partial(_commit, step, graph),
        transact=partial(transact, step.session),
    )


async def _commit(step: Step, graph: Graph, records: Sequence[Record]) -> None:
    results = sum(isinstance(record, ToolResult) for record in records)
    open_calls = sum(not node.settled for node in graph.nodes.values())
    ends = results == open_calls and step.run.plan is None
    await step.commit([*records, *(next_call(step, records) if ends else ())])
