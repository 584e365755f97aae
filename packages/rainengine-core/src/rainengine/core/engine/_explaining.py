"""Explaining a session's policy: which of its values were learned, from what, and how far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from rainengine.core.engine._session import OpenSession, Outdated
from rainengine.core.errors import SessionNotFound
from rainengine.core.kernel import TUNABLE, ceiling, effective_policy, needed
from rainengine.core.projection import Learning, LimitHistory, Proposal, SessionProjection
from rainengine.core.records import EnginePolicy, PolicyTuning


@attrs.frozen(kw_only=True)
class RecordedTuning:
    """A tuning, and the sequence of its record in the ledger."""

    sequence: int
    tuning: PolicyTuning


@attrs.frozen(kw_only=True)
class ExplainedValue:
    """One of the values of the policy that can be tuned.

    `base` is the operator's, `effective` what is in force, and never above `ceiling`. `proposed`
    was learned or is only proposed, as `source` tells. The limit has ended `stops` runs since it
    was last tuned, of the `needed` ones.
    """

    name: str
    base: int
    proposed: int | None
    ceiling: int
    effective: int
    stops: int
    needed: int
    source: RecordedTuning | None


@attrs.frozen(kw_only=True)
class AvoidedSkill:
    """A skill that the model is warned of, and how its newest calls went."""

    name: str
    calls: int
    failures: int


@attrs.frozen(kw_only=True)
class PolicyExplanation:
    """Where a session's effective policy comes from; printed, it is a table for people.

    It holds as of record `sequence`, for the active run `trigger_id`, or else for the next run
    under the engine's own policy. `policy` is the effective one as a whole.
    """

    session_id: str
    sequence: int
    trigger_id: str | None
    policy: EnginePolicy
    values: tuple[ExplainedValue, ...]
    avoided: tuple[AvoidedSkill, ...]
    pending: tuple[RecordedTuning, ...]
    rejected: tuple[RecordedTuning, ...]
    last_rollback: RecordedTuning | None

    def __str__(self) -> str:
        return "\n".join(_lines(self))


async def explain(session: OpenSession, own: EnginePolicy) -> PolicyExplanation:
    """Explain the policy of the session's active run, or that of its next one under `own`.

    Besides the projection only the records that it names are read. Raises `SessionNotFound`.
    """
    if session.tenure.may_be_behind() and not await session.refresh():
        raise Outdated
    projection = session.projection
    if projection.sequence == 0:
        raise SessionNotFound(session.session_id)
    base = own if projection.run is None else projection.run.policy
    learning = projection.learning
    recorded = {sequence: await _read(session, sequence) for sequence in _named(learning)}
    proposed = _in_question(learning, effective_policy(base, projection.overlay))
    rejected = [p for p in learning.proposals.values() if p.status == "rejected_unsafe"]
    last = learning.last_rollback
    return PolicyExplanation(
        session_id=session.session_id,
        sequence=projection.sequence,
        trigger_id=None if projection.run is None else projection.run.trigger_id,
        policy=effective_policy(base, projection.overlay),
        values=tuple(_value(projection, base, name, proposed, recorded) for name in TUNABLE),
        avoided=tuple(_avoided(projection)),
        pending=_tunings(recorded, (proposal.sequence for proposal in proposed.values())),
        rejected=_tunings(recorded, (proposal.sequence for proposal in rejected)),
        last_rollback=None if last is None else recorded[last.sequence],
    )


def _named(learning: Learning) -> list[int]:
    """The sequences of the records that an explanation names."""
    last = () if learning.last_rollback is None else (learning.last_rollback,)
    references = (*learning.tuned.values(), *learning.proposals.values(), *last)
    return sorted({reference.sequence for reference in references})


async def _read(session: OpenSession, sequence: int) -> RecordedTuning | None:
    ledger = session.backing.ledger
    stored = await ledger.read(session.session_id, after=sequence - 1, limit=1)
    record = stored[0].record if stored else None
    if not isinstance(record, PolicyTuning):
        return None  # the session was erased meanwhile
    return RecordedTuning(sequence=sequence, tuning=record)


def _in_question(learning: Learning, policy: EnginePolicy) -> dict[str, Proposal]:
    """The proposals that would still change something."""
    return {
        name: proposal
        for name, proposal in learning.proposals.items()
        if proposal.status == "proposed" and proposal.value > getattr(policy, name)
    }


def _value(
    projection: SessionProjection,
    base: EnginePolicy,
    name: str,
    proposed: dict[str, Proposal],
    recorded: dict[int, RecordedTuning | None],
) -> ExplainedValue:
    learning = projection.learning
    tuned, proposal = learning.tuned.get(name), proposed.get(name)
    learned = None if projection.overlay is None else getattr(projection.overlay, name)
    source = proposal if learned is None else tuned
    history = learning.limits.get(name, LimitHistory())
    return ExplainedValue(
        name=name,
        base=getattr(base, name),
        proposed=proposal.value if learned is None and proposal is not None else learned,
        ceiling=ceiling(base, name),
        effective=getattr(effective_policy(base, projection.overlay), name),
        stops=history.stops,
        needed=needed(base.self_improvement, history),
        source=None if source is None else recorded[source.sequence],
    )


def _avoided(projection: SessionProjection) -> Iterator[AvoidedSkill]:
    for name, skill in projection.skills.items():
        if skill.preference != "none":
            calls = len(skill.recent)
            yield AvoidedSkill(name=name, calls=calls, failures=calls - sum(skill.recent))


def _tunings(
    recorded: dict[int, RecordedTuning | None], sequences: Iterable[int]
) -> tuple[RecordedTuning, ...]:
    found = (recorded[sequence] for sequence in sequences)
    return tuple(tuning for tuning in found if tuning is not None)


# In words.

_ROW = "{:<26}{:>9}{:>10}{:>9}{:>11}  {}"


def _lines(told: PolicyExplanation) -> Iterator[str]:
    learns = told.policy.self_improvement
    mode = learns.mode if learns.enabled else "switched off"
    yield f"Policy of session {told.session_id} as of record {told.sequence}"
    yield f"Self-improvement: {mode}, at most {learns.max_policy_delta_percent:g} % up"
    yield _ROW.format("value", "operator", "proposed", "ceiling", "effective", "because").rstrip()
    for value in told.values:
        yield _ROW.format(
            value.name,
            value.base,
            "-" if value.proposed is None else value.proposed,
            value.ceiling,
            value.effective,
            _because(value),
        ).rstrip()
    for skill in told.avoided:
        yield f"avoided: {skill.name}, {skill.failures} of its last {skill.calls} calls failed"
    for kind, tunings in (("pending", told.pending), ("rejected", told.rejected)):
        yield from (f"{kind}: {_told(recorded)}" for recorded in tunings)
    if told.last_rollback is not None:
        rolled_back = told.last_rollback
        yield f"last rollback: {rolled_back.tuning.limit}: {_told(rolled_back)}"


def _because(value: ExplainedValue) -> str:
    if value.source is not None:
        return _told(value.source)
    return f"ended {value.stops} of {value.needed} runs needed" if value.stops else ""


def _told(recorded: RecordedTuning) -> str:
    tuning = recorded.tuning
    return f"{tuning.reason} ({tuning.status}, record {recorded.sequence})"
