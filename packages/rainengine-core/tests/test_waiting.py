"""Runs that wait for an answer: no error anywhere, nobody's lease, and found again by every key."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from rainengine.core import (
    Agent,
    AgentProfile,
    Approval,
    CallSkills,
    Continue,
    EnginePolicy,
    ProcessRequest,
    Respond,
    Suspend,
    run_until_terminal,
)
from rainengine.core.abc import SessionQuery
from rainengine.core.errors import AgentMismatch, RunInProgress, SessionBusy, SessionNotFound
from rainengine.core.projection import PARKED_RUNS
from rainengine.core.records import (
    CancelRequest,
    NewRecord,
    OutcomeRecord,
    PendingApproval,
    Reflection,
    ReviewPolicy,
    SelfImprovementPolicy,
    ToolResultPart,
)

REVIEWER = ("scope:human_approval",)
ASK = Suspend(reason="may I?")


def says(stage: Any, token: str, decision: Any = "approved", key: str | None = None) -> Any:
    """A request that answers to a token."""
    trigger = Approval(resume_token=token, decision=decision, approver="ann")
    return stage.request(key, trigger=trigger, granted_scopes=REVIEWER)


async def token_of(stage: Any, number: int = -1) -> str:
    """The token of one of the waits of the session."""
    return (await stage.records(PendingApproval))[number].resume_token


async def told(stage: Any, request: Any, engine: Any = None) -> tuple[Any, ...]:
    """How a request ends: stop reason, response, and whether it was known before."""
    engine = engine or stage.engine([])
    outcome = (await run_until_terminal(engine, request)).outcome
    return outcome.stop_reason, outcome.response, outcome.idempotent_replay


async def state(stage: Any) -> str:
    """How the session is listed."""
    (info,) = (await stage.ledger.list_sessions(SessionQuery())).sessions
    return info.state


async def free(stage: Any) -> bool:
    """Whether nobody has the session's lease."""
    return (await stage.ledger.lease_of("s")).owner is None


# Waiting.


async def test_a_run_that_waits_has_come_to_its_end_for_now(stage: Any) -> None:
    """It has an outcome with a token; the session is listed as suspended, and nobody's."""
    engine = stage.engine([ASK])
    result = await run_until_terminal(engine, stage.request())
    token = await token_of(stage)
    assert ("suspended", token) == (result.outcome.stop_reason, result.outcome.resume_token)
    assert ("suspended", True) == (await state(stage), await free(stage))


async def test_there_is_nothing_to_continue(stage: Any) -> None:
    """Continued, a session whose run waits is idle and tells what it waits for."""
    engine = stage.engine([ASK])
    await stage.play(engine)
    before = await stage.stored()
    result = await engine.advance(stage.go_on)
    assert (True, "suspended") == (result.idle, result.outcome.stop_reason)
    assert before == await stage.stored()


async def test_messages_run_meanwhile(stage: Any) -> None:
    """Other runs of the session go on; the session is still listed as one that waits."""
    engine = stage.engine([ASK, Respond("other"), Respond("done")])
    await stage.play(engine)
    assert ("responded", "other", False) == await told(stage, stage.request(), engine)
    assert ("suspended", True) == (await state(stage), await free(stage))
    answer = says(stage, await token_of(stage))
    assert ("responded", "done", False) == await told(stage, answer, engine)
    assert ("completed", True) == (await state(stage), await free(stage))


async def test_several_runs_wait(stage: Any) -> None:
    """Each has its own token and is answered by itself, in any order."""
    engine = stage.engine([ASK, ASK, Respond("second"), Respond("first")])
    first, second = [(await stage.play(engine))[-1].trigger_id for _ in range(2)]
    for number, run, response in ((1, second, "second"), (0, first, "first")):
        result = await run_until_terminal(engine, says(stage, await token_of(stage, number)))
        assert (run, response) == (result.outcome.trigger_id, result.response)


async def test_the_conversation_stays_paired(stage: Any) -> None:
    """Whatever else is said meanwhile, every call that a model is shown has its one result."""
    pay = stage.skill("pay", approval_required=True)
    calls = CallSkills([stage.call("pay", "c1"), stage.call("pay", "c2")])
    engine = stage.engine([calls, Respond("no"), Respond("done")], pay)
    await stage.play(engine)
    await stage.play(engine)
    await stage.play(engine, says(stage, await token_of(stage)))
    for request in stage.provider.requests:
        roles = [message.role for message in request.messages]
        parts = [p for m in request.messages for p in m.parts if isinstance(p, ToolResultPart)]
        assert roles.count("tool") in (0, 1)
        assert [] == parts or ["c1", "c2"] == [part.call_id for part in parts]


