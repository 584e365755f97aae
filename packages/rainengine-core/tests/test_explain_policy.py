"""Explaining a session's policy: base, ceiling, what was learned, and the records that say so."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from rainengine.core import AgentEngine, Continue, EnginePolicy, PolicyExplanation, Respond
from rainengine.core.engine import AvoidedSkill, ExplainedValue
from rainengine.core.errors import ProviderError, SessionNotFound
from rainengine.core.records import PolicyTuning, SelfImprovementPolicy


def policy(**options: Any) -> EnginePolicy:
    """A policy of four steps under which every outcome is reflected upon."""
    defaults = SelfImprovementPolicy(reflection_interval_records=1)
    own = {name: options.pop(name) for name in list(options) if hasattr(defaults, name)}
    return EnginePolicy(
        **({"max_steps": 4} | options), self_improvement=attrs.evolve(defaults, **own)
    )


def decide(request: Any) -> Any:
    """Answer, fail or go round in circles, as the message says."""
    text = request.trigger.content
    if text == "fail":
        raise ProviderError("down", kind="internal", retryable=False)
    return Respond("x") if text == "answer" else Continue()


async def play(stage: Any, *texts: str, **options: Any) -> AgentEngine:
    """Play runs to these messages; return the engine."""
    engine: AgentEngine = stage.engine(decide, policy=policy(**options))
    for text in texts:
        await stage.play(engine, stage.request(text=text))
    return engine


def steps(explanation: PolicyExplanation) -> ExplainedValue:
    """What is told of `max_steps`."""
    (value,) = (value for value in explanation.values if value.name == "max_steps")
    return value


async def at(stage: Any, status: str) -> Any:
    """The sequence and the record of the newest tuning of this status."""
    *_, found = (
        (entry.sequence, entry.record)
        for entry in await stage.stored()
        if isinstance(entry.record, PolicyTuning) and entry.record.status == status
    )
    return found


async def test_it_names_base_ceiling_and_effective(stage: Any) -> None:
    """Where nothing was learned, all five values are the operator's."""
    engine = await play(stage, "answer", "loop")
    explanation = await engine.explain_policy("s")
    told = {v.name: (v.base, v.proposed, v.ceiling, v.effective) for v in explanation.values}
    assert told == {
        "max_steps": (4, None, 5, 4),
        "max_execution_time_ms": (120_000, None, 150_000, 120_000),
        "provider_timeout_ms": (45_000, None, 56_250, 45_000),
        "max_tool_timeout_ms": (10_000, None, 12_500, 10_000),
        "max_parallel_skill_calls": (4, None, 5, 4),
    }
    assert (steps(explanation).stops, steps(explanation).needed) == (1, 2)
    assert (explanation.policy, explanation.trigger_id) == (policy(), None)
    assert explanation.sequence == len(await stage.stored())


async def test_a_learned_value_has_its_record(stage: Any) -> None:
    """It tells the record, and its sequence, that a value comes from."""
    engine = await play(stage, "loop", "loop")
    value = steps(await engine.explain_policy("s"))
    sequence, tuning = await at(stage, "applied")
    assert (value.proposed, value.ceiling, value.effective, value.stops) == (5, 5, 5, 0)
    assert value.source is not None
    assert (value.source.sequence, value.source.tuning) == (sequence, tuning)


async def test_the_base_is_that_of_today(stage: Any) -> None:
    """What was learned is held against the policy of the engine that is asked."""
    await play(stage, "loop", "loop")
    for base, expected in ((2, (2, 5, 3, 3)), (4, (4, 5, 5, 5)), (9, (9, 5, 12, 9))):
        value = steps(await (await play(stage, max_steps=base)).explain_policy("s"))
        assert (value.base, value.proposed, value.ceiling, value.effective) == expected


async def test_an_open_run_has_its_own_base(stage: Any) -> None:
    """While a run is open, it is told of that run's policy."""
    engine = await play(stage, max_steps=9)
    result = await engine.advance(stage.request(text="loop", policy=policy(max_steps=7)))
    explanation = await engine.explain_policy("s")
    assert (explanation.trigger_id, steps(explanation).base) == (result.trigger_id, 7)


@pytest.mark.parametrize("mode", ["advisory", "shadow"])
async def test_a_proposal_is_pending(stage: Any, mode: Any) -> None:
    """What is only proposed is told as that, and as not in force."""
    engine = await play(stage, "loop", "loop", mode=mode)
    explanation = await engine.explain_policy("s")
    sequence, tuning = await at(stage, "proposed")
    assert [(p.sequence, p.tuning) for p in explanation.pending] == [(sequence, tuning)]
    value = steps(explanation)
    assert (value.proposed, value.effective, value.source) == (5, 4, explanation.pending[0])


