"""Calls whose outcome is not known: never silently run again, never silently counted as done."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from rainengine.core import CallSkills, EnginePolicy, Respond, RetryPolicy
from rainengine.core.abc import NotStarted, Settled, Undetermined
from rainengine.core.errors import EffectNotApplied, SkillFailure
from rainengine.core.records import ModelDecision, ToolResult
from rainengine.core.tools._calls import MAX_RESUMED_ATTEMPTS

THREE = RetryPolicy(max_attempts=3, initial_interval_ms=0)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        SkillFailure("timeout", "x"),
        SkillFailure("trap", "x"),
        SkillFailure("internal", "x"),
        SkillFailure("unknown_outcome", "x"),
        ExceptionGroup("x", [EffectNotApplied("x"), ValueError()]),
    ],
    ids=str,
)
async def test_an_unsafe_call_that_raised_is_in_doubt(stage: Any, error: Exception) -> None:
    """An unsafe call that raised after its start may have happened, and is not tried again."""
    skill = stage.skill("pay", stage.returning(error), effects="unsafe", retry=THREE)
    assert await stage.run_graph(stage.calls("pay"), skill) == {"c1": "unknown_outcome"}
    assert (await stage.statuses(), len(skill.invocations)) == (
        ["queued", "validated", "started", "in_doubt"],
        1,
    )


async def test_an_unsafe_call_that_timed_out_is_in_doubt(stage: Any) -> None:
    """A timeout says nothing of what happened outside."""
    skill = stage.skill("pay", stage.taking(60), effects="unsafe", retry=THREE)
    assert await stage.run_graph(stage.calls("pay"), skill) == {"c1": "unknown_outcome"}
    assert len(skill.invocations) == 1


@pytest.mark.parametrize(
    "kind", ["permission_denied", "capability_denied", "invalid_arguments", "invalid_response"]
)
async def test_a_refusal_is_no_doubt(stage: Any, kind: str) -> None:
    """A skill that says that it refused, or that answered nonsense, leaves no doubt."""
    skill = stage.skill("pay", stage.returning(SkillFailure(kind, "x")), effects="unsafe")
    assert await stage.run_graph(stage.calls("pay"), skill) == {"c1": kind}


async def test_what_was_not_applied_is_retried(stage: Any) -> None:
    """`EffectNotApplied` says that nothing happened: the call is tried again, recorded before."""
    seen: list[Any] = []

    async def behave(invocation: Any) -> str:
        seen.append((await stage.statuses())[3:])
        if invocation.attempt < 3:
            raise EffectNotApplied("refused")
        return "paid"

    skill = stage.skill("pay", behave, effects="unsafe", retry=THREE)
    assert await stage.run_graph(stage.calls("pay"), skill) == {"c1": "paid"}
    assert seen == [[], ["failed", "started"], ["failed", "started"] * 2]


async def test_what_was_never_applied_is_a_plain_failure(stage: Any) -> None:
    """After its last attempt a call that was not applied has failed, without doubt."""
    skill = stage.skill(
        "pay", stage.returning(EffectNotApplied("no")), effects="unsafe", retry=THREE
    )
    assert await stage.run_graph(stage.calls("pay"), skill) == {"c1": "internal"}
    assert len(skill.invocations) == 3


@pytest.mark.parametrize(
    ("answer", "attempts", "result"),
    [
        (Settled({"id": 7}), 1, {"id": 7}),
        (NotStarted(), 3, "internal"),
        (Undetermined(), 1, "unknown_outcome"),
        (ValueError("x"), 1, "unknown_outcome"),
        ("garbage", 1, "unknown_outcome"),
        (Settled("\0"), 1, "unknown_outcome"),
    ],
    ids=repr,
)
async def test_a_failed_call_is_reconciled(
    stage: Any, answer: Any, attempts: int, result: Any
) -> None:
    """A skill that can tell is asked what became of its failed call, and is believed."""
    skill = stage.skill(
        "pay", stage.returning(ValueError()), effects="unsafe", retry=THREE, answer=answer
    )
    assert await stage.run_graph(stage.calls("pay"), skill) == {"c1": result}
    assert (len(skill.invocations), len(skill.asked)) == (attempts, attempts)


async def test_a_dry_run_is_never_in_doubt(stage: Any) -> None:
    """A dry run changes nothing, so a failed one is a plain failure."""
    skill = stage.skill("pay", stage.returning(ValueError()), effects="unsafe", dry_run=True)
    calls = CallSkills([stage.call("pay", dry_run=True)])
    policy = EnginePolicy(enable_tool_dry_run=True)
    assert await stage.run_graph(calls, skill, policy=policy) == {"c1": "internal"}


# After a crash.


async def crashed(stage: Any, skill: Any, *others: Any, calls: Any = None) -> Any:
    """Crash in the middle of a call of skill `s`; return the engine of the next process."""
    planned = calls or stage.calls("s")
    await stage.interrupt(stage.engine([planned], skill, *others))
    return stage.engine([Respond("x")], skill, *others, ledger=stage.other_handle())


async def test_an_interrupted_unsafe_call_is_not_run_again(stage: Any) -> None:
    """After a crash an unsafe call is in doubt; the model is told and the run goes on."""
    skill = stage.skill("s", stage.taking(4), effects="unsafe")
    results = await stage.play(await crashed(stage, skill), stage.go_on)
    assert (await stage.results(), len(skill.invocations)) == ({"c1": "unknown_outcome"}, 1)
    (part,) = stage.provider.requests[0].messages[-1].parts
    assert (part.failure.kind, results[-1].outcome.response) == ("unknown_outcome", "x")


@pytest.mark.parametrize("effects", ["pure", "idempotent"])
async def test_an_interrupted_harmless_call_is_run_again(stage: Any, effects: str) -> None:
    """After a crash a pure or idempotent call runs again, recorded before it does."""
    skill = stage.skill("s", stage.taking(4), effects=effects)
    await stage.play(await crashed(stage, skill), stage.go_on)
    assert [i.attempt for i in skill.invocations] == [1, 2]
    assert await stage.statuses() == ["queued", "validated", "started", "started", "succeeded"]
    assert await stage.results() == {"c1": "done"}


@pytest.mark.parametrize(
    ("answer", "runs", "result"),
    [
        (Settled("before"), 1, "before"),
        (NotStarted(), 2, "done"),
        (Undetermined(), 1, "unknown_outcome"),
        (RuntimeError(), 1, "unknown_outcome"),
    ],
    ids=repr,
)
async def test_an_interrupted_call_is_reconciled(
    stage: Any, answer: Any, runs: int, result: str
) -> None:
    """After a crash a skill that can tell is asked, with the key that the call had."""
    skill = stage.skill("s", stage.taking(4), effects="unsafe", answer=answer)
    await stage.play(await crashed(stage, skill), stage.go_on)
    assert (await stage.results(), len(skill.invocations)) == ({"c1": result}, runs)
    assert [i.idempotency_key for i in skill.asked] == [skill.invocations[0].idempotency_key]


async def test_a_reconciliation_that_hangs_is_undetermined(stage: Any) -> None:
    """A skill that does not answer in the time of a call leaves the call in doubt."""
    skill = stage.skill("s", stage.taking(4), effects="unsafe", answer=Undetermined())

    async def hang(_: Any) -> None:
        await trio.sleep_forever()

    engine = await crashed(stage, skill)
    type(skill).reconcile, kept = (lambda _, invocation: hang(invocation)), type(skill).reconcile
    try:
        await stage.play(engine, stage.go_on)
    finally:
        type(skill).reconcile = kept
    assert await stage.results() == {"c1": "unknown_outcome"}


async def test_all_doubts_are_settled_in_one_append(stage: Any) -> None:
    """On resume all calls in doubt are asked side by side and recorded together."""
    skill = stage.skill("s", stage.taking(4), effects="unsafe", answer=Settled("before"))
    engine = await crashed(stage, skill, calls=stage.calls("s", "s", "s"))
    before = stage.ledger.stats().commits
    handle = engine.ledger
    await engine.advance(stage.go_on)
    assert await stage.results() == dict.fromkeys(("c1", "c2", "c3"), "before")
    assert (before, handle.stats().commits) == (2, 2)  # the claim, and the results


async def test_what_waited_for_a_settled_call_goes_on(stage: Any) -> None:
    """A call that depends on one settled after a crash starts; finished ones do not run again."""
    skill = stage.skill("s", stage.taking(4), effects="unsafe", answer=Settled("before"))
    quick = stage.skill("quick", effects="unsafe")
    calls = CallSkills(
        [
            stage.call("s", "a"),
            stage.call("quick", "b"),
            stage.call("quick", "c", depends_on=("a", "b")),
        ]
    )
    await stage.play(await crashed(stage, skill, quick, calls=calls), stage.go_on)
    assert await stage.results() == {"a": "before", "b": "done", "c": "done"}
    assert [i.call_id for i in quick.invocations] == ["b", "c"]


async def test_the_decision_is_not_asked_for_again(stage: Any) -> None:
    """A stored decision is followed to its end by the next process, which asks for the next one."""
    skill = stage.skill("s", stage.taking(4))
    await stage.play(await crashed(stage, skill), stage.go_on)
    assert [d.step for d in await stage.records(ModelDecision)] == [1, 2]
    assert len(stage.provider.requests) == 1


@pytest.mark.parametrize(
    ("effects", "result"), [("pure", "trap"), ("idempotent", "unknown_outcome")]
)
async def test_a_call_that_kills_processes_is_given_up(
    stage: Any, effects: str, result: str
) -> None:
    """A call that was interrupted again and again is not started for ever."""
    skill = stage.skill("s", stage.taking(4), effects=effects)
    engine = await crashed(stage, skill)
    for _ in range(MAX_RESUMED_ATTEMPTS - 1):
        await stage.interrupt(engine, stage.go_on)
        engine = stage.engine([Respond("x")], skill, ledger=stage.other_handle())
    await engine.advance(stage.go_on)
    assert (await stage.results(), len(skill.invocations)) == ({"c1": result}, MAX_RESUMED_ATTEMPTS)


@pytest.mark.parametrize(
    ("effects", "result"),
    [("unsafe", "unknown_outcome"), ("pure", "internal"), ("idempotent", "unknown_outcome")],
)
async def test_a_skill_that_is_gone_meanwhile(stage: Any, effects: str, result: str) -> None:
    """A call whose skill the next process does not have is in doubt, or failed if it is pure."""
    await crashed(stage, stage.skill("s", stage.taking(4), effects=effects))
    await stage.play(stage.engine([Respond("x")]), stage.go_on)
    assert await stage.results() == {"c1": result}


async def test_a_skill_that_is_removed_before_its_turn(stage: Any) -> None:
    """A call whose skill is unregistered while another runs fails without being called."""
    later = stage.skill("later", effects="unsafe")
    calls = CallSkills([stage.call("s", "a"), stage.call("later", "b", depends_on=("a",))])
    engine: Any = None

    async def remove(_: Any) -> None:
        engine.unregister_skill("later")

    engine = stage.engine([calls, Respond("x")], stage.skill("s", remove), later)
    await stage.play(engine)
    assert (await stage.results(), later.invocations) == ({"a": None, "b": "internal"}, [])


@pytest.mark.parametrize(
    ("effects", "kind"), [("unsafe", "unknown_outcome"), ("pure", "cancelled")]
)
async def test_a_run_that_ends_with_an_open_graph_settles_it(
    stage: Any, effects: str, kind: str
) -> None:
    """A deadline that passed while nobody worked ends the run; doubt is told, not hidden."""
    skill = stage.skill("s", stage.taking(4), effects=effects)
    calls = CallSkills([stage.call("s", "a"), stage.call("s", "b", depends_on=("a",))])
    engine = await crashed(stage, skill, calls=calls)
    stage.clock.jump(10**6)
    outcome = (await engine.advance(stage.go_on)).outcome
    assert (outcome.stop_reason, await stage.results()) == (
        "deadline_exceeded",
        {"a": kind, "b": "cancelled"},
    )
    assert ("in doubt: s (a)" in outcome.detail) is (effects == "unsafe")
    assert len(skill.invocations) == 1


async def test_a_settled_result_says_how_many_attempts_it_took(stage: Any) -> None:
    """Results after a resume count the attempts of all processes."""
    skill = stage.skill("s", stage.taking(4), effects="idempotent")
    await stage.play(await crashed(stage, skill), stage.go_on)
    (result,) = await stage.records(ToolResult)
    assert result.attempts == 2


@pytest.mark.parametrize(
    ("effects", "result"),
    [("unsafe", "unknown_outcome"), ("idempotent", "unknown_outcome"), ("pure", "cancelled")],
)
async def test_a_run_that_ends_on_an_interrupted_call(
    stage: Any, effects: str, result: str
) -> None:
    """A call that was cut off before the deadline is in doubt, unless it is pure; it is told of."""
    await crashed(stage, stage.skill("s", stage.taking(4), effects=effects))
    stage.clock.jump(200_000)
    skill = stage.skill("s", effects=effects)
    (ended,) = await stage.play(stage.engine([], skill), stage.go_on)
    assert ("deadline_exceeded", {"c1": result}) == (
        ended.outcome.stop_reason,
        await stage.results(),
    )
    assert ("in doubt: s (c1)" in ended.outcome.detail) == (effects != "pure")
