"""Storage that fails: nothing is reported as done that is not, and the next advance goes on."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from rainengine.core import (
    Continue,
    InMemoryLedger,
    Respond,
    RetryPolicy,
    Webhook,
    run_until_terminal,
)
from rainengine.core.errors import (
    AppendUnknown,
    InvalidSkill,
    LedgerCorrupt,
    LedgerFull,
    LedgerIOError,
    LedgerUnavailable,
    SequenceConflict,
    SkillFailure,
)
from rainengine.core.records import (
    NewRecord,
    NodeCheckpoint,
    OutcomeRecord,
    Summary,
    ToolExecutionGraph,
    ToolNodeCheckpoint,
    TriggerIntent,
    TriggerRecord,
    UnknownRecord,
)
from rainengine.core.testing import FailAfter, FailBefore, FaultyLedger, IntakeBefore

APPENDS = 7
"""Trigger, decision with start, result of a, attempt of b, result of b, the refused trigger of the
same request sent again, answer."""

NOT_STORED = {
    "unavailable": LedgerUnavailable("away"),
    "full": LedgerFull("full"),
    "broken": LedgerIOError("broken"),
    "unknown": AppendUnknown("lost"),
}


def scene(stage: Any, faults: Any) -> tuple[Any, dict[str, Any]]:
    """An engine over a ledger with faults: two tools, one of which is tried twice."""
    attempts: list[int] = []

    async def flaky(invocation: Any) -> str:
        attempts.append(invocation.attempt)
        await stage.taking(1)(invocation)
        if invocation.attempt == 1:
            raise ValueError("once")
        return "b"

    skills = {
        "a": stage.skill("a", stage.taking(0.5, "a"), effects="unsafe"),
        "b": stage.skill("b", flaky, effects="idempotent", retry=RetryPolicy()),
    }
    script = lambda r: stage.calls("a", "b") if r.context.step == 1 else Respond("x")  # noqa: E731
    ledger = FaultyLedger(InMemoryLedger(stage.clock, backing=stage.ledger), faults)
    return stage.engine(script, *skills.values(), ledger=ledger), skills


async def until_done(stage: Any, engine: Any) -> tuple[Any, list[Exception]]:
    """Send the same request until there is an outcome; return it with what was raised."""
    errors: list[Exception] = []
    for _ in range(12):
        try:
            result = await engine.advance(stage.request("k"))
        except (LedgerUnavailable, AppendUnknown) as error:
            errors.append(error)
        else:
            if result.outcome is not None:
                return result.outcome, errors
    raise AssertionError("the run did not end")


@pytest.mark.parametrize("number", range(1, APPENDS + 1))
@pytest.mark.parametrize("fault", NOT_STORED)
async def test_an_append_that_is_not_stored_raises(stage: Any, fault: str, number: int) -> None:
    """The error comes out of advance, nothing of the append is there, and the run ends rightly."""
    engine, skills = scene(stage, {number: FailBefore(NOT_STORED[fault])})
    outcome, errors = await until_done(stage, engine)
    assert errors == [NOT_STORED[fault]]
    assert (outcome.response, outcome.idempotent_replay) == ("x", False)
    assert len(await stage.records(TriggerRecord)) == 1
    assert len(await stage.records(OutcomeRecord)) == 1
    assert len(skills["a"].invocations) == 1
    lost = number == 3  # what a did was not recorded: it is in doubt, and not run again
    assert (await stage.results())["c1"] == ("unknown_outcome" if lost else "a")


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 7])
async def test_an_append_that_is_stored_although_it_raised(stage: Any, number: int) -> None:
    """What was stored behind an `AppendUnknown` is found again and not done twice."""
    error = AppendUnknown("lost")
    engine, skills = scene(stage, {number: FailAfter(error)})
    outcome, errors = await until_done(stage, engine)
    assert errors == [error]
    assert (outcome.response, outcome.idempotent_replay) == ("x", number == APPENDS)
    assert len(await stage.records(TriggerRecord)) == 1
    assert len(await stage.records(OutcomeRecord)) == 1
    # Its start was stored, and the process did not get to call it: that is in doubt.
    started_only = number == 2
    assert len(skills["a"].invocations) == (0 if started_only else 1)
    assert (await stage.results())["c1"] == ("unknown_outcome" if started_only else "a")


async def test_a_failed_outcome_is_no_success(stage: Any) -> None:
    """An answer that could not be stored is not given; the model is asked again."""
    ledger = FaultyLedger(stage.ledger, {2: FailBefore(LedgerFull("full"))})
    engine = stage.engine([Respond("lost"), Respond("kept")], ledger=ledger)
    with pytest.raises(LedgerFull):
        await engine.advance(stage.request("k"))
    assert await stage.kinds() == ["trigger", "trigger_intent", "kernel_event"]
    assert (await engine.advance(stage.request("k"))).outcome.response == "kept"


async def test_a_trigger_that_was_not_stored_is_not_acted_on(stage: Any) -> None:
    """Without a stored trigger no model is asked."""
    ledger = FaultyLedger(stage.ledger, {1: FailBefore(LedgerUnavailable("away"))})
    engine = stage.engine([Respond("x")], ledger=ledger)
    with pytest.raises(LedgerUnavailable):
        await engine.advance(stage.request("k"))
    assert (await stage.stored(), stage.provider.requests) == ([], [])


async def test_another_writer_under_the_lease_is_a_conflict(stage: Any) -> None:
    """Records other than intake in between are no intake: the append's conflict is raised."""
    strange = IntakeBefore([NewRecord(Summary(text="?", through_sequence=1), 0)])
    inner = InMemoryLedger(stage.clock, backing=stage.ledger)
    engine = stage.engine(
        [Respond("x"), Respond("y")], ledger=FaultyLedger(_open(inner), {2: strange})
    )
    with pytest.raises(SequenceConflict):
        await engine.advance(stage.request("k"))
    assert await stage.records(OutcomeRecord) == []
    assert (await engine.advance(stage.request("k"))).outcome.response == "y"


