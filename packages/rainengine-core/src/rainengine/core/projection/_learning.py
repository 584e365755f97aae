"""Folding of what the engine learned about itself, and of the outcomes that it learns from."""

from __future__ import annotations

from typing import Any, TypeVar

import attrs

from rainengine.core.projection._evidence import (
    EVIDENCE,
    PATCHES,
    Learning,
    LimitHistory,
    Proposal,
    TuningReference,
)
from rainengine.core.projection._state import SessionProjection, SkillRecord
from rainengine.core.records import (
    PAUSES,
    EnginePolicy,
    LimitReached,
    OutcomeRecord,
    PolicyOverlay,
    PolicyTuning,
    ProfilePatch,
    Record,
    Reflection,
    StrategyPreference,
)

T = TypeVar("T")

_LIMITS = frozenset(field.name for field in attrs.fields(EnginePolicy))
"""The limits that there are; a record could name anything."""


def observed(learning: Learning, outcome: OutcomeRecord) -> Learning:
    """Return what is known once a run has ended so. A run that only paused says nothing yet."""
    if outcome.stop_reason in PAUSES:
        return learning
    runs, limit = learning.runs + 1, outcome.limit
    if limit is None or limit.name not in _LIMITS:
        return attrs.evolve(learning, runs=runs)
    history = _stopped(learning, limit, outcome.trigger_id)
    return attrs.evolve(
        learning,
        runs=runs,
        limits=learning.limits | {limit.name: history},
        proposals=_judged(learning.proposals, limit, outcome.trigger_id),
    )


def _stopped(learning: Learning, limit: LimitReached, trigger_id: str) -> LimitHistory:
    history = learning.limits.get(limit.name, LimitHistory())
    if limit.allowed > history.allowed or not history.stops:
        # What came up against less than is allowed now is no evidence any more.
        history = attrs.evolve(history, stops=0, evidence=(), since=learning.runs)
    return attrs.evolve(
        history,
        stops=history.stops + 1,
        allowed=limit.allowed,
        evidence=(*history.evidence, trigger_id)[-EVIDENCE:],
    )


def _judged(
    proposals: dict[str, Proposal], limit: LimitReached, trigger_id: str
) -> dict[str, Proposal]:
    proposal = proposals.get(limit.name)
    if proposal is None or proposal.status != "proposed" or limit.reached >= proposal.value:
        return proposals
    confirmed = attrs.evolve(
        proposal,
        confirmations=proposal.confirmations + 1,
        confirmed_by=(*proposal.confirmed_by, trigger_id)[-EVIDENCE:],
    )
    return proposals | {limit.name: confirmed}


def _reflection(state: SessionProjection, record: Reflection, sequence: int, entry: object) -> None:
    state.last_reflection_sequence = sequence


def _tuning(state: SessionProjection, record: PolicyTuning, sequence: int, entry: object) -> None:
    values = _values(record.overlay)
    reference = TuningReference(tuning_id=record.tuning_id, sequence=sequence)
    if record.status == "applied":
        _apply(state, record, values, reference)
    elif record.status == "rolled_back":
        _roll_back(state, values, reference)
    elif record.limit in _LIMITS:
        _keep_in_mind(state, record, values, sequence)


def _values(overlay: PolicyOverlay) -> dict[str, int]:
    values = attrs.asdict(overlay)
    return {name: value for name, value in values.items() if value is not None}


def _apply(
    state: SessionProjection,
    record: PolicyTuning,
    values: dict[str, int],
    reference: TuningReference,
) -> None:
    state.overlay = attrs.evolve(state.overlay or PolicyOverlay(), **values)
    learning = state.learning
    done = {record.limit, *values}
    state.learning = attrs.evolve(
        learning,
        tuned=learning.tuned | dict.fromkeys(values, reference),
        proposals={name: kept for name, kept in learning.proposals.items() if name not in done},
        limits={
            name: _fresh(old) if name in done else old for name, old in learning.limits.items()
        },
    )


def _roll_back(
    state: SessionProjection, values: dict[str, int], reference: TuningReference
) -> None:
    learning, overlay = state.learning, state.overlay or PolicyOverlay()
    values = values or _values(overlay)
    left = attrs.evolve(overlay, **dict.fromkeys(values))
    state.overlay = left if _values(left) else None
    limits = {name: _fresh(old) for name, old in learning.limits.items()}
    for name in values:
        history = limits.get(name, LimitHistory())
        limits[name] = attrs.evolve(history, rollbacks=history.rollbacks + 1)
    proposals = learning.proposals.items()
    state.learning = attrs.evolve(
        learning,
        tuned={name: kept for name, kept in learning.tuned.items() if name not in values},
        limits=limits,
        proposals={name: kept for name, kept in proposals if kept.status == "rejected_unsafe"},
        last_rollback=reference,
    )


def _fresh(history: LimitHistory) -> LimitHistory:
    """Nothing is known, but how often it went wrong."""
    return LimitHistory(rollbacks=history.rollbacks)


def _keep_in_mind(
    state: SessionProjection, record: PolicyTuning, values: dict[str, int], sequence: int
) -> None:
    learning, limit = state.learning, record.limit
    rejected = record.status == "rejected_unsafe"
    proposal = Proposal(
        tuning_id=record.tuning_id,
        sequence=sequence,
        status="rejected_unsafe" if rejected else "proposed",
        value=values.get(limit, learning.limits.get(limit, LimitHistory()).allowed),
    )
    state.learning = attrs.evolve(learning, proposals=learning.proposals | {limit: proposal})


def _preference(state: SessionProjection, record: StrategyPreference, *_: object) -> None:
    state.skills.setdefault(record.skill, SkillRecord()).preference = record.preference


def _patch(state: SessionProjection, record: ProfilePatch, *_: object) -> None:
    learning, patch_id = state.learning, record.patch_id
    waiting = {name: kept for name, kept in learning.patches.items() if name != patch_id}
    resolved = learning.resolved_patches
    if record.status == "proposed":
        waiting[patch_id] = record
    else:
        resolved = _newest(resolved | {patch_id: record.status})
    state.learning = attrs.evolve(learning, patches=_newest(waiting), resolved_patches=resolved)


def _newest(entries: dict[str, T]) -> dict[str, T]:
    return dict([*entries.items()][-PATCHES:])


LEARNING_FOLDS: dict[type[Record], Any] = {
    Reflection: _reflection,
    PolicyTuning: _tuning,
    StrategyPreference: _preference,
    ProfilePatch: _patch,
}
