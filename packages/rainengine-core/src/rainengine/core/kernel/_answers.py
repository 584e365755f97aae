"""Whether an answer may resume the run that waits for it. The first reason against it counts.

What counts is when an answer was stored, however late it is taken in.

A token is spent in the append that resumes its run. So however often, and in however many
processes, it is answered to, one answer counts, and all others find it spent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs

from rainengine.core.projection import ParkedRun, Run, SessionProjection, answered_token
from rainengine.core.records import (
    Approval,
    DelegationResult,
    DoubtResolution,
    PendingApproval,
    PlannedSkillCall,
)


@attrs.frozen(kw_only=True)
class AnswerFacts:
    """An answer, what it answers to, and the hash of the pending calls as they would run today."""

    answer: Run
    parked: ParkedRun
    calls_hash: str


Objection: TypeAlias = Callable[[AnswerFacts, PendingApproval], str | None]


def awaited_by(projection: SessionProjection, answer: Run) -> ParkedRun | None:
    """The parked run that an answer is for, if it is there."""
    return projection.parked.get(answered_token(answer.trigger) or "")


def no_such_token(projection: SessionProjection, answer: Run) -> str:
    """Say why nothing waits for an answer."""
    if answered_token(answer.trigger) in projection.spent_tokens:
        return "it is resolved already: answered before, or called off"
    return "nothing in this session waits for this answer"


def objection(facts: AnswerFacts) -> str | None:
    """Return why an answer does not count, or None where it resumes its run."""
    trigger, pending = facts.answer.trigger, facts.parked.run.pending
    if isinstance(trigger, DelegationResult) != (pending is None):
        return "nothing in this session waits for this answer"
    if facts.parked.is_late(facts.answer.stored_at_ms):
        return "it has expired"
    if pending is None:
        return None
    for object_to in OBJECTIONS:
        reason = object_to(facts, pending)
        if reason is not None:
            return reason
    return None


def _wrong_kind(facts: AnswerFacts, pending: PendingApproval) -> str | None:
    if isinstance(facts.answer.trigger, DoubtResolution) == bool(pending.doubts):
        return None
    wanted = "DoubtResolution" if pending.doubts else "Approval"
    return f"the run waits for another kind of answer: a {wanted}"


def _scopes(facts: AnswerFacts, pending: PendingApproval) -> str | None:
    missing = [s for s in pending.approver_scopes if s not in facts.answer.granted_scopes]
    return f"whoever answers lacks scopes: {', '.join(missing)}" if missing else None


def _excluded(facts: AnswerFacts, pending: PendingApproval) -> str | None:
    approver = getattr(facts.answer.trigger, "approver", "")
    if pending.excluded_approver is None:
        return None
    if not approver:
        return "whoever answers has to be named: the requester may not"
    return "the requester may not answer" if approver == pending.excluded_approver else None


def _edits(facts: AnswerFacts, pending: PendingApproval) -> str | None:
    trigger = facts.answer.trigger
    edits = trigger.edited_args if isinstance(trigger, Approval) else None
    if not edits:
        return None
    if isinstance(trigger, Approval) and trigger.decision == "rejected":
        return "what is rejected cannot be edited"
    known = {call.call_id for call in pending.calls}
    strange = sorted(edits.keys() - known)
    if strange:
        return f"edited_args names calls that are not pending: {', '.join(strange)}"
    shapeless = sorted(call_id for call_id, args in edits.items() if not isinstance(args, dict))
    return f"edited_args has to give an object for: {', '.join(shapeless)}" if shapeless else None


def _changed(facts: AnswerFacts, pending: PendingApproval) -> str | None:
    trigger = facts.answer.trigger
    rejected = isinstance(trigger, Approval) and trigger.decision == "rejected"
    if rejected or facts.calls_hash == pending.calls_hash:
        return None
    return "a skill has changed since the approval was asked for"


def _verdicts(facts: AnswerFacts, pending: PendingApproval) -> str | None:
    trigger = facts.answer.trigger
    if not isinstance(trigger, DoubtResolution):
        return None
    told = sorted(verdict.call_id for verdict in trigger.verdicts)
    if told == sorted(pending.doubts):
        return None
    return f"there has to be one verdict on each of: {', '.join(pending.doubts)}"


OBJECTIONS: tuple[Objection, ...] = (
    _wrong_kind,
    _scopes,
    _excluded,
    _edits,
    _changed,
    _verdicts,
)


def calls_to_run(pending: PendingApproval, answer: Approval) -> tuple[PlannedSkillCall, ...]:
    """The pending calls with the arguments that the answer gives them."""
    edits = answer.edited_args or {}
    return tuple(_edited(call, edits.get(call.call_id)) for call in pending.calls)


def _edited(call: PlannedSkillCall, args: object) -> PlannedSkillCall:
    return attrs.evolve(call, args=args) if isinstance(args, dict) else call