async def test_a_refused_answer_leaves_everything_as_it_was(stage: Any) -> None:
    """After an answer that does not count the session is listed as before, and nobody's."""
    engine = stage.engine([ASK])
    await stage.play(engine)
    await engine.submit(says(stage, "forged"))
    assert "running" == await state(stage)
    outcome = (await stage.engine([], owner="two").advance(stage.go_on)).outcome
    assert "policy_aborted" == outcome.stop_reason
    assert ("suspended", True) == (await state(stage), await free(stage))
    assert "suspended" == (await engine.advance(stage.go_on)).outcome.stop_reason


# How answers get in.


async def test_an_answer_waits_for_its_turn(stage: Any) -> None:
    """While another run is open an answer is durable and waits, as any trigger does."""
    engine = stage.engine([ASK, Continue(), Respond("other"), Respond("done")])
    await stage.play(engine)
    await engine.advance(stage.request())
    result = await run_until_terminal(engine, says(stage, await token_of(stage)))
    assert ("done", 2) == (result.response, result.advances)
    stopped = [o.response for o in await stage.records(OutcomeRecord)]
    assert [None, "other", "done"] == stopped


async def test_an_answer_is_submitted(stage: Any) -> None:
    """Submitted, an answer is taken in by whoever goes on with the session."""
    await stage.play(stage.engine([ASK]))
    host = stage.engine([], owner="host")
    await host.submit(says(stage, await token_of(stage)))
    assert "running" == await state(stage)
    worker = stage.engine([Respond("done")], owner="worker", ledger=stage.other_handle())
    result = await worker.advance(stage.go_on)
    assert ("done", "completed", True) == (
        result.outcome.response,
        await state(stage),
        await free(stage),
    )


async def test_an_answer_is_submitted_beside_a_step(stage: Any) -> None:
    """It gets in while somebody works on the session, here and in another process."""
    engine = stage.engine([ASK])
    await stage.play(engine)
    slow = stage.skill("slow", stage.taking(5))
    engine = stage.engine([stage.calls("slow"), Respond("x"), Respond("done")], slow)
    answer = says(stage, await token_of(stage))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.advance, stage.request())
        await trio.sleep(1)
        other = stage.engine([], owner="two", ledger=stage.other_handle())
        with pytest.raises(SessionBusy):
            await other.advance(answer)
        await other.submit(answer)
    assert "x" == (await engine.advance(stage.go_on)).outcome.response
    assert "suspended" == (await stage.records(OutcomeRecord))[0].stop_reason
    engine = stage.engine([Respond("done")])
    assert "done" == (await engine.advance(stage.go_on)).outcome.response


async def test_another_message_is_not_taken_for_the_answered_run(stage: Any) -> None:
    """A message behind an answer is told of its own end, not of that of the run that went on."""
    engine = stage.engine([ASK, Respond("done"), Respond("mine")])
    await stage.play(engine)
    await engine.submit(says(stage, await token_of(stage)))
    assert ("responded", "mine", False) == await told(stage, stage.request(), engine)


async def test_whoever_answered_finds_what_others_did_with_it(stage: Any) -> None:
    """Where somebody else took the answer in, it still leads to the run's outcome."""
    engine = stage.engine([ASK, Continue(), Continue()])
    await stage.play(engine)
    await engine.advance(stage.request())
    other = stage.engine([Respond("other"), Respond("done")], owner="two")
    answer, advance = says(stage, await token_of(stage)), engine.advance

    async def once(request: Any) -> Any:
        result = await advance(request)
        engine.advance = advance
        await engine.release("s")
        while not (await other.advance(stage.go_on)).idle:
            pass
        return result

    engine.advance = once
    assert ("responded", "done", True) == await told(stage, answer, engine)


async def test_an_answer_for_another_agent(stage: Any) -> None:
    """The engine of another agent takes no answer, neither stored nor queued."""
    await stage.play(stage.engine([ASK]))
    other = stage.engine([], agent=Agent(name="other"))
    before = await stage.stored()
    for take in (other.advance, other.submit):
        with pytest.raises(AgentMismatch):
            await take(says(stage, await token_of(stage)))
    assert before == await stage.stored()


# Keys.


