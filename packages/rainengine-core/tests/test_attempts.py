"""Attempts at a tool call: timeouts, retries, keys, and values that cannot be stored."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import trio

from rainengine.core import CallSkills, EnginePolicy, RetryPolicy
from rainengine.core.errors import EffectNotApplied, SkillFailure
from rainengine.core.records import IssuedCall, ToolCalls, ToolResult

# Time.


@pytest.mark.parametrize(
    ("own", "policy", "deadline", "expected"),
    [
        (2_000, 10_000, 120_000, 2_000),
        (20_000, 3_000, 120_000, 3_000),
        (20_000, 30_000, 4_000, 4_000),
        (0, 10_000, 120_000, 1),
        (-5, 10_000, 120_000, 1),
    ],
)
async def test_the_smallest_limit_is_the_timeout(
    stage: Any, own: int, policy: int, deadline: int, expected: int
) -> None:
    """A call may take as long as skill, policy and the run's deadline all allow; at least 1 ms."""
    skill = stage.skill("slow", stage.taking(100), timeout_ms=own)
    limits = EnginePolicy(max_tool_timeout_ms=policy, max_execution_time_ms=deadline)
    engine = stage.engine([stage.calls("slow")], skill, policy=limits)
    await engine.advance(stage.request())
    (result,) = await stage.records(ToolResult)
    assert result.failure is not None
    assert (result.failure.kind, result.duration_ms) == ("timeout", expected)
    assert (await stage.statuses())[-1] == "timed_out"


async def test_nothing_starts_after_the_deadline(stage: Any) -> None:
    """Calls whose turn comes when the run's time is over never start, so none is in doubt."""
    skill = stage.skill("slow", stage.taking(4), effects="unsafe")
    policy = EnginePolicy(max_parallel_skill_calls=1, max_execution_time_ms=4_000)
    engine = stage.engine([stage.calls("slow", "slow", "slow")], skill, policy=policy)
    outcome = (await stage.play(engine))[-1].outcome
    assert outcome.stop_reason == "deadline_exceeded"
    assert len(skill.invocations) == 1
    assert [await stage.statuses(i) for i in ("c2", "c3")] == [["queued", "failed"]] * 2


# Attempts.

THREE = RetryPolicy(max_attempts=3, initial_interval_ms=1_000, max_interval_ms=1_500)


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (ValueError("x"), 3),
        (SkillFailure("timeout", "x"), 3),
        (SkillFailure("trap", "x"), 3),
        (SkillFailure("internal", "x"), 3),
        (SkillFailure("no such kind", "x"), 3),
        (EffectNotApplied("x"), 3),
        (SkillFailure("permission_denied", "x"), 1),
        (SkillFailure("invalid_arguments", "x"), 1),
        (SkillFailure("memory_limit_exceeded", "x"), 1),
        (SkillFailure("capability_denied", "x"), 1),
        (SkillFailure("invalid_response", "x"), 1),
        (SkillFailure("unknown_outcome", "x"), 1),
    ],
    ids=str,
)
@pytest.mark.parametrize("effects", ["pure", "idempotent"])
async def test_what_is_retried(stage: Any, error: Exception, attempts: int, effects: str) -> None:
    """Timeouts, traps and internal errors are retried, other failures are not."""
    skill = stage.skill("s", stage.returning(error), retry=THREE, effects=effects)
    await stage.run_graph(stage.calls("s"), skill)
    (result,) = await stage.records(ToolResult)
    assert (len(skill.invocations), result.attempts) == (attempts, attempts)
    assert [i.attempt for i in skill.invocations] == [*range(1, attempts + 1)]


@pytest.mark.parametrize(
    ("of_call", "of_skill", "of_policy", "attempts"),
    [(2, 5, 9, 2), (9, 3, 9, 3), (9, 9, 1, 2), (None, 4, 9, 4), (9, 9, 0, 1)],
)
async def test_the_smallest_limit_is_the_number_of_attempts(
    stage: Any, of_call: int | None, of_skill: int, of_policy: int, attempts: int
) -> None:
    """Call, skill and policy each limit the attempts; the smallest limit counts."""
    skill = stage.skill(
        "s", stage.returning(ValueError()), retry=RetryPolicy(max_attempts=of_skill)
    )
    retry = None if of_call is None else RetryPolicy(max_attempts=of_call)
    policy = EnginePolicy(max_tool_retries_per_step=of_policy)
    await stage.run_graph(CallSkills([stage.call("s", retry_policy=retry)]), skill, policy=policy)
    assert len(skill.invocations) == attempts


async def test_waits_are_drawn_from_nothing_to_the_ceiling(stage: Any) -> None:
    """The wait before attempt n + 1 is a fraction of `initial * multiplier ** (n - 1)`, capped."""
    times: list[int] = []

    async def fail(_: Any) -> None:
        times.append(stage.clock.now_ms())
        raise ValueError

    fractions = iter([0.25, 0.5, 0.0])

    class Ids:
        def new_id(self) -> str:
            return "1" * 32

        def fraction(self) -> float:
            return next(fractions)

    retry = RetryPolicy(
        max_attempts=4, initial_interval_ms=1_000, backoff_multiplier=3.0, max_interval_ms=2_000
    )
    policy = EnginePolicy(max_tool_retries_per_step=9)
    skill = stage.skill("s", fail, retry=retry)
    await stage.run_graph(stage.calls("s"), skill, policy=policy, ids=Ids())
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits == [250, 1_000, 0]


