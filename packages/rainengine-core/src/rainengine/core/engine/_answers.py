"""Answers: to approvals, to doubts, and from delegations. Each resumes a run, or says why not.

An answer is durable first, like any trigger. Then one append begins it, spends its token, and
starts what it allows; so of two answers one finds the token spent. A refused answer is a run of
its own that ends at once: nothing else happens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from rainengine.core import codec, telemetry
from rainengine.core.engine import _graphs as graphs
from rainengine.core.engine._delegations import ROOM_WHEN_APPROVED, check_order
from rainengine.core.engine._reservations import next_call
from rainengine.core.engine._services import Services, Step
from rainengine.core.engine._session import OpenSession, Resumed
from rainengine.core.engine._waits import hand_over, hash_of, versions_of
from rainengine.core.errors import InadmissibleValue
from rainengine.core.kernel import (
    AnswerFacts,
    Ended,
    Finish,
    awaited_by,
    calls_to_run,
    cancelled,
    complaint,
    effective_policy,
    graph_of,
    no_such_token,
    objection,
    progress,
)
from rainengine.core.projection import ParkedRun, Run, new_graph
from rainengine.core.records import (
    Approval,
    ApprovalResolution,
    Delegate,
    DelegationResolved,
    DelegationResult,
    DoubtResolution,
    DoubtVerdict,
    KernelEventRecord,
    OutcomeRecord,
    PendingApproval,
    Record,
    ToolExecutionGraph,
    ToolFailure,
)
from rainengine.core.tools import MAX_RESUMED_ATTEMPTS


@attrs.frozen
class Taken:
    """What came of taking an answer in.

    With neither an outcome nor work to do, the run that it resumed goes on in the same step.
    """

    outcome: OutcomeRecord | None = None
    work: Callable[[], Awaitable[OutcomeRecord | None]] | None = None


async def take_in(services: Services, session: OpenSession, answer: Run) -> Taken:
    """Take in the answer that is next in the session."""
    if answer.cancel_reason is not None:
        return await _refuse(services, session, answer, cancelled(answer.cancel_reason))
    parked = awaited_by(session.projection, answer)
    if parked is None:
        why = Finish("policy_aborted", no_such_token(session.projection, answer))
        return await _refuse(services, session, answer, why)
    services.intake.check_agent(parked.run)
    policy = effective_policy(parked.run.policy, session.projection.overlay)
    step = Step(services, session, parked.run, policy)
    reason = objection(_facts(step, answer, parked)) or _unfit(step, answer)
    if reason is not None:
        return await _refuse(services, session, answer, Finish("policy_aborted", reason))
    telemetry.link(parked.run.traceparent)
    taken = await _resume(step, answer, [services.intake.intent_of(answer)])
    session.resumed = Resumed(answer.trigger_id, parked.run.trigger_id)
    return taken


def _facts(step: Step, answer: Run, parked: ParkedRun) -> AnswerFacts:
    pending = parked.run.pending
    return AnswerFacts(
        answer=answer,
        parked=parked,
        calls_hash="" if pending is None else hash_of(step, pending.calls),
    )


def _unfit(step: Step, answer: Run) -> str | None:
    """Why what was approved cannot be done now, or be stored; None where it can."""
    trigger, pending = answer.trigger, step.run.pending
    if not isinstance(trigger, Approval) or pending is None or trigger.decision == "rejected":
        return None
    if pending.delegation is not None:
        return _unfit_order(step, pending.step, pending.delegation)
    if not pending.calls:
        return None
    cap = step.session.backing.ledger.max_payload_bytes
    try:
        for record in (_resolution(trigger, pending), _approved_graph(step, trigger, pending)):
            codec.encode(record, cap=cap)
    except InadmissibleValue as error:
        what = "edited_args" if trigger.edited_args else "what was approved cannot be stored"
        return f"{what}: {error}"
    return None


def _unfit_order(step: Step, number: int, action: Delegate) -> str | None:
    refused = complaint(action, step.policy, step.able, step.profile.delegates)
    if refused is not None:
        return refused
    try:
        check_order(step, (), number, action, room=ROOM_WHEN_APPROVED)
    except InadmissibleValue as error:
        return f"what was approved cannot be handed over: {error}"
    return None


async def _refuse(services: Services, session: OpenSession, answer: Run, why: Finish) -> Taken:
    outcome = OutcomeRecord(
        trigger_id=answer.trigger_id,
        stop_reason=why.stop_reason,
        steps_executed=0,
        detail=why.detail,
    )
    await session.commit([services.intake.intent_of(answer), outcome], run=answer)
    return Taken(outcome)


async def _resume(step: Step, answer: Run, begun: list[Record]) -> Taken:
    trigger, pending = answer.trigger, step.run.pending
    if isinstance(trigger, DelegationResult):
        return await _go_on(step, [*begun, _resolved(trigger, step.run)])
    if isinstance(trigger, DoubtResolution) and pending is not None:
        return await _settle_doubts(step, trigger, pending, begun)
    if isinstance(trigger, Approval) and pending is not None:
        return await _APPROVAL[trigger.decision](step, trigger, pending, begun)
    raise InadmissibleValue("trigger", f"{type(trigger).__name__} is no answer")


async def _go_on(step: Step, records: list[Record]) -> Taken:
    await step.commit([*records, *next_call(step, records)])
    return Taken()


# Delegations.


def _resolved(result: DelegationResult, run: Run) -> KernelEventRecord:
    made = run.delegation
    reserved = (0, 0) if made is None else (made.budget_micros or 0, made.budget_tokens or 0)
    return KernelEventRecord(
        DelegationResolved(
            correlation_id=result.correlation_id,
            failed=result.failed,
            cost_micros=_amount(result.cost_micros, reserved[0]),
            tokens=_amount(result.tokens, reserved[1]),
        )
    )


def _amount(reported: int | None, reserved: int) -> int:
    return reserved if reported is None or not 0 <= reported <= 2**53 else reported


# Approvals.


async def _approve(
    step: Step, answer: Approval, pending: PendingApproval, begun: list[Record]
) -> Taken:
    records = [*begun, _resolution(answer, pending)]
    if pending.delegation is not None:
        action = pending.delegation
        return Taken(await hand_over(step, records, pending.step, action, automatic=False))
    if not pending.calls:
        return await _go_on(step, records)
    started = await graphs.begin(step, records, _approved_graph(step, answer, pending))
    if isinstance(started, OutcomeRecord):
        return Taken(started)
    return Taken(work=lambda: graphs.run(step, started))


def _approved_graph(step: Step, answer: Approval, pending: PendingApproval) -> ToolExecutionGraph:
    graph = graph_of(calls_to_run(pending, answer), step.run.trigger_id, pending.step)
    return attrs.evolve(graph, approved_versions=versions_of(step, graph.calls))


async def _reject(
    step: Step, answer: Approval, pending: PendingApproval, begun: list[Record]
) -> Taken:
    records: list[Record] = [*begun, _resolution(answer, pending)]
    if pending.calls:
        record = graph_of(pending.calls, step.run.trigger_id, pending.step)
        failure = ToolFailure(kind="permission_denied", message=_rejection(answer))
        refusals = dict.fromkeys((call.call_id for call in record.calls), failure)
        records += [record, *progress(new_graph(record), refusals=refusals, limit=0).records]
    return await _go_on(step, records)


_APPROVAL = {"approved": _approve, "rejected": _reject}


def _rejection(answer: Approval) -> str:
    told = f"rejected by {answer.approver or 'a reviewer'}"[:500]
    return f"{told}: {answer.comment}"[:2_000] if answer.comment else told


def _resolution(answer: Approval, pending: PendingApproval) -> ApprovalResolution:
    return ApprovalResolution(
        resume_token=answer.resume_token,
        decision=answer.decision,
        approver=answer.approver,
        metadata=answer.metadata,
        edited_calls=calls_to_run(pending, answer) if answer.edited_args else None,
    )


# Doubts.


async def _settle_doubts(
    step: Step, answer: DoubtResolution, pending: PendingApproval, begun: list[Record]
) -> Taken:
    resolution = ApprovalResolution(
        resume_token=answer.resume_token,
        decision="answered",
        approver=answer.approver,
        metadata=answer.metadata,
        verdicts=answer.verdicts,
    )
    graph = step.run.graph
    if graph is None:
        return await _go_on(step, [*begun, resolution])
    ended = [_told(graph.nodes[v.call_id].attempt, v) for v in answer.verdicts]
    again = [v.call_id for v, end in zip(answer.verdicts, ended, strict=True) if end is None]
    made = graphs.runner(step, graph).scheduling(graphs.inspector_of(step).inspect(graph))(
        ended=[end for end in ended if end is not None], restarts=again
    )
    records = [*begun, resolution, *made.records]
    await step.commit([*records, *(next_call(step, records) if made.finished else ())])
    return Taken(work=lambda: graphs.resume(step, begun=made.starts))


def _told(attempts: int, verdict: DoubtVerdict) -> Ended | None:
    """How a call in doubt ended, or None where it is to be made again."""
    if verdict.verdict == "happened":
        return Ended(call_id=verdict.call_id, value=verdict.value, attempts=attempts)
    if verdict.verdict == "give_up":
        why = "nobody could find out whether it happened"
        failure = ToolFailure(kind="unknown_outcome", message=why)
    elif attempts < MAX_RESUMED_ATTEMPTS:
        return None
    else:
        why = f"it was started {attempts} times and did not happen"
        failure = ToolFailure(kind="trap", message=why)
    return Ended(call_id=verdict.call_id, failure=failure, attempts=attempts)