async def test_the_first_key_tells_of_the_newest_outcome(stage: Any) -> None:
    """Repeated, the request of a run that waits gets `suspended`, and in the end its answer."""
    engine = stage.engine([ASK, Respond("done")])
    await stage.play(engine, stage.request("k"))
    assert ("suspended", None, True) == await told(stage, stage.request("k"), engine)
    await stage.play(engine, says(stage, await token_of(stage)))
    for repeated in (engine, stage.engine([])):
        assert ("responded", "done", True) == await told(stage, stage.request("k"), repeated)


@pytest.mark.parametrize("decision", ["approved", "rejected"])
async def test_the_answers_key(stage: Any, decision: str) -> None:
    """Repeated, an answer gets the newest outcome of the run that it resumed; nothing runs."""
    engine = stage.engine([ASK, Respond("done")])
    await stage.play(engine)
    answer = says(stage, await token_of(stage), decision, "yes")
    first = await run_until_terminal(engine, answer)
    before = await stage.stored()
    for repeated in (engine, stage.engine([])):
        again = await repeated.advance(answer)
        assert (first.outcome.trigger_id, "done", True) == (
            again.trigger_id,
            again.outcome.response,
            again.outcome.idempotent_replay,
        )
        assert ("responded", "done", True) == await told(stage, answer, repeated)
    assert before == await stage.stored()


async def test_a_refused_answers_key(stage: Any) -> None:
    """Repeated, an answer that did not count gets its own error, not the run's outcome."""
    engine = stage.engine([ASK, Respond("done")])
    await stage.play(engine)
    token = await token_of(stage)
    late = says(stage, token, "rejected", "late")
    await engine.submit(says(stage, token))
    await engine.submit(late)
    assert "done" == (await engine.advance(stage.go_on)).outcome.response
    assert ("policy_aborted", None, False) == await told(stage, late, engine)
    assert ("policy_aborted", None, True) == await told(stage, late, engine)


@pytest.mark.parametrize("whose", ["request", "answer"])
async def test_a_resumed_run_that_is_open_is_continued(stage: Any, whose: str) -> None:
    """Repeated while the resumed run is open, either request goes on with it to its end."""
    engine = stage.engine([ASK, Continue()])
    first = stage.request("k")
    await stage.play(engine, first)
    answer = says(stage, await token_of(stage), key="yes")
    await engine.advance(answer)
    engine = stage.engine([Continue(), Respond("done")])
    request = {"request": first, "answer": answer}[whose]
    assert ("responded", "done", False) == await told(stage, request, engine)


@pytest.mark.parametrize("whose", ["request", "answer"])
async def test_a_resumed_run_that_is_worked_on_elsewhere(stage: Any, whose: str) -> None:
    """Repeated while another process works on the resumed run, either request waits for its end."""
    first = stage.request("k")
    await stage.play(stage.engine([ASK]), first)
    answer = says(stage, await token_of(stage), key="yes")
    slow = stage.skill("slow", stage.taking(5))
    engine = stage.engine([stage.calls("slow"), Respond("done")], slow)
    request = {"request": first, "answer": answer}[whose]
    other = stage.engine([], owner="two", ledger=stage.other_handle())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_until_terminal, engine, answer)
        await trio.sleep(1)
        hasty = ProcessRequest(
            session_id="s",
            trigger=request.trigger,
            idempotency_key=request.idempotency_key,
            granted_scopes=request.granted_scopes,
            wait_ms=1_000,
        )
        with pytest.raises(RunInProgress):
            await other.advance(hasty)
        assert ("responded", "done", True) == await told(stage, request, other)


# The end of waiting.


async def test_a_run_that_waits_can_be_cancelled(stage: Any) -> None:
    """It ends as cancelled, under its own key, and its token counts no more."""
    engine = stage.engine([ASK, Respond("x")])
    await stage.play(engine, stage.request("k"))
    assert await engine.cancel("s", "never mind")
    assert "running" == await state(stage)
    result = await engine.advance(stage.go_on)
    assert ("cancelled", "never mind") == (result.outcome.stop_reason, result.outcome.detail)
    assert ("stopped", True) == (await state(stage), await free(stage))
    assert ("cancelled", None, True) == await told(stage, stage.request("k"), engine)
    late = says(stage, await token_of(stage))
    assert ("policy_aborted", None, False) == await told(stage, late, engine)


