"""Doubts that are put to people: settled together, and nothing else starts before."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from rainengine.core import (
    Approval,
    CallSkills,
    DoubtResolution,
    DoubtVerdict,
    EnginePolicy,
    Respond,
    RetryPolicy,
)
from rainengine.core.abc import NotStarted, Settled, Undetermined
from rainengine.core.codec import encode_value
from rainengine.core.errors import EffectNotApplied
from rainengine.core.records import (
    ApprovalResolution,
    PendingApproval,
    ToolNodeCheckpoint,
    ToolResult,
)
from rainengine.core.testing import CrashingLedger, SimulatedCrash
from rainengine.core.tools._calls import MAX_RESUMED_ATTEMPTS

REVIEWER = ("scope:human_approval",)
ASKING = EnginePolicy(on_doubt="suspend")
LOST = ConnectionError("the answer was lost")


def lossy(stage: Any, name: str = "send", *values: Any, **options: Any) -> Any:
    """An unsafe skill whose first answer is lost."""
    behave = stage.returning(*(values or (LOST, "sent")))
    return stage.skill(name, behave, effects="unsafe", **options)


def settles(stage: Any, token: str, **verdicts: Any) -> Any:
    """A request that settles doubts: by call id a verdict, or the value of what happened."""
    told = tuple(
        DoubtVerdict(call_id=call_id, verdict=verdict)
        if verdict in ("did_not_happen", "give_up")
        else DoubtVerdict(call_id=call_id, verdict="happened", value=verdict)
        for call_id, verdict in verdicts.items()
    )
    trigger = DoubtResolution(resume_token=token, verdicts=told, approver="ann")
    return stage.request(trigger=trigger, granted_scopes=REVIEWER)


async def asked(stage: Any, engine: Any, request: Any = None) -> PendingApproval:
    """Run until people are asked; return what."""
    outcome = (await stage.play(engine, request))[-1].outcome
    assert "suspended" == outcome.stop_reason
    pending: PendingApproval = (await stage.records(PendingApproval))[-1]
    assert outcome.resume_token == pending.resume_token
    return pending


async def test_doubts_are_put_to_a_person_together(stage: Any) -> None:
    """One suspension lists every call in doubt; the run waits for them all."""
    one, other = lossy(stage, "one"), lossy(stage, "other")
    engine = stage.engine([stage.calls("one", "other")], one, other, policy=ASKING)
    pending = await asked(stage, engine)
    assert (("c1", "c2"), 1) == (pending.doubts, pending.step)
    assert "it is not known whether these calls have happened: one (c1), other (c2)" == (
        pending.reason
    )
    assert {} == await stage.results()
    assert "in_doubt" == (await stage.statuses("c2"))[-1]


async def test_nothing_else_starts_meanwhile(stage: Any) -> None:
    """Calls that run are left to end; those that wait for their turn or for others start later."""
    slow, pure = stage.skill("slow", stage.taking(4)), stage.skill("pure")
    send = lossy(stage)
    calls = CallSkills(
        [
            stage.call("send", "c1"),
            stage.call("slow", "c2"),
            stage.call("pure", "c3"),
            stage.call("pure", "c4", depends_on=("c1",)),
        ]
    )
    policy = EnginePolicy(on_doubt="suspend", max_parallel_skill_calls=2)
    engine = stage.engine([calls, Respond("x")], send, slow, pure, policy=policy)
    pending = await asked(stage, engine)
    assert ({"c2": "done"}, []) == (await stage.results(), pure.invocations)
    await stage.play(engine, settles(stage, pending.resume_token, c1="sent before"))
    assert {"c1": "sent before", "c2": "done", "c3": "done", "c4": "done"} == await stage.results()
    assert ["c3", "c4"] == sorted(invocation.call_id for invocation in pure.invocations)


async def test_what_happened_counts_as_done(stage: Any) -> None:
    """The value that the person gives is the call's result, which the model sees."""
    send = lossy(stage)
    engine = stage.engine([stage.calls("send"), Respond("x")], send, policy=ASKING)
    pending = await asked(stage, engine)
    await stage.play(engine, settles(stage, pending.resume_token, c1={"id": 7}))
    assert (1, {"c1": {"id": 7}}) == (len(send.invocations), await stage.results())
    assert '{"id":7}' in encode_value(stage.provider.requests[-1].messages).decode()
    (resolution,) = await stage.records(ApprovalResolution)
    verdict = DoubtVerdict(call_id="c1", verdict="happened", value={"id": 7})
    assert ("answered", "ann", (verdict,)) == (
        resolution.decision,
        resolution.approver,
        resolution.verdicts,
    )