def _open(inner: Any) -> Any:
    """A ledger without leases, which lets anybody append anything."""

    class Open:
        tenant, max_payload_bytes = inner.tenant, inner.max_payload_bytes
        append, read, head = inner.append, inner.read, inner.head
        list_sessions, find_outcome = inner.list_sessions, inner.find_outcome

    return Open()


async def test_a_ledger_without_capabilities_is_enough(stage: Any) -> None:
    """Over a ledger that can only append and read, runs go their way and intake is rebased."""
    bare = _open(stage.ledger)
    engine: Any = None

    async def answer(request: Any) -> Any:
        if request.context.step == 1 and request.trigger.content == "a":
            await engine.submit(stage.request("b", text="b"))
            return Continue()
        return Respond(request.trigger.content)

    engine = stage.engine(answer, ledger=bare)
    assert (await run_until_terminal(engine, stage.request("a", text="a"))).outcome.response == "a"
    assert (await engine.advance(stage.go_on)).outcome.response == "b"
    assert (await engine.advance(stage.request("b", text="b"))).outcome.idempotent_replay


async def test_a_ledger_need_not_be_hashable(stage: Any) -> None:
    """A store made with `@attrs.define`, which compares by value, serves an engine."""
    inner = stage.ledger

    @attrs.define
    class Valued:
        tenant: str = inner.tenant
        max_payload_bytes: int = inner.max_payload_bytes
        append, read, head = inner.append, inner.read, inner.head
        list_sessions, find_outcome = inner.list_sessions, inner.find_outcome

    engine = stage.engine([Respond("x")], ledger=Valued())
    assert "x" == (await engine.advance(stage.request())).outcome.response


