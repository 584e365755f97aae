"""What the engine learns of its runs and its skills, and records with their outcomes."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from rainengine.core import Continue, EnginePolicy, Respond, Suspend
from rainengine.core.abc import ProviderDecision, Usage
from rainengine.core.kernel import Finish, closing_records
from rainengine.core.projection import fold
from rainengine.core.records import (
    AgentProfile,
    MemoryPolicy,
    NewRecord,
    PolicyOverlay,
    PolicyTuning,
    ProfilePatch,
    Record,
    Reflection,
    SelfImprovementPolicy,
    SkillStatistics,
    StrategyPreference,
    ToolPerformance,
)

LEARNED = (Reflection, ToolPerformance, StrategyPreference, PolicyTuning, ProfilePatch)


def often(**options: Any) -> EnginePolicy:
    """A policy under which every outcome is reflected upon."""
    own = {name: options.pop(name) for name in list(options) if hasattr(IMPROVEMENT, name)}
    improvement = attrs.evolve(IMPROVEMENT, **own)
    return EnginePolicy(self_improvement=improvement, **options)


IMPROVEMENT = SelfImprovementPolicy(reflection_interval_records=1)


async def add(stage: Any, *records: Record) -> None:
    """Append records to the session as a former process would have."""
    head = await stage.ledger.head("s")
    new = [NewRecord(record, stage.clock.now_ms()) for record in records]
    await stage.ledger.append("s", new, expected=head)


async def learned(stage: Any) -> list[Record]:
    """The session's records of learning."""
    return [entry.record for entry in await stage.stored() if isinstance(entry.record, LEARNED)]


# Reflections.


async def test_a_run_is_reflected_upon_in_numbers(stage: Any) -> None:
    """Reflection and tool performance come with the outcome, in one append."""
    calls = ProviderDecision(action=stage.calls("good", "bad"), usage=Usage(cost_micros=5))
    answer = ProviderDecision(action=Respond("x"), usage=Usage(cost_micros=7))
    skills = [
        stage.skill("good", stage.taking(2)),
        stage.skill("bad", stage.returning(ValueError())),
    ]
    engine = stage.engine([calls, answer], *skills)
    first = await engine.advance(stage.request())
    before = stage.ledger.stats().commits
    await engine.advance(stage.go_on)
    assert stage.ledger.stats().commits == before + 1
    assert await stage.records(Reflection) == [
        Reflection(
            trigger_id=first.trigger_id,
            stop_reason="responded",
            steps=2,
            tool_results=2,
            tool_failures=1,
            cost_micros=12,
            duration_ms=2_000,
        )
    ]
    assert (await stage.kinds())[-3:] == ["outcome", "reflection", "tool_performance"]


@pytest.mark.parametrize(("interval", "expected"), [(1, 6), (8, 3), (15, 1), (1_000, 0)])
async def test_reflections_keep_their_distance(stage: Any, interval: int, expected: int) -> None:
    """There is at most one reflection in `reflection_interval_records` records."""
    engine = stage.engine(
        lambda _: Respond("x"), policy=often(reflection_interval_records=interval)
    )
    for _ in range(6):
        await engine.advance(stage.request())
    at = [record.sequence for record in await stage.stored() if record.kind == "reflection"]
    assert len(at) == expected
    assert all(later - earlier >= interval for earlier, later in zip([0, *at], at, strict=False))


async def test_nothing_is_learned_where_it_is_switched_off(stage: Any) -> None:
    """With `enabled=False` nothing is recorded, whatever happens, and nothing is in force."""
    overlay = PolicyOverlay(max_steps=3)
    applied = PolicyTuning(tuning_id="t", status="applied", reason="r", overlay=overlay)
    await add(stage, applied)
    bad = stage.skill("bad", stage.returning(ValueError()))
    engine = stage.engine(
        lambda _: stage.calls("bad", "bad"), bad, policy=often(enabled=False, max_steps=2)
    )
    ends = [(await stage.play(engine))[-1].outcome for _ in range(4)]
    assert [(end.stop_reason, end.steps_executed) for end in ends] == [("max_steps_reached", 2)] * 4
    assert await learned(stage) == [applied]


async def test_a_run_that_pauses_teaches_nothing_yet(stage: Any) -> None:
    """Nothing is recorded with the outcome of a run that waits to be resumed."""
    engine = stage.engine([stage.calls("s"), Suspend(reason="ask")], stage.skill("s"))
    results = await stage.play(engine)
    assert results[-1].outcome.stop_reason == "suspended"
    assert await learned(stage) == []


