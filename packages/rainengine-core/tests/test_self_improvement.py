"""What the engine learns: bounded by the operator's policy, recorded now and then."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rainengine.core import Continue, EnginePolicy, Respond
from rainengine.core.abc import ProviderDecision, Usage
from rainengine.core.kernel import effective_policy
from rainengine.core.records import (
    NewRecord,
    PolicyOverlay,
    PolicyTuning,
    Reflection,
    SelfImprovementPolicy,
    SkillStatistics,
    StrategyPreference,
    ToolPerformance,
)

TUNABLE = [field.name for field in attrs.fields(PolicyOverlay)]
NUMBERS = st.none() | st.integers(-(10**12), 10**12)
OVERLAYS = st.builds(PolicyOverlay, **dict.fromkeys(TUNABLE, NUMBERS))
BASES = st.builds(
    EnginePolicy,
    **dict.fromkeys(TUNABLE, st.integers(0, 10**6)),
    self_improvement=st.builds(
        SelfImprovementPolicy, max_policy_delta_percent=st.floats(-50, 400, allow_nan=False)
    ),
)


@settings(max_examples=1_000, deadline=None)
@given(BASES, st.lists(OVERLAYS, min_size=1, max_size=4))
def test_no_overlay_passes_the_ceiling(base: EnginePolicy, overlays: list[PolicyOverlay]) -> None:
    """However many overlays there were, no value is above `ceil(max(base, 1) * (1 + delta))`."""
    factor = 1 + max(base.self_improvement.max_policy_delta_percent, 0) / 100
    for overlay in overlays:
        policy = effective_policy(base, overlay)
        for name in TUNABLE:
            ceiling = math.ceil(max(getattr(base, name), 1) * factor)
            assert getattr(policy, name) <= max(ceiling, getattr(base, name))
        untouched = {name: getattr(base, name) for name in TUNABLE}
        assert attrs.evolve(policy, **untouched) == base


def test_a_step_from_nothing() -> None:
    """From 0 steps at 50 % the ceiling is 2."""
    base = EnginePolicy(
        max_steps=0, self_improvement=SelfImprovementPolicy(max_policy_delta_percent=50)
    )
    assert effective_policy(base, PolicyOverlay(max_steps=1_000)).max_steps == 2


def test_a_smaller_value_is_taken_as_it_is() -> None:
    """An overlay may lower a value."""
    assert effective_policy(EnginePolicy(), PolicyOverlay(max_steps=3)).max_steps == 3


def test_without_self_improvement_overlays_do_not_count() -> None:
    """With `enabled=False` the operator's policy is in force, whatever was learned before."""
    base = EnginePolicy(self_improvement=SelfImprovementPolicy(enabled=False))
    assert effective_policy(base, PolicyOverlay(max_steps=20)) == base


async def add(stage: Any, *records: Any) -> None:
    """Append records to the session as a former process would have."""
    head = await stage.ledger.head("s")
    new = [NewRecord(record, stage.clock.now_ms()) for record in records]
    await stage.ledger.append("s", new, expected=head)


async def test_an_applied_overlay_is_in_force_until_it_is_rolled_back(stage: Any) -> None:
    """Steps follow the overlay's limit while it is applied, and the operator's afterwards."""
    overlay = PolicyOverlay(max_steps=2)
    tuning = PolicyTuning(tuning_id="t", status="applied", reason="r", overlay=overlay)
    engine = stage.engine(lambda _: Continue(), policy=EnginePolicy(max_steps=4))
    taken: list[int] = []
    for records in ([], [tuning], [attrs.evolve(tuning, status="rolled_back")]):
        await add(stage, *records) if records else None
        taken.append((await stage.play(engine))[-1].outcome.steps_executed)
    assert taken == [4, 2, 4]


@pytest.mark.parametrize("status", ["proposed", "rejected_unsafe"])
async def test_a_mere_proposal_changes_nothing(stage: Any, status: Any) -> None:
    """A tuning that was only proposed, or rejected, is not in force."""
    tuning = PolicyTuning(
        tuning_id="t", status=status, reason="r", overlay=PolicyOverlay(max_steps=1)
    )
    await add(stage, tuning)
    engine = stage.engine(lambda _: Continue(), policy=EnginePolicy(max_steps=3))
    assert (await stage.play(engine))[-1].outcome.steps_executed == 3


async def test_a_run_is_reflected_upon_in_numbers(stage: Any) -> None:
    """Reflection and tool performance come with the outcome, in one append."""
    calls = ProviderDecision(action=stage.calls("good", "bad"), usage=Usage(cost_micros=5))
    answer = ProviderDecision(action=Respond("x"), usage=Usage(cost_micros=7))
    skills = [
        stage.skill("good", stage.taking(2)),
        stage.skill("bad", stage.returning(ValueError())),
    ]
    engine = stage.engine([calls, answer], *skills)
    results = await stage.play(engine)
    assert await stage.records(Reflection) == [
        Reflection(
            trigger_id=results[0].trigger_id,
            stop_reason="responded",
            steps=2,
            tool_results=2,
            tool_failures=1,
            cost_micros=12,
            duration_ms=2_000,
        )
    ]
    (performance,) = await stage.records(ToolPerformance)
    assert sorted(performance.skills, key=lambda s: s.name) == [
        SkillStatistics(name="bad", calls=1, failures=1),
        SkillStatistics(name="good", calls=1, failures=0),
    ]
    assert (await stage.kinds())[-3:] == ["outcome", "reflection", "tool_performance"]


@pytest.mark.parametrize(("interval", "expected"), [(1, 6), (8, 3), (15, 1), (1_000, 0)])
async def test_reflections_keep_their_distance(stage: Any, interval: int, expected: int) -> None:
    """There is at most one reflection in `reflection_interval_records` records."""
    policy = EnginePolicy(
        self_improvement=SelfImprovementPolicy(reflection_interval_records=interval)
    )
    engine = stage.engine(lambda _: Respond("x"), policy=policy)
    for _ in range(6):
        await engine.advance(stage.request())
    at = [record.sequence for record in await stage.stored() if record.kind == "reflection"]
    assert len(at) == expected
    assert all(later - earlier >= interval for earlier, later in zip([0, *at], at, strict=False))


async def test_no_reflection_where_it_is_switched_off(stage: Any) -> None:
    """With `enabled=False` nothing is learned."""
    policy = EnginePolicy(self_improvement=SelfImprovementPolicy(enabled=False))
    engine = stage.engine(lambda _: Respond("x"), policy=policy)
    for _ in range(5):
        await engine.advance(stage.request())
    assert await stage.records(Reflection) == []


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


async def test_calls_settled_by_the_end_are_counted(stage: Any) -> None:
    """A run that ends with calls open reflects upon them as failures."""
    engine = stage.engine([stage.calls("slow", "slow")], stage.skill("slow", stage.taking(4)))
    await stage.interrupt(engine)
    stage.clock.jump(10**6)
    await stage.engine([]).advance(stage.go_on)
    (reflection,) = await stage.records(Reflection)
    assert (reflection.tool_results, reflection.tool_failures) == (2, 2)