async def test_all_runs_that_wait_are_cancelled(stage: Any) -> None:
    """Cancelled together they end one an advance, and until then there is something to do."""
    engine = stage.engine([ASK, ASK])
    await stage.play(engine)
    await stage.play(engine)
    assert await engine.cancel("s", "enough")
    other = stage.engine([], owner="two")
    assert "cancelled" == (await other.advance(stage.go_on)).outcome.stop_reason
    assert "running" == await state(stage)
    assert "cancelled" == (await other.advance(stage.go_on)).outcome.stop_reason
    assert ("stopped", True) == (await state(stage), await free(stage))


async def test_an_answer_that_comes_after_the_cancellation(stage: Any) -> None:
    """A cancelled run is not resumed by an answer that is there before it has ended."""
    engine = stage.engine([ASK, Respond("x")])
    await stage.play(engine)
    token = await token_of(stage)
    await engine.cancel("s", "enough")
    await engine.submit(says(stage, token))
    ends = [(await engine.advance(stage.go_on)).outcome.stop_reason for _ in range(2)]
    assert ["cancelled", "policy_aborted"] == ends
    assert 1 == len(stage.provider.requests)


async def test_a_cancellation_that_comes_after_the_answer(stage: Any) -> None:
    """A run that an answer is about to resume is stopped, whichever of the two is named."""
    for named in ("answer", "run"):
        stage.session_id = named
        engine = stage.engine([ASK, Respond("x")])
        run = (await stage.play(engine))[-1].trigger_id
        submitted = await engine.submit(says(stage, await token_of(stage)))
        wanted = submitted.trigger_id if named == "answer" else run
        assert await engine.cancel(named, "enough", trigger_id=wanted)
        ends = [(await engine.advance(stage.go_on)).outcome for _ in range(2)]
        assert {"cancelled", "policy_aborted"} >= {end.stop_reason for end in ends}
        assert (1, "cancelled") == (len(stage.provider.requests), ends[0].stop_reason)


async def test_what_people_are_asked(stage: Any) -> None:
    """A host finds out what can still be answered, in any process, the oldest first."""
    profile = AgentProfile(review=ReviewPolicy(approval_ttl_ms=1_000))
    engine = stage.engine([Respond("x")], profile=profile)
    other = stage.engine([], owner="two", ledger=stage.other_handle())
    with pytest.raises(SessionNotFound):
        await other.pending_approvals("s")
    for _ in range(3):
        stage.clock.jump(100)
        await stage.play(stage.engine([ASK], profile=profile))
    pending = await stage.records(PendingApproval)
    assert tuple(pending) == await other.pending_approvals("s")
    await stage.play(engine, says(stage, pending[1].resume_token))
    stage.clock.jump(800)
    assert (pending[2],) == await other.pending_approvals("s")
    await engine.cancel("s", "enough")
    assert () == await other.pending_approvals("s")


async def test_an_answer_that_is_called_off(stage: Any) -> None:
    """A request to cancel that is for an answer alone leaves the run waiting for another one."""
    engine = stage.engine([ASK, Respond("x")])
    await stage.play(engine)
    answer = says(stage, await token_of(stage))
    submitted = await engine.submit(answer)
    off = CancelRequest(reason="not mine to give", trigger_id=submitted.trigger_id)
    await stage.ledger.append("s", [NewRecord(off, stage.clock.now_ms())], expected=None)
    outcome = (await engine.advance(stage.go_on)).outcome
    assert ("cancelled", "suspended") == (outcome.stop_reason, await state(stage))
    assert ("responded", "x", False) == await told(stage, answer, engine)


async def due(stage: Any) -> list[str]:
    """The sessions in which a wake is due, or a wait over."""
    found = await stage.ledger.due("wake", now_ms=stage.clock.now_ms())
    return [session.session_id for session in found]


async def test_a_wait_that_is_over_is_called_off(stage: Any) -> None:
    """When nobody can answer any more the run ends, as soon as somebody looks what is due."""
    profile = AgentProfile(review=ReviewPolicy(approval_ttl_ms=1_000))
    engine = stage.engine([ASK], profile=profile)
    await stage.play(engine, stage.request("k"))
    stage.clock.jump(999)
    assert ([], ()) == (await due(stage), await engine.fire_wakes("s"))
    stage.clock.jump(1)
    assert ["s"] == await due(stage)
    for _ in range(2):
        assert () == await engine.fire_wakes("s")
    assert ([], "running") == (await due(stage), await state(stage))
    outcome = (await engine.advance(stage.go_on)).outcome
    assert ("cancelled", "nobody answered in time") == (outcome.stop_reason, outcome.detail)
    assert ("stopped", []) == (await state(stage), await due(stage))