async def test_intake_of_a_newer_release_costs_no_result(stage: Any) -> None:
    """A trigger of a version that this release cannot read is intake all the same."""
    pay = stage.skill("pay", effects="unsafe")
    newer = UnknownRecord(stored_kind="trigger", stored_version=9, payload="{}")
    ledger = FaultyLedger(
        InMemoryLedger(stage.clock, backing=stage.ledger),
        {3: IntakeBefore([NewRecord(newer, 0, "t9")])},
    )
    engine = stage.engine([stage.calls("pay"), Respond("x")], pay, ledger=ledger)
    assert "x" == (await stage.play(engine))[-1].outcome.response
    assert ({"c1": "done"}, 1) == (await stage.results(), len(pay.invocations))


async def test_a_record_that_does_not_fit_is_corrupt(stage: Any) -> None:
    """A record that speaks of a call which is not there makes the session corrupt, not a crash."""
    await stage.interrupt(
        stage.engine([stage.calls("s")], stage.skill("s", stage.taking(9))), after=1
    )
    stray = NodeCheckpoint(call_id="nobody", skill="s", statuses=("succeeded",))
    graph = (await stage.records(ToolExecutionGraph))[0]
    record = ToolNodeCheckpoint(graph_id=graph.graph_id, step=1, nodes=(stray,))
    lease = await stage.ledger.lease_of("s")
    await stage.ledger.append("s", [NewRecord(record, 0)], expected=None, fence=lease.fence)
    with pytest.raises(LedgerCorrupt, match="does not fit"):
        await stage.engine([Respond("x")], ledger=stage.other_handle()).advance(stage.go_on)


class Unspeakable(Exception):
    """An error whose text is somebody else's code, which fails."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class MuteFailure(SkillFailure):
    """A failure of a skill's own making that says nothing properly."""

    def __init__(self) -> None:
        Exception.__init__(self)

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("error", [Unspeakable(), MuteFailure()])
async def test_an_error_that_cannot_be_shown_is_a_failure(stage: Any, error: Exception) -> None:
    """What a skill or a provider raises is recorded, even where its own text raises."""
    skill = stage.skill("s", stage.returning(error))
    assert {"c1": "internal"} == await stage.run_graph(stage.calls("s"), skill)

    def fail(_: Any) -> Any:
        raise error

    (result,) = await stage.play(stage.engine(fail), stage.request(session_id="other"))
    assert "provider_failure" == result.outcome.stop_reason


async def test_what_the_caller_changes_later_changes_nothing(stage: Any) -> None:
    """A payload that is changed after the advance is what it was in the session's state."""
    payload = {"a": [1]}
    engine = stage.engine([Continue(), Respond("x")])
    await engine.advance(stage.request(trigger=Webhook(source="w", payload=payload)))
    payload["a"].append(2)
    await engine.advance(stage.go_on)
    part = stage.provider.requests[1].messages[0].parts[0]
    assert [1] == part.value["payload"]["a"]


async def test_a_classifier_that_fails_stops_no_trigger(stage: Any) -> None:
    """A trigger whose classifier raises runs all the same, as unclassified."""

    def classify(_: Any) -> str:
        raise RuntimeError("broken")

    engine = stage.engine([Respond("x")], classify=classify)
    await engine.submit(stage.request())
    assert "x" == (await engine.advance(stage.go_on)).outcome.response
    assert ["unclassified"] == [record.intent for record in await stage.records(TriggerIntent)]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a b"},
        {"name": "\0"},
        {"version": ""},
        {"effects": "weird"},
        {"description": "\ud800"},
        {"required_scopes": None},
    ],
)
async def test_a_skill_that_could_not_be_offered_is_not_registered(
    stage: Any, changes: dict[str, Any]
) -> None:
    """A manifest that a model or a ledger could not take is refused at registration."""
    skill = stage.skill("s")
    skill.manifest = attrs.evolve(skill.manifest, **changes)
    with pytest.raises(InvalidSkill):
        stage.engine([], skill)
