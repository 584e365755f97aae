"""Answers: to approvals, to doubts, and from delegations. Each resumes a run, or says why not.

An answer is durable first, like any trigger. Then one append begins it, spends its token, and
starts what it allows; so of two answers one finds the token spent. A refused answer is a run of
its own that ends at once: nothing else happens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from rainengine.core.engine import _graphs as graphs
from rainengine.core.engine._reservations import next_call
from rainengine.core.engine._services import Services, Step
from rainengine.core.engine._session import OpenSession, Resumed
from rainengine.core.engine._waits import hand_over, hash_of
from rainengine.core.errors import InadmissibleValue
from rainengine.core.kernel import (
    AnswerFacts,
    Ended,
    awaited_by,
    calls_to_run,
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
    DelegationResolved,
    DelegationResult,
    DoubtResolution,
    DoubtVerdict,
    KernelEventRecord,
    OutcomeRecord,
    PendingApproval,
    Record,
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
    parked = awaited_by(session.projection, answer)
    if parked is None:
        return await _refuse(services, session, answer, no_such_token(session.projection, answer))
    services.intake.check_agent(parked.run)
    policy = effective_policy(parked.run.policy, session.projection.overlay)
    step = Step(services, session, parked.run, policy)
    reason = objection(_facts(step, answer, parked))
    if reason is not None:
        return await _refuse(services, session, answer, reason)
    begun: list[Record] = [services.intake.intent_of(answer)]
    taken = await _resume(step, answer, parked, begun)
    session.resumed = Resumed(answer.trigger_id, parked.run.trigger_id)
    return taken


def _facts(step: Step, answer: Run, parked: ParkedRun) -> AnswerFacts:
    pending = parked.run.pending
    return AnswerFacts(
        answer=answer,
        parked=parked,
        calls_hash="" if pending is None else hash_of(step, pending.calls),
        now_ms=step.now_ms(),
    )


async def _refuse(services: Services, session: OpenSession, answer: Run, reason: str) -> Taken:
    outcome = OutcomeRecord(
        trigger_id=answer.trigger_id, stop_reason="policy_aborted", steps_executed=0, detail=reason
    )
    await session.commit([services.intake.intent_of(answer), outcome], run=answer)
    return Taken(outcome)


async def _resume(step: Step, answer: Run, parked: ParkedRun, begun: list[Record]) -> Taken:
    trigger, pending = answer.trigger, parked.run.pending
    if isinstance(trigger, DelegationResult):
        return await _go_on(step, [*begun, _resolved(trigger, parked.run)])
    if pending is None:  # an approval of a delegation that is under way, which `objection` refuses
        raise InadmissibleValue("trigger", "nothing in this session waits for this answer")
    if isinstance(trigger, DoubtResolution):
        return await _settle_doubts(step, trigger, pending, begun)
    if isinstance(trigger, Approval):
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
    calls = calls_to_run(pending, answer)
    graph = graph_of(calls, step.run.trigger_id, pending.step, approved=True)
    started = await graphs.begin(step, records, graph)
    if isinstance(started, OutcomeRecord):
        return Taken(started)
    return Taken(work=lambda: graphs.run(step, started))


async def _reject(
    step: Step, answer: Approval, pending: PendingApproval, begun: list[Record]
) -> Taken:
    records: list[Record] = [*begun, _resolution(answer, pending)]
    if pending.calls:
        record = graph_of(pending.calls, step.run.trigger_id, pending.step)
        told = f"rejected by {answer.approver or 'a reviewer'}"
        failure = ToolFailure(kind="permission_denied", message=told[:500])
        refusals = dict.fromkeys((call.call_id for call in record.calls), failure)
        records += [record, *progress(new_graph(record), refusals=refusals, limit=0).records]
    return await _go_on(step, records)


_APPROVAL = {"approved": _approve, "rejected": _reject}


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
    inspection = graphs.inspect(step, graph)
    settled = [_told(step, verdict) for verdict in answer.verdicts]
    again = [v.call_id for v, end in zip(answer.verdicts, settled, strict=True) if end is None]
    schedule = graphs.runner(step, graph).scheduling(inspection)
    made = schedule(ended=[end for end in settled if end is not None], restarts=again)
    records = [*begun, resolution, *made.records]
    await step.commit([*records, *(next_call(step, records) if made.finished else ())])
    return Taken(work=lambda: graphs.run(step, graphs.Begun(inspection, made.starts)))


def _told(step: Step, verdict: DoubtVerdict) -> Ended | None:
    """How a call in doubt ended, or None where it is to be made again."""
    graph = step.run.graph
    attempts = 1 if graph is None else graph.nodes[verdict.call_id].attempt
    if verdict.verdict == "happened":
        return Ended(call_id=verdict.call_id, value=verdict.value, attempts=attempts)
    if verdict.verdict == "did_not_happen" and attempts < MAX_RESUMED_ATTEMPTS:
        return None
    why = "nobody could find out whether it happened"
    failure = ToolFailure(kind="unknown_outcome", message=why)
    if verdict.verdict == "did_not_happen":
        why = f"it was started {attempts} times and did not happen"
        failure = ToolFailure(kind="trap", message=why)
    return Ended(call_id=verdict.call_id, failure=failure, attempts=attempts)