async def test_what_did_not_happen_is_made_again(stage: Any) -> None:
    """It runs once more under the same key, and its start is stored with the answer."""
    send = lossy(stage)
    engine = stage.engine([stage.calls("send"), Respond("x")], send, policy=ASKING)
    pending = await asked(stage, engine)
    await stage.play(engine, settles(stage, pending.resume_token, c1="did_not_happen"))
    assert ([1, 2], {"c1": "sent"}) == (
        [invocation.attempt for invocation in send.invocations],
        await stage.results(),
    )
    assert 1 == len({invocation.idempotency_key for invocation in send.invocations})
    assert ["started", "succeeded"] == (await stage.statuses())[-2:]


async def test_what_nobody_knows_stays_unknown(stage: Any) -> None:
    """Given up, a call has the outcome `unknown_outcome`, and what needs it is skipped."""
    send, pure = lossy(stage), stage.skill("pure")
    calls = CallSkills([stage.call("send"), stage.call("pure", "c2", depends_on=("c1",))])
    engine = stage.engine([calls, Respond("x")], send, pure, policy=ASKING)
    pending = await asked(stage, engine)
    *_, last = await stage.play(engine, settles(stage, pending.resume_token, c1="give_up"))
    assert {"c1": "unknown_outcome", "c2": "cancelled"} == await stage.results()
    assert ("x", 1) == (last.outcome.response, len(send.invocations))


async def test_each_call_has_its_own_verdict(stage: Any) -> None:
    """Calls settled together may have come to different ends."""
    skills = [lossy(stage, name) for name in "abc"]
    engine = stage.engine([stage.calls(*"abc"), Respond("x")], *skills, policy=ASKING)
    pending = await asked(stage, engine)
    verdicts = {"c1": "done", "c2": "did_not_happen", "c3": "give_up"}
    await stage.play(engine, settles(stage, pending.resume_token, **verdicts))
    assert {"c1": "done", "c2": "sent", "c3": "unknown_outcome"} == await stage.results()
    assert [1, 2, 1] == [len(skill.invocations) for skill in skills]


async def test_a_call_that_is_in_doubt_again(stage: Any) -> None:
    """A person is asked again, until the call has been made so often that it never will be."""
    send = lossy(stage, "send", LOST)
    engine = stage.engine([stage.calls("send"), Respond("x")], send, policy=ASKING)
    pending = await asked(stage, engine)
    for _ in range(MAX_RESUMED_ATTEMPTS - 1):
        answer = settles(stage, pending.resume_token, c1="did_not_happen")
        again = await asked(stage, engine, answer)
        assert again.resume_token != pending.resume_token
        pending = again
    await stage.play(engine, settles(stage, pending.resume_token, c1="did_not_happen"))
    assert (MAX_RESUMED_ATTEMPTS, {"c1": "trap"}) == (
        len(send.invocations),
        await stage.results(),
    )


@pytest.mark.parametrize(
    "verdicts",
    [{}, {"c1": "x"}, {"c1": "x", "c2": "x", "c3": "x"}, {"c1": "x", "c9": "x"}],
    ids=["none", "too few", "too many", "others"],
)
async def test_every_doubt_needs_its_verdict(stage: Any, verdicts: dict[str, Any]) -> None:
    """An answer that leaves a doubt open, or settles another, does not count."""
    skills = [lossy(stage, name) for name in "ab"]
    engine = stage.engine([stage.calls(*"ab"), Respond("x")], *skills, policy=ASKING)
    pending = await asked(stage, engine)
    (result,) = await stage.play(engine, settles(stage, pending.resume_token, **verdicts))
    assert "there has to be one verdict on each of: c1, c2" == result.outcome.detail
    await stage.play(engine, settles(stage, pending.resume_token, c1="x", c2="y"))
    assert {"c1": "x", "c2": "y"} == await stage.results()


async def test_an_approval_settles_no_doubt(stage: Any) -> None:
    """To approve of a call says nothing about whether it happened."""
    send = lossy(stage)
    engine = stage.engine([stage.calls("send"), Respond("x")], send, policy=ASKING)
    pending = await asked(stage, engine)
    approval = Approval(resume_token=pending.resume_token, decision="approved")
    (result,) = await stage.play(engine, stage.request(trigger=approval, granted_scopes=REVIEWER))
    assert "the run waits for another kind of answer: a DoubtResolution" == result.outcome.detail
    assert 1 == len(send.invocations)


async def test_what_was_not_applied_is_no_doubt(stage: Any) -> None:
    """Nobody is asked about a call that says that nothing happened."""
    retry = RetryPolicy(max_attempts=2, initial_interval_ms=0)
    send = lossy(stage, "send", EffectNotApplied("busy"), "sent", retry=retry)
    assert {"c1": "sent"} == await stage.run_graph(stage.calls("send"), send, policy=ASKING)
    assert [] == await stage.records(PendingApproval)