async def test_an_answer_that_was_stored_in_time(stage: Any) -> None:
    """It counts however late it is taken in, and its run is not called off before that."""
    profile = AgentProfile(review=ReviewPolicy(approval_ttl_ms=1_000))
    engine = stage.engine([ASK, Respond("x")], profile=profile)
    await stage.play(engine)
    stage.clock.jump(999)
    await engine.submit(says(stage, await token_of(stage)))
    stage.clock.jump(9_000)
    assert () == await engine.fire_wakes("s")
    assert "x" == (await stage.play(engine, stage.go_on))[-1].outcome.response


@pytest.mark.parametrize("late", [False, True])
async def test_an_answer_that_does_not_count_holds_nothing_up(stage: Any, *, late: bool) -> None:
    """A run whose time is over ends once the answers that wait for their turn are refused."""
    profile = AgentProfile(review=ReviewPolicy(approval_ttl_ms=1_000))
    engine = stage.engine([ASK], profile=profile)
    await stage.play(engine)
    trigger = Approval(resume_token=await token_of(stage), decision="approved")
    stage.clock.jump(1_000 if late else 0)
    await engine.submit(stage.request(trigger=trigger))
    stage.clock.jump(9_000)
    assert () == await stage.engine([], profile=profile).pending_approvals("s")
    ends = [(await engine.advance(stage.go_on)).outcome for _ in range(2)]
    assert ["policy_aborted", "cancelled"] == [end.stop_reason for end in ends]
    assert late == (ends[0].detail == "it has expired")


async def test_waits_that_are_over_end_without_a_worker(stage: Any) -> None:
    """Whoever advances a session ends them first, so that there is room to wait again."""
    profile = AgentProfile(review=ReviewPolicy(approval_ttl_ms=1_000))
    engine = stage.engine(lambda _: ASK, profile=profile)
    for _ in range(PARKED_RUNS):
        await stage.play(engine)
    stage.clock.jump(1_000)
    assert ("suspended", None, False) == await told(stage, stage.request("k"), engine)
    ends = [o for o in await stage.records(OutcomeRecord) if o.stop_reason == "cancelled"]
    assert [(PARKED_RUNS, "nobody answered in time")] == [
        (len(ends), detail) for detail in {end.detail for end in ends}
    ]
    stage.clock.jump(1_000)
    result = await engine.advance(stage.go_on)
    assert ("cancelled", False) == (result.outcome.stop_reason, result.idle)
    assert (await engine.advance(stage.go_on)).idle


async def test_what_is_due_next(stage: Any) -> None:
    """The session's row tells the first of its wakes and of its waits, as they come and go."""
    now_ms, profile = stage.clock.now_ms(), AgentProfile(review=ReviewPolicy(approval_ttl_ms=1_000))
    engine = stage.engine([ASK, ASK, Respond("x")], profile=profile)

    async def next_ms() -> int | None:
        row = stage.ledger._shared.sessions["s"].index
        return row.wake_due_at_ms and row.wake_due_at_ms - now_ms

    await stage.play(engine)
    assert 1_000 == await next_ms()
    await engine.schedule_wake("s", due_at_ms=now_ms + 700, reason="r", wake_id="w")
    assert 700 == await next_ms()
    stage.clock.jump(500)
    await stage.play(engine)
    await engine.schedule_wake("s", due_at_ms=now_ms + 9_000, reason="r", wake_id="w")
    assert 1_000 == await next_ms()
    await stage.play(engine, says(stage, await token_of(stage, 0)))
    assert 1_500 == await next_ms()
    stage.clock.jump(1_000)
    await engine.fire_wakes("s")
    assert 9_000 == await next_ms()
    await engine.advance(stage.go_on)
    assert 9_000 == await next_ms()


async def test_how_long_it_took(stage: Any) -> None:
    """The time that a run waited is not told as time that it took, however it ended."""
    policy = EnginePolicy(self_improvement=SelfImprovementPolicy(reflection_interval_records=1))
    slow = stage.skill("slow", stage.taking(1))
    engine = stage.engine([stage.calls("slow"), ASK, ASK, Respond("x")], slow, policy=policy)
    await stage.play(engine)
    stage.clock.jump(10_000)
    await engine.cancel("s", "enough")
    await engine.advance(stage.go_on)
    await stage.play(engine)
    stage.clock.jump(10_000)
    await stage.play(engine, says(stage, await token_of(stage)))
    assert [1_000, 0] == [r.duration_ms for r in await stage.records(Reflection)]
