"""Messages and cancellations that reach a session while somebody works on it."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from rainengine.core import (
    Continue,
    ContinueRequest,
    InMemoryLedger,
    Respond,
    ScheduledWake,
    verify_session,
)
from rainengine.core.engine import AgentEngine
from rainengine.core.errors import SessionNotFound
from rainengine.core.records import (
    CancelRequest,
    ModelDecision,
    NewRecord,
    OutcomeRecord,
    TriggerIntent,
)
from rainengine.core.testing import FaultyLedger, IntakeBefore


def meanwhile(stage: Any, deed: Any, answer: Any = None) -> Any:
    """A model during whose first call something is done."""
    asked: list[Any] = []

    async def decide(request: Any) -> Any:
        asked.append(request)
        if len(asked) == 1:
            await deed()
            return answer or Respond("first")
        return Respond(f"answer {len(asked)}")

    return decide


async def test_a_submitted_trigger_is_stored_and_waits(stage: Any) -> None:
    """`submit` stores the trigger alone and takes no step."""
    engine = stage.engine([])
    submitted = await engine.submit(stage.request("k"))
    assert (submitted.sequence, submitted.duplicate) == (1, False)
    assert await stage.kinds() == ["trigger"]
    assert (await stage.ledger.lease_of("s")).owner is None


async def test_a_submitted_trigger_is_due_to_workers(stage: Any) -> None:
    """A session with nothing but a submitted trigger is a run to be taken up, by its agent."""
    engine = stage.engine([])
    await engine.submit(stage.request("k"))
    (due,) = await stage.ledger.due("run")
    assert (due.session_id, due.agent) == ("s", engine.agent.name)


async def test_a_trigger_is_submitted_once(stage: Any) -> None:
    """The same key again tells of the first trigger and stores nothing."""
    engine = stage.engine([])
    first = await engine.submit(stage.request("k"))
    again = await engine.submit(stage.request("k"))
    assert (again.trigger_id, again.sequence, again.duplicate) == (first.trigger_id, 1, True)
    assert await stage.kinds() == ["trigger"]


async def test_a_message_beside_a_step_loses_nothing(stage: Any) -> None:
    """The holder takes in what came meanwhile and appends its decision behind it."""
    other = stage.engine([], owner="two", ledger=stage.other_handle())
    engine = stage.engine(meanwhile(stage, lambda: other.submit(stage.request("b", text="more"))))
    first = await engine.advance(stage.request("a"))
    second = await engine.advance(stage.go_on)
    assert (first.outcome.response, second.outcome.response) == ("first", "answer 2")
    assert len(stage.provider.requests) == 2
    assert (await stage.kinds())[:5] == [
        *("trigger", "trigger_intent", "kernel_event"),
        *("trigger", "model_decision"),
    ]


async def test_the_lease_is_kept_for_what_waits(stage: Any) -> None:
    """A run that ends while another trigger waits does not free the session."""
    engine = stage.engine(meanwhile(stage, lambda: engine.submit(stage.request("b"))))
    await engine.advance(stage.request("a"))
    assert (await stage.ledger.lease_of("s")).owner == "one"
    await engine.advance(stage.go_on)
    assert (await stage.ledger.lease_of("s")).owner is None


async def test_a_tool_result_is_never_dropped(stage: Any) -> None:
    """Intake during tool calls, at every append of the run, costs no result and no second call."""
    for number in range(1, 8):
        session = f"s{number}"
        stage.session_id = session
        skill = stage.skill("pay", effects="unsafe")
        intake = IntakeBefore([NewRecord(CancelRequest(reason="x", trigger_id="nobody"), 0)])
        ledger = FaultyLedger(InMemoryLedger(stage.clock, backing=stage.ledger), {number: intake})
        engine = stage.engine([stage.calls("pay", "pay"), Respond("x")], skill, ledger=ledger)
        assert (await stage.play(engine))[-1].outcome.response == "x"
        assert (len(skill.invocations), len(stage.provider.requests)) == (2, 2)


async def test_queued_triggers_run_in_order(stage: Any) -> None:
    """Triggers that wait become active one after another, as they came."""
    engine = stage.engine(lambda request: Respond(request.trigger.content))
    for text in ("a", "b", "c"):
        await engine.submit(stage.request(text=text))
    results = [await engine.advance(stage.go_on) for _ in range(3)]
    assert [("a", 2), ("b", 1), ("c", 0)] == [(r.outcome.response, r.waiting) for r in results]
    assert (await engine.advance(stage.go_on)).idle


async def test_a_request_waits_behind_an_open_run(stage: Any) -> None:
    """A request during an open run is stored behind it; its advance works on the open run."""
    engine = stage.engine([Continue(), Respond("first"), Respond("second")])
    opened = await engine.advance(stage.request("a"))
    queued = await engine.advance(stage.request("b"))
    assert (queued.outcome.trigger_id, queued.outcome.response) == (opened.trigger_id, "first")
    assert (await engine.advance(stage.request("b"))).outcome.response == "second"


async def test_derived_events_come_with_the_activation(stage: Any) -> None:
    """What follows from a queued trigger is appended when it becomes active, not before."""
    engine = stage.engine([Respond("x")])
    await engine.submit(stage.request(trigger=ScheduledWake(wake_id="w", due_at_ms=1, reason="r")))
    assert await stage.kinds() == ["trigger"]
    result = await engine.advance(stage.go_on)
    assert [type(event).__name__ for event in result.emitted_events] == ["WakeCompleted"]
    assert (await stage.kinds())[:3] == ["trigger", "trigger_intent", "kernel_event"]


async def test_a_queued_triggers_records_name_it(stage: Any) -> None:
    """Each run's records carry its own trigger's id and its outcome carries its key."""
    engine = stage.engine([Respond("a"), Respond("b")])
    ids = [(await engine.submit(stage.request(key))).trigger_id for key in ("k1", "k2")]
    for _ in ids:
        await engine.advance(stage.go_on)
    ended = [r for r in await stage.stored() if isinstance(r.record, OutcomeRecord)]
    assert [(r.trigger_id, r.idempotency_key) for r in ended] == list(
        zip(ids, ("k1", "k2"), strict=True)
    )
    intents = [r for r in await stage.stored() if isinstance(r.record, TriggerIntent)]
    assert [r.trigger_id for r in intents] == ids


async def test_a_waiting_key_is_asked_for_again(stage: Any) -> None:
    """The key of a trigger that waits moves the session until that trigger has its outcome."""
    engine = stage.engine([Respond("a"), Respond("b")])
    await engine.submit(stage.request("k1"))
    await engine.submit(stage.request("k2"))
    first = await engine.advance(stage.request("k2"))
    second = await engine.advance(stage.request("k2"))
    assert (first.outcome.response, second.outcome.response) == ("a", "b")
    assert (second.outcome.trigger_id, second.trigger_id) == (second.trigger_id,) * 2


# Cancelling.


@pytest.mark.parametrize("who", ["holder", "other"])
async def test_a_cancel_during_a_step_ends_the_run_after_it(stage: Any, who: str) -> None:
    """The decision that was under way is stored; the next advance ends the run."""
    engines: dict[str, AgentEngine] = {}

    async def cancel() -> None:
        await engines[who].cancel("s", "enough")

    engines["other"] = stage.engine([], owner="two", ledger=stage.other_handle())
    engines["holder"] = stage.engine(meanwhile(stage, cancel, Continue()))
    first = await engines["holder"].advance(stage.request())
    second = await engines["holder"].advance(stage.go_on)
    assert first.outcome is None
    assert (second.outcome.stop_reason, second.outcome.detail) == ("cancelled", "enough")
    assert len(await stage.records(ModelDecision)) == 1


async def test_a_cancel_between_steps_ends_the_run_at_once(stage: Any) -> None:
    """After a cancel the next advance asks no model."""
    engine = stage.engine([Continue(), Respond("never")])
    await engine.advance(stage.request())
    await engine.cancel("s", "enough")
    result = await engine.advance(stage.go_on)
    assert (result.outcome.stop_reason, len(stage.provider.requests)) == ("cancelled", 1)


async def test_a_holder_that_paused_looks_for_a_cancel_first(stage: Any) -> None:
    """After a pause, a cancel from another process ends the run before the model is asked."""
    engine = stage.engine([Continue(), Respond("never")])
    await engine.advance(stage.request())
    asked = stage.provider
    await stage.engine([], ledger=stage.other_handle()).cancel("s", "enough")
    await trio.sleep(15)
    result = await engine.advance(stage.go_on)
    assert (result.outcome.stop_reason, len(asked.requests)) == ("cancelled", 1)


async def interrupted(stage: Any, engine: AgentEngine, deed: Any) -> None:
    """Somebody does something during a long step, whose caller gives up after the next beat."""

    async def later() -> None:
        await trio.sleep(3)
        await deed()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(later)
        await stage.interrupt(engine, after=5)


async def test_a_beat_tells_of_a_cancel_before_anything_is_begun(stage: Any) -> None:
    """What a heartbeat saw is taken in first: no model is asked and no call is made for nothing."""
    skill = stage.skill("slow", stage.taking(9), timeout_ms=10_000)
    other = stage.engine([], owner="two", ledger=stage.other_handle())
    engine = stage.engine([stage.calls("slow")], skill, lease_ttl_ms=6_000)
    await interrupted(stage, engine, lambda: other.cancel("s", "enough"))
    result = await engine.advance(stage.go_on)
    while result.outcome is None:
        result = await engine.advance(stage.go_on)
    assert (result.outcome.stop_reason, result.outcome.detail) == ("cancelled", "enough")
    assert len(stage.provider.requests) == 1
    assert len(skill.invocations) == 1


async def test_a_beat_tells_of_a_cancel_while_the_model_is_asked(stage: Any) -> None:
    """A cancel by another process lets go of the model with the holder's next heartbeat."""
    other = stage.engine([], owner="two", ledger=stage.other_handle())

    async def decide(_: Any) -> Any:
        await trio.sleep(3)
        await other.cancel("s", "enough")
        await trio.sleep_forever()

    began = stage.clock.now_ms()
    result = await stage.engine(decide, lease_ttl_ms=6_000).advance(stage.request())
    assert (result.outcome.stop_reason, result.outcome.detail) == ("cancelled", "enough")
    assert stage.clock.now_ms() - began == 4_000