@pytest.mark.parametrize(
    ("answer", "result"),
    [(Settled("sent before"), "sent before"), (NotStarted(), "sent"), (Undetermined(), None)],
    ids=repr,
)
@pytest.mark.parametrize("end", ["raised", "crashed"])
async def test_a_reconciler_is_asked_first(stage: Any, answer: Any, result: Any, end: str) -> None:
    """People are asked only what the skill itself cannot find out."""
    retry = RetryPolicy(max_attempts=2, initial_interval_ms=0)
    send = lossy(stage, answer=answer, retry=retry)
    if end == "crashed":
        send.behave = stage.taking(4, "sent")
    engine = stage.engine([stage.calls("send"), Respond("x")], send, policy=ASKING)
    request = None
    if end == "crashed":
        await stage.interrupt(engine)
        engine = stage.engine([Respond("x")], send, policy=ASKING, ledger=stage.other_handle())
        request = stage.go_on
    await stage.play(engine, request)
    assert ({} if result is None else {"c1": result}) == await stage.results()
    assert (result is None) == bool(await stage.records(PendingApproval))


# Crashes.


async def test_what_a_crash_left_in_doubt(stage: Any) -> None:
    """Interrupted calls that may run again do so once the person has settled the others."""
    pure, keyed = stage.skill("pure", stage.taking(4)), stage.skill("keyed", stage.taking(4))
    send = stage.skill("send", stage.taking(4, "sent"), effects="unsafe")
    calls = CallSkills(
        [
            stage.call("send"),
            stage.call("pure", "c2"),
            stage.call("keyed", "c3"),
            stage.call("pure", "c4", depends_on=("c2",)),
        ]
    )
    await stage.interrupt(stage.engine([calls], send, pure, keyed, policy=ASKING))
    engine = stage.engine([Respond("x")], send, pure, keyed, ledger=stage.other_handle())
    pending = await asked(stage, engine, stage.go_on)
    assert (("c1",), 1) == (pending.doubts, len(pure.invocations))
    await stage.play(engine, settles(stage, pending.resume_token, c1="did_not_happen"))
    assert {"c1": "sent", "c2": "done", "c3": "done", "c4": "done"} == await stage.results()
    assert [1, 2] == [invocation.attempt for invocation in send.invocations]