@pytest.mark.parametrize("reason", ["suspended", "delegated"])
async def test_a_pause_counts_as_nothing(stage: Any, reason: Any) -> None:
    """Neither is anything learned from its outcome, nor does it count as a run that has ended."""
    await stage.engine([Continue()], policy=often()).advance(stage.request())
    before, projection = await stage.replayed(), await stage.replayed()
    (record,) = closing_records(before, before.run, Finish(reason, ""), steps=1, now_ms=0)
    fold(projection, projection.sequence + 1, NewRecord(record, 0))
    assert (projection.outcomes, projection.learning) == (1, before.learning)


async def test_calls_settled_by_the_end_are_counted(stage: Any) -> None:
    """A run that ends with calls open reflects upon them, and so do their skills' figures."""
    slow = stage.skill("slow", stage.taking(4), effects="unsafe")
    engine = stage.engine([stage.calls("slow"), Respond("x")], slow, policy=often())
    await stage.play(engine)
    engine = stage.engine([stage.calls("slow", "slow")], slow, policy=often())
    await stage.interrupt(engine)
    stage.clock.jump(10**6)
    engine = stage.engine([])
    await engine.advance(stage.go_on)
    reflection = (await stage.records(Reflection))[-1]
    assert (reflection.tool_results, reflection.tool_failures) == (2, 2)
    (figures,) = (await stage.records(ToolPerformance))[-1].skills
    assert (figures.calls, figures.failures, figures.total_failures) == (3, 2, 2)
    assert engine._turns.sessions._sessions["s"].projection == await stage.replayed()


# Skills.


def failing(stage: Any, *outcomes: bool) -> Any:
    """A skill whose calls go like this, one after the other; True is a success."""
    values = ["done" if good else ValueError("no") for good in outcomes]
    return stage.skill("s", stage.returning(*values), circuit_breaker_threshold=2.0)


async def call_in_turn(stage: Any, *outcomes: bool, **options: Any) -> None:
    """Make calls, a run each."""
    skill, turns = failing(stage, *outcomes), [stage.calls("s"), Respond("x")] * len(outcomes)
    profile = AgentProfile(memory=MemoryPolicy(summarise=False))
    engine = stage.engine(turns, skill, policy=often(**options), profile=profile)
    for _ in outcomes:
        await stage.play(engine)


async def test_performance_is_of_the_newest_calls(stage: Any) -> None:
    """Calls, successes, failures and their rate are of the last 20 calls; totals are of all."""
    await call_in_turn(stage, *[False] * 6, *[True] * 15, *[False])
    performances = await stage.records(ToolPerformance)
    assert performances[-1].skills == (
        SkillStatistics(
            name="s",
            calls=20,
            successes=15,
            failures=5,
            failure_rate=0.25,
            total_calls=22,
            total_failures=7,
        ),
    )


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([False], []),
        ([False, False], [("avoid_when_alternatives_exist", 1.0)]),
        ([True, False], []),
        ([True, False, False, False], [("avoid_when_alternatives_exist", 0.6667)]),
        (
            [False, False, False, True, True, True, True],
            [("avoid_when_alternatives_exist", 1.0), ("none", 0.5)],
        ),
    ],
)
async def test_preferences_follow_the_failure_rate(
    stage: Any, outcomes: list[bool], expected: list[Any]
) -> None:
    """Over one half of at least two calls a skill is avoided, until that is over: changes only."""
    await call_in_turn(stage, *outcomes)
    preferences = await stage.records(StrategyPreference)
    assert [(p.preference, p.failure_rate) for p in preferences] == expected


async def test_a_preference_waits_for_the_next_reflection(stage: Any) -> None:
    """What a run showed that was not reflected upon is recorded with a later one."""
    await call_in_turn(stage, *[False] * 2, reflection_interval_records=10**6)
    assert await stage.records(StrategyPreference) == []
    await stage.play(stage.engine([Respond("x")], policy=often()))
    assert [p.skill for p in await stage.records(StrategyPreference)] == ["s"]


async def test_a_skill_that_keeps_failing_is_offered_with_a_warning(stage: Any) -> None:
    """A preference adds a warning to the skill's description, and takes it back."""
    preference = StrategyPreference(
        skill="s", preference="avoid_when_alternatives_exist", failure_rate=0.9
    )
    engine = stage.engine(lambda _: Respond("x"), stage.skill("s"))
    for record in (preference, attrs.evolve(preference, preference="none")):
        await add(stage, record)
        await engine.advance(stage.request())
    warned, plain = (r.available_skills[0].description for r in stage.provider.requests)
    assert ("failed often" in warned, plain) == (True, "What s does.")