async def test_a_cancel_in_the_same_process_lets_go_of_the_model_at_once(stage: Any) -> None:
    """The step that waits for the model ends without a decision when its run is cancelled."""

    async def decide(_: Any) -> Any:
        assert await engine.cancel("s", "enough")
        await trio.sleep_forever()

    engine = stage.engine(decide)
    began = stage.clock.now_ms()
    result = await engine.advance(stage.request())
    assert (result.outcome.stop_reason, result.outcome.detail) == ("cancelled", "enough")
    assert stage.clock.now_ms() == began
    assert await stage.records(ModelDecision) == []


async def test_a_beat_tells_of_a_message_before_the_next_append(stage: Any) -> None:
    """What was submitted beside a long step costs the holder no conflict once a beat saw it."""
    asked: list[Any] = []

    async def decide(request: Any) -> Any:
        asked.append(request)
        await trio.sleep(9 if len(asked) == 1 else 0)
        return Respond(request.trigger.content)

    other = stage.engine([], owner="two", ledger=stage.other_handle())
    ledger = FaultyLedger(stage.other_handle())
    engine = stage.engine(decide, ledger=ledger, lease_ttl_ms=6_000)
    await interrupted(stage, engine, lambda: other.submit(stage.request(text="more")))
    appends = ledger.appends
    assert (await engine.advance(stage.go_on)).outcome.response == "hello"
    assert ledger.appends == appends + 1
    assert (await engine.advance(stage.go_on)).outcome.response == "more"