@pytest.mark.parametrize(
    "retry",
    [
        RetryPolicy(initial_interval_ms=-500),
        RetryPolicy(max_interval_ms=-1),
        RetryPolicy(max_attempts=3, backoff_multiplier=1e300, initial_interval_ms=10**6),
        RetryPolicy(max_attempts=-3),
        RetryPolicy(backoff_multiplier=-2.0),
    ],
    ids=str,
)
async def test_an_odd_retry_policy_ends_nothing(stage: Any, retry: RetryPolicy) -> None:
    """A skill's policy with negative or overflowing waits still gives a result."""
    skill = stage.skill("s", stage.returning(ValueError()), retry=retry, effects="idempotent")
    policy = EnginePolicy(max_tool_retries_per_step=9)
    assert await stage.run_graph(stage.calls("s"), skill, policy=policy) == {"c1": "internal"}


async def test_a_later_attempt_may_succeed(stage: Any) -> None:
    """A call that succeeds on its second attempt has succeeded."""
    skill = stage.skill("s", stage.returning(ValueError(), "ok"), retry=THREE)
    assert await stage.run_graph(stage.calls("s"), skill) == {"c1": "ok"}


async def test_attempts_of_keyed_calls_are_stored_before_they_begin(stage: Any) -> None:
    """An idempotent call's next attempt is in the ledger when the skill is called again."""
    seen: list[list[str]] = []

    async def fail(_: Any) -> None:
        seen.append(await stage.statuses())
        raise ValueError

    await stage.run_graph(
        stage.calls("s"), stage.skill("s", fail, effects="idempotent", retry=THREE)
    )
    begun = ["queued", "validated", "started"]
    assert seen == [begun, [*begun, "failed", "started"], [*begun, *["failed", "started"] * 2]]


async def test_attempts_of_pure_calls_are_stored_with_the_result(stage: Any) -> None:
    """A pure call's attempts cost no append of their own and are all told of in the end."""
    skill = stage.skill("s", stage.returning(ValueError(), ValueError(), "ok"), retry=THREE)
    await stage.engine([stage.calls("s")], skill).advance(stage.request())
    assert await stage.statuses() == [
        *("queued", "validated", "started"),
        *("failed", "started", "failed", "started", "succeeded"),
    ]
    assert stage.ledger.stats().commits == 3


# Keys.


async def test_a_key_is_the_same_on_every_attempt(stage: Any) -> None:
    """All attempts of a call carry one key, different from that of any other call."""
    skill = stage.skill("s", stage.returning(ValueError()), retry=THREE, effects="idempotent")
    await stage.run_graph(stage.calls("s", "s"), skill)
    keys = {(i.call_id, i.idempotency_key) for i in skill.invocations}
    (calls,) = await stage.records(ToolCalls)
    assert (len(skill.invocations), len(keys)) == (6, 2)
    assert calls.calls == tuple(
        IssuedCall(
            call_id=call_id,
            name="s",
            skill_version="1",
            effects="idempotent",
            idempotency_key=key,
        )
        for call_id, key in sorted(keys)
    )


async def test_a_key_is_the_same_after_a_crash(stage: Any) -> None:
    """A call that is run again by another process carries the key that it had."""
    skill = stage.skill("s", stage.taking(4), effects="idempotent")
    await stage.interrupt(stage.engine([stage.calls("s")], skill))
    await stage.engine([], skill, ledger=stage.other_handle()).advance(stage.go_on)
    first, second = skill.invocations
    assert (first.idempotency_key, first.attempt, second.attempt) == (second.idempotency_key, 1, 2)


async def test_keys_are_never_shown_to_the_model(stage: Any) -> None:
    """No message, skill or other part of a later request holds a call's key."""
    skill = stage.skill("s", effects="idempotent")
    await stage.run_graph(stage.calls("s"), skill)
    (invocation,) = skill.invocations
    assert len(invocation.idempotency_key) == 64
    assert invocation.idempotency_key not in repr(stage.provider.requests)


# What comes back.

NESTED: Any = []
for _ in range(10_000):
    NESTED = [NESTED]
DEEP: Any = 0
for _ in range(199):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value",
    [float("nan"), "a\0", "\ud800", 2**70, object(), {1: 2}, NESTED, [DEEP], "x" * 4_194_200],
    ids=["NaN", "NUL", "surrogate", "integer", "object", "key", "nested", "depth", "size"],
)
async def test_what_cannot_be_stored_is_an_invalid_response(stage: Any, value: Any) -> None:
    """A value that breaks the admission rule is a failed call, on an unsafe skill no doubt."""
    skill = stage.skill("s", stage.returning(value), effects="unsafe")
    assert await stage.run_graph(stage.calls("s"), skill) == {"c1": "invalid_response"}
    assert (await stage.statuses())[-1] == "failed"


@pytest.mark.parametrize("depth", range(195, 204))
async def test_values_of_any_depth(stage: Any, depth: int) -> None:
    """A value is admitted by the measure by which it is stored: once it is taken, it fits."""
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    skill = stage.skill("s", stage.returning(value), effects="idempotent")
    results = await stage.run_graph(stage.calls("s"), skill)
    assert results == {"c1": value if depth <= 198 else "invalid_response"}
    assert len(skill.invocations) == 1


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


async def _group_with_cancellation(_: Any) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("on the way out")


async def test_nothing_that_a_skill_raises_ends_the_run(stage: Any) -> None:
    """Odd exceptions, and groups that hold a timeout's cancellation, are failed calls."""
    skills = [
        stage.skill("a", stage.returning(Unspeakable())),
        stage.skill("b", stage.returning(ValueError("\0\ud800" + "x" * 10**6))),
        stage.skill("c", stage.returning(ExceptionGroup("g", [ValueError()]))),
        stage.skill("d", _group_with_cancellation),
    ]
    results = await stage.run_graph(stage.calls("a", "b", "c", "d"), *skills)
    assert results == dict.fromkeys(("c1", "c2", "c3", "c4"), "internal")
    assert all(len(r.failure.message) <= 500 for r in await stage.records(ToolResult))
