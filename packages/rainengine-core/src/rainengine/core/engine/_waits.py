"""Runs that stop to wait: for a person's answer, or for the result of a delegation."""

from __future__ import annotations

from collections.abc import Sequence

from rainengine.core import codec
from rainengine.core.engine._delegations import ROOM_WHEN_ASKED, check_order, delegate, requester
from rainengine.core.engine._reservations import unused
from rainengine.core.engine._services import Step
from rainengine.core.kernel import delegation_review, graph_of
from rainengine.core.records import (
    Delegate,
    OutcomeRecord,
    PendingApproval,
    PlannedSkillCall,
    Record,
    Suspend,
)

_REASON_CHARACTERS = 500
_LATEST_MS = 2**53


async def wait(
    step: Step, batch: list[Record], action: Suspend | Delegate, number: int
) -> OutcomeRecord:
    """Append, after `batch`, that the run waits as its model wants it to; return its outcome."""
    if isinstance(action, Suspend):
        calls = graph_of(action.pending_calls, step.run.trigger_id, number).calls
        return await suspend(step, batch, number=number, reason=action.reason, calls=calls)
    review = delegation_review(step.session.projection, step.profile)
    if review is not None:
        check_order(step, batch, number, action, room=ROOM_WHEN_ASKED)
        return await suspend(step, batch, number=number, reason=review, delegation=action)
    return await hand_over(step, batch, number, action, automatic=True)


async def hand_over(
    step: Step, batch: Sequence[Record], number: int, action: Delegate, *, automatic: bool
) -> OutcomeRecord:
    """Append a delegation together with the row that carries it out; return the outcome."""
    batch = [*unused(step), *batch]
    records, outbox, outcome = delegate(step, batch, number, action, automatic=automatic)
    await step.commit([*batch, *records], outbox)
    return outcome


async def suspend(
    step: Step,
    batch: Sequence[Record],
    *,
    number: int,
    reason: str,
    calls: tuple[PlannedSkillCall, ...] = (),
    delegation: Delegate | None = None,
    doubts: tuple[str, ...] = (),
) -> OutcomeRecord:
    """Append what is asked of a person, under a new token; return the outcome."""
    review, run = step.profile.review, step.run
    reason = codec.clean_text(reason)[:_REASON_CHARACTERS]
    pending = PendingApproval(
        resume_token=step.services.ids.new_id(),
        reason=reason,
        step=number,
        calls=calls,
        calls_hash=hash_of(step, calls),
        delegation=delegation,
        doubts=doubts,
        granted_scopes=run.granted_scopes,
        approver_scopes=review.reviewer_scopes,
        excluded_approver=None if review.requester_may_approve else requester(run),
        expires_at_ms=min(step.now_ms() + review.approval_ttl_ms, _LATEST_MS),
    )
    outcome = OutcomeRecord(
        trigger_id=run.trigger_id,
        stop_reason="suspended",
        steps_executed=number,
        detail=reason,
        resume_token=pending.resume_token,
    )
    await step.commit([*unused(step), *batch, pending, outcome])
    return outcome


def hash_of(step: Step, calls: Sequence[PlannedSkillCall]) -> str:
    """Hash calls together with the versions that their skills have today."""
    versions = versions_of(step, calls)
    return codec.calls_hash(
        (call.name, version, call.args) for call, version in zip(calls, versions, strict=True)
    )


def versions_of(step: Step, calls: Sequence[PlannedSkillCall]) -> tuple[str, ...]:
    """Return the `manifest_version` of each call's skill, empty where there is no such skill."""
    skills = step.services.skills
    known = {
        c.name: codec.manifest_version(skills[c.name].manifest) for c in calls if c.name in skills
    }
    return tuple(known.get(call.name, "") for call in calls)