async def test_a_cancelled_graph_starts_no_further_call(stage: Any) -> None:
    """Calls that wait for their turn when the holder learns of the cancel never start."""
    engine: Any = None

    async def behave(_: Any) -> None:
        await engine.cancel("s", "enough")

    skill = stage.skill("s", behave, effects="unsafe")
    calls = type(stage.calls("s"))([stage.call("s", "a"), stage.call("s", "b", depends_on=("a",))])
    engine = stage.engine([calls], skill)
    results = await stage.play(engine)
    assert results[-1].outcome.stop_reason == "cancelled"
    assert len(skill.invocations) == 1
    assert (await stage.results())["a"] is None


async def test_a_cancel_of_one_run_leaves_the_others(stage: Any) -> None:
    """A cancel that names a waiting trigger ends that one only, when its turn comes."""
    engine = stage.engine([Respond("a"), Respond("c")])
    ids = [(await engine.submit(stage.request(text=t))).trigger_id for t in "abc"]
    await engine.cancel("s", "not this", trigger_id=ids[1])
    reasons = [(await engine.advance(stage.go_on)).outcome.stop_reason for _ in ids]
    assert reasons == ["responded", "cancelled", "responded"]


async def test_a_cancel_after_the_end_does_nothing(stage: Any) -> None:
    """A cancel of a session without a run does not reach the next run."""
    engine = stage.engine([Respond("a"), Respond("b")])
    await engine.advance(stage.request())
    await engine.cancel("s", "late")
    assert (await engine.advance(stage.request())).outcome.response == "b"


async def test_what_is_not_there_cannot_be_cancelled_or_continued(stage: Any) -> None:
    """A session without records is `SessionNotFound`, and nothing is stored for it."""
    engine = stage.engine([])
    with pytest.raises(SessionNotFound):
        await engine.cancel("s", "x")
    with pytest.raises(SessionNotFound):
        await engine.advance(ContinueRequest(session_id="s"))
    assert await stage.stored() == []


async def test_a_storm_of_intake_does_not_starve_the_holder(stage: Any) -> None:
    """However fast others submit, the holder's steps get through, and the session is right."""
    skill = stage.skill("pay", effects="unsafe")
    engine = stage.engine([stage.calls("pay", "pay"), Respond("done")], skill)
    other = stage.engine([], ledger=stage.other_handle(), owner="two")
    done = trio.Event()

    async def storm() -> None:
        while not done.is_set():
            await other.submit(stage.request(text="more"))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(storm)
            results = await stage.play(engine)
            done.set()
    assert "done" == results[-1].outcome.response
    assert 2 == len(skill.invocations)
    assert (await verify_session(stage.ledger, "s")).ok
    session = engine._turns.sessions._sessions["s"]
    assert await session.refresh()
    assert await stage.replayed() == session.projection