@pytest.mark.parametrize("verdict", ["sent before", "did_not_happen", "give_up"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", range(1, 9))
async def test_crashes_around_a_doubt(stage: Any, verdict: str, when: Any, at: int) -> None:
    """Wherever the process dies, the doubt is settled as told, and nobody's word is lost.

    A call that was made again, and died of it, is in doubt again; then it is given up.
    """
    send, pure = lossy(stage), stage.skill("pure")
    calls = CallSkills([stage.call("send"), stage.call("pure", "c2", depends_on=("c1",))])

    def process(ledger: Any) -> Any:
        return stage.engine(
            lambda request: calls if request.context.step == 1 else Respond("x"),
            *(send, pure),
            policy=ASKING,
            ledger=ledger,
        )

    async def live(engine: Any) -> None:
        await stage.play(engine, stage.request("k"))
        while True:
            answered = len(await stage.records(ApprovalResolution))
            asked = await stage.records(PendingApproval)
            if answered == len(asked):
                break
            told = "give_up" if answered else verdict
            await stage.play(engine, settles(stage, asked[answered].resume_token, c1=told))
        while not (await engine.advance(stage.go_on)).idle:
            pass

    dying = CrashingLedger(stage.other_handle(), at, when)
    try:
        await live(process(dying))
    except SimulatedCrash:
        await live(process(stage.other_handle()))
    results = await stage.results()
    dead = dying.crashed and verdict == "did_not_happen"
    expected = {
        "sent before": {"c1": "sent before", "c2": "done"},
        "did_not_happen": {"c1": "sent", "c2": "done"},
        "give_up": {"c1": "unknown_outcome", "c2": "cancelled"},
    }
    assert results == expected[verdict] or (dead and results == expected["give_up"])
    outcome = await stage.ledger.find_outcome("s", "k")
    assert ("x", True) == (outcome.response, len(send.invocations) <= 2)


# Runs that end.


async def test_a_cancelled_run_asks_nobody(stage: Any) -> None:
    """A run that is stopped while its calls run is over: what is in doubt is told as such."""
    slow, send = stage.skill("slow", stage.taking(4)), lossy(stage)
    engine = stage.engine([stage.calls("send", "slow"), Respond("x")], send, slow, policy=ASKING)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.advance, stage.request())
        await trio.sleep(1)
        await engine.cancel("s", "enough")
    outcome = (await engine.advance(stage.go_on)).outcome
    assert ("cancelled", ["c1"], []) == (
        outcome.stop_reason,
        [call.call_id for call in outcome.in_doubt],
        await stage.records(PendingApproval),
    )
    assert {"c1": "unknown_outcome"}.items() <= (await stage.results()).items()


async def test_a_run_whose_time_is_over_asks_nobody(stage: Any) -> None:
    """A person's word would come too late for a run that may take no longer."""
    policy = EnginePolicy(on_doubt="suspend", max_execution_time_ms=1_000)
    slow, send = stage.skill("slow", stage.taking(4)), lossy(stage)
    engine = stage.engine([stage.calls("send", "slow")], send, slow, policy=policy)
    outcome = (await stage.play(engine))[-1].outcome
    assert ("deadline_exceeded", []) == (outcome.stop_reason, await stage.records(PendingApproval))
    assert ["c1"] == [call.call_id for call in outcome.in_doubt]


async def test_cancelled_while_a_person_is_asked(stage: Any) -> None:
    """The run ends with its doubts told, in its outcome and in the conversation."""
    send, pure = lossy(stage), stage.skill("pure")
    calls = CallSkills([stage.call("send"), stage.call("pure", "c2", depends_on=("c1",))])
    engine = stage.engine([calls, Respond("x")], send, pure, policy=ASKING)
    await asked(stage, engine)
    await engine.cancel("s", "enough")
    outcome = (await engine.advance(stage.go_on)).outcome
    assert ("cancelled", ["c1"]) == (outcome.stop_reason, [c.call_id for c in outcome.in_doubt])
    assert {"c1": "unknown_outcome", "c2": "cancelled"} == await stage.results()
    await stage.play(engine)
    told = encode_value(stage.provider.requests[-1].messages).decode()
    assert ("may have happened: enough" in told, "there is no result" in told) == (True, False)


@attrs.define(eq=False)
class Inquiring:
    """A skill that takes its time to find out what became of a call."""

    plain: Any
    answer: Any
    native: bool = True

    @property
    def manifest(self) -> Any:
        return self.plain.manifest

    async def invoke(self, invocation: Any) -> object:
        return await self.plain.invoke(invocation)

    async def reconcile(self, invocation: Any) -> Any:
        await trio.sleep(1)
        return self.answer


ENDS = ("cancelled while it waits", "cancelled after a crash", "out of time after a crash")


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (Settled("sent"), "sent"),
        (NotStarted(), "cancelled"),
        (Undetermined(), "unknown_outcome"),
    ],
    ids=repr,
)
async def test_a_run_that_ends_finds_out_first(
    stage: Any, end: str, answer: Any, result: Any
) -> None:
    """Before a run with interrupted calls ends, skills that can tell are asked, and believed.

    They have their own time for that, even where that of the run is over.
    """
    plain = stage.skill("send", stage.taking(4), effects="unsafe")
    policy = EnginePolicy(on_doubt="suspend", max_execution_time_ms=60_000)
    engine = stage.engine([stage.calls("send")], plain, policy=policy)
    if end == "cancelled while it waits":
        plain.behave = stage.returning(LOST)
        await asked(stage, engine)
    else:
        await stage.interrupt(engine)
    send = Inquiring(plain, answer)
    if end.startswith("cancelled"):
        await engine.cancel("s", "enough")
    else:
        stage.clock.jump(60_000)
    outcome = (await stage.engine([], send).advance(stage.go_on)).outcome
    assert (result, 1) == ((await stage.results())["c1"], len(plain.invocations))
    assert (result == "unknown_outcome") == bool(outcome.in_doubt)
    assert (result == "sent") == bool(outcome.done)
    stops = "cancelled" if end.startswith("cancelled") else "deadline_exceeded"
    assert stops == outcome.stop_reason


async def test_no_room_to_ask(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many runs waiting, the model is told of the doubt instead."""
    monkeypatch.setattr("rainengine.core.engine._services.PARKED_RUNS", 0)
    send = lossy(stage)
    assert {"c1": "unknown_outcome"} == await stage.run_graph(
        stage.calls("send"), send, policy=ASKING
    )


async def test_checkpoints_tell_each_doubt(stage: Any) -> None:
    """A call in doubt is recorded as such, with why, before anybody is asked."""
    send = lossy(stage)
    await asked(stage, stage.engine([stage.calls("send")], send, policy=ASKING))
    (*_, checkpoint) = await stage.records(ToolNodeCheckpoint)
    (node,) = checkpoint.nodes
    assert (("in_doubt",), True) == (node.statuses, "the answer was lost" in node.detail)
    assert [] == await stage.records(ToolResult)
