"""The circuit breaker of a skill: opens, lets one trial through, closes again."""

from __future__ import annotations

from typing import Any

import pytest

from rainengine.core import Respond
from rainengine.core.kernel._refusals import BREAKER_COOL_DOWN_MS, breaker_is_open
from rainengine.core.projection import SkillRecord


def history(recent: tuple[bool, ...], at: int = 0) -> SkillRecord:
    """A skill's newest calls, the last failure at a time."""
    return SkillRecord(calls=len(recent), recent=list(recent), last_failure_at_ms=at)


@pytest.mark.parametrize(
    ("recent", "expected"),
    [
        ((), False),
        ((False, False), False),
        ((False, False, False), True),
        ((True, False, False), True),
        ((True, True, False), False),
        ((True, True, False, False), True),
        ((True,) * 11 + (False,) * 9, False),
        ((True,) * 10 + (False,) * 10, True),
    ],
)
def test_it_opens_at_the_threshold(recent: tuple[bool, ...], *, expected: bool) -> None:
    """Open once half of at least three newest calls have failed."""
    assert breaker_is_open(history(recent), 0.5, 1_000) is expected


def test_after_a_cool_down_one_trial_is_let_through() -> None:
    """After the cool-down it lets a call through, but no second one beside it."""
    failed = history((False,) * 3, at=1_000)
    after = 1_000 + BREAKER_COOL_DOWN_MS
    assert breaker_is_open(failed, 0.5, after - 1)
    assert not breaker_is_open(failed, 0.5, after)
    assert breaker_is_open(failed, 0.5, after, tried=True)


async def calls_of(stage: Any, skill: Any, count: int = 1) -> list[str]:
    """Run one graph with calls of the skill, as a run of its own; return what came of each."""
    engine = stage.engine([stage.calls(*["s"] * count), Respond("x")], skill)
    before = len(await stage.stored())
    await stage.play(engine)
    return [
        record.record.value or record.record.failure.message.partition(":")[0]
        for record in (await stage.stored())[before:]
        if record.kind == "tool_result"
    ]


async def test_it_opens_half_opens_and_closes(stage: Any) -> None:
    """A skill that fails is not called for a while, then once, and freely when that succeeds."""
    failing = stage.returning(*[ValueError()] * 3, "ok")
    skill = stage.skill("s", failing)
    assert await calls_of(stage, skill, 3) == ["ValueError"] * 3
    refusal = "its circuit breaker is open"
    assert await calls_of(stage, skill) == [refusal]
    stage.clock.jump(BREAKER_COOL_DOWN_MS)
    assert await calls_of(stage, skill, 3) == [refusal, refusal, "ok"]
    assert await calls_of(stage, skill, 3) == ["ok"] * 3


async def test_a_failed_trial_opens_it_again(stage: Any) -> None:
    """A trial that fails starts another cool-down."""
    skill = stage.skill("s", stage.returning(ValueError()))
    await calls_of(stage, skill, 3)
    stage.clock.jump(BREAKER_COOL_DOWN_MS)
    await calls_of(stage, skill)
    await calls_of(stage, skill)
    assert len(skill.invocations) == 4


async def test_refusals_do_not_count_as_failures(stage: Any) -> None:
    """Calls that never reached the skill say nothing about it."""
    skill = stage.skill("s", required_scopes=("t",))
    await calls_of(stage, skill, 4)
    assert "s" not in (await stage.replayed()).skills