async def test_a_proposal_that_the_operator_has_passed_is_not(stage: Any) -> None:
    """Once the operator's own value is as large, there is nothing to decide."""
    await play(stage, "loop", "loop", mode="advisory")
    engine = await play(stage, mode="advisory", max_steps=5)
    assert (await engine.explain_policy("s")).pending == ()


async def test_a_rollback_is_told(stage: Any) -> None:
    """The last rollback is named, and how much more it now takes."""
    engine = await play(stage, "loop", "loop", "fail", "loop")
    explanation = await engine.explain_policy("s")
    assert explanation.last_rollback is not None
    sequence, tuning = await at(stage, "rolled_back")
    last = explanation.last_rollback
    assert (last.sequence, last.tuning) == (sequence, tuning)
    value = steps(explanation)
    assert (value.proposed, value.effective, value.stops, value.needed) == (None, 4, 1, 4)


async def test_a_rejection_is_told(stage: Any) -> None:
    """That a budget is not raised is told with its record."""
    engine = await play(stage, "loop", "loop", max_cost_per_session=0.0)
    (rejected,) = (await engine.explain_policy("s")).rejected
    assert (rejected.tuning.limit, rejected.sequence) == (
        "max_cost_per_session",
        (await at(stage, "rejected_unsafe"))[0],
    )


async def test_avoided_skills_are_told(stage: Any) -> None:
    """A skill that the model is warned of is named with its figures."""
    bad = stage.skill("bad", stage.returning(ValueError()))
    script = [stage.calls("bad", "bad"), Respond("x")]
    engine = stage.engine(script, bad, policy=policy())
    await stage.play(engine)
    explanation = await engine.explain_policy("s")
    assert explanation.avoided == (AvoidedSkill(name="bad", calls=2, failures=2),)


async def test_it_is_a_table_for_people(stage: Any) -> None:
    """Printed, it says in a line for each value where it comes from."""
    await play(stage, "loop", "loop")
    engine = await play(stage, "fail", "loop")
    await play(stage, "loop", "loop", "loop")
    told = str(await engine.explain_policy("s")).splitlines()
    applied, rolled_back = await at(stage, "applied"), await at(stage, "rolled_back")
    because = f"max_steps ended 4 of 4 runs (applied, record {applied[0]})"
    assert told[2:4] == [
        "value                      operator  proposed  ceiling  effective  because",
        f"max_steps                         4         5        5          5  {because}",
    ]
    assert told[-1] == (
        f"last rollback: max_steps: {rolled_back[1].reason} (rolled_back, record {rolled_back[0]})"
    )
    off = await play(stage, enabled=False)
    assert "switched off" in str(await off.explain_policy("s"))


async def test_there_has_to_be_a_session(stage: Any) -> None:
    """A session that is not there is `SessionNotFound`."""
    with pytest.raises(SessionNotFound):
        await (await play(stage)).explain_policy("s")


async def test_a_step_under_way_is_not_waited_for(stage: Any) -> None:
    """While the model is being asked, it is told of the run that asks it."""

    async def hang(_: Any) -> Any:
        await trio.sleep(30)
        return Respond("x")

    engine = stage.engine(hang, policy=policy())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.advance, stage.request())
        await trio.testing.wait_all_tasks_blocked()
        before = trio.current_time()
        explanation = await engine.explain_policy("s")
        assert (explanation.trigger_id is not None, trio.current_time()) == (True, before)


async def test_only_the_named_records_are_read(stage: Any) -> None:
    """A session in memory is explained by reading no more than the records that are named."""
    engine = await play(stage, "loop", "loop", "fail", *["loop"] * 4)
    reads: list[int] = []
    read = type(stage.ledger).read

    async def counted(ledger: Any, session_id: str, *, after: int = 0, limit: int = 1_000) -> Any:
        found = await read(ledger, session_id, after=after, limit=limit)
        reads.append(len(found))
        return found

    stage.ledger.read = counted.__get__(stage.ledger)
    await engine.explain_policy("s")
    assert sum(reads) <= 4


async def test_nothing_is_stored(stage: Any) -> None:
    """Asking leaves the session as it is."""
    engine = await play(stage, "loop", "loop")
    before = await stage.stored()
    await engine.explain_policy("s")
    assert before == await stage.stored()
