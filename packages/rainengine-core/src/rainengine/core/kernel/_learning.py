"""What is learned when a run has ended, and recorded with its outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from rainengine.core.kernel._tuning import rollbacks, tunings
from rainengine.core.projection import (
    RECENT_CALLS,
    Run,
    SessionProjection,
    SkillRecord,
    score,
)
from rainengine.core.records import (
    PAUSES,
    OutcomeRecord,
    Record,
    Reflection,
    SelfImprovementPolicy,
    SkillStatistics,
    StrategyPreference,
    ToolPerformance,
    ToolResult,
)

_TOO_OFTEN = 0.5


def learned(
    projection: SessionProjection,
    run: Run,
    outcome: OutcomeRecord,
    reflection: Reflection,
    results: Sequence[ToolResult] = (),
) -> list[Record]:
    """Return what a run teaches that is over; nothing of one that only pauses.

    Rollbacks are returned whenever there is cause, all else at most once every
    `reflection_interval_records` records. `results` are in the outcome's batch, and not yet in the
    projection.
    """
    policy = run.policy.self_improvement
    if not policy.enabled or outcome.stop_reason in PAUSES:
        return []
    taken_back = rollbacks(projection, run, outcome)
    since = projection.sequence - projection.last_reflection_sequence
    if since < policy.reflection_interval_records:
        return [*taken_back]
    skills = _skills_after(projection, results)
    used = dict.fromkeys((*run.skills_used, *(result.name for result in results)))
    return [
        reflection,
        *_performance(skills, used),
        *_preferences(skills, policy),
        *(taken_back or tunings(projection, run, outcome)),
    ]


def _skills_after(
    projection: SessionProjection, results: Sequence[ToolResult]
) -> Mapping[str, SkillRecord]:
    """How skills have done, these results included."""
    skills = dict(projection.skills) if results else projection.skills
    for result in results:
        before = skills.get(result.name, SkillRecord())
        after = attrs.evolve(before, recent=[*before.recent])
        if score(after, result, projection.last_recorded_at_ms):
            skills[result.name] = after
    return skills


def _performance(skills: Mapping[str, SkillRecord], used: Mapping[str, None]) -> list[Record]:
    known = tuple(_statistics(name, skills[name]) for name in used if name in skills)
    return [ToolPerformance(skills=known)] if known else []


def _statistics(name: str, skill: SkillRecord) -> SkillStatistics:
    calls, successes = len(skill.recent), sum(skill.recent)
    return SkillStatistics(
        name=name,
        calls=calls,
        successes=successes,
        failures=calls - successes,
        failure_rate=_failure_rate(skill),
        total_calls=skill.calls,
        total_failures=skill.failures,
    )


def _failure_rate(skill: SkillRecord) -> float:
    calls = len(skill.recent)
    return round(1 - sum(skill.recent) / calls, 4) if calls else 0.0


def _preferences(
    skills: Mapping[str, SkillRecord], policy: SelfImprovementPolicy
) -> list[StrategyPreference]:
    """The preferences that have changed."""
    enough = min(max(policy.min_observations_before_tuning, 1), RECENT_CALLS)
    called = {name: skill for name, skill in skills.items() if skill.recent}
    now = (_preference(name, skill, enough) for name, skill in called.items())
    return [record for record in now if record.preference != skills[record.skill].preference]


def _preference(name: str, skill: SkillRecord, enough: int) -> StrategyPreference:
    rate = _failure_rate(skill)
    failing = len(skill.recent) >= enough and rate > _TOO_OFTEN
    return StrategyPreference(
        skill=name,
        preference="avoid_when_alternatives_exist" if failing else "none",
        failure_rate=rate,
    )
