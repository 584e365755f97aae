"""Holding a session: taken with the trigger, lost to a newer holder, given back."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from rainengine.core import Continue, Respond
from rainengine.core.engine import _sessions as sessions
from rainengine.core.errors import FenceLost, SessionBusy, SessionNotFound
from rainengine.core.records import CoordinationClaim


async def test_a_lease_spans_the_run(stage: Any) -> None:
    """It is taken with the trigger, held between advances and freed with the outcome."""
    engine = stage.engine([Continue(), Respond("x")])
    await engine.advance(stage.request())
    held = await stage.ledger.lease_of("s")
    assert (held.owner, held.expires_at_ms) == ("one", stage.clock.now_ms() + 30_000)
    await engine.advance(stage.go_on)
    freed = await stage.ledger.lease_of("s")
    assert (freed.owner, freed.fence) == (None, held.fence)


async def test_a_lease_costs_no_commit(stage: Any) -> None:
    """A run of two steps is three commits: the trigger and two decisions."""
    await stage.play(stage.engine([Continue(), Respond("x")]))
    assert stage.ledger.stats().commits == 3
    assert "coordination_claim" not in await stage.kinds()


async def test_every_run_raises_the_fence(stage: Any) -> None:
    """Each acquisition has a fence above the one before, and tools are told theirs."""
    skill = stage.skill("s")
    for _ in range(3):
        await stage.play(stage.engine([stage.calls("s"), Respond("x")], skill))
    assert [i.context.fence for i in skill.invocations] == [1, 2, 3]


async def test_a_session_held_elsewhere_is_busy(stage: Any) -> None:
    """Another owner gets `SessionBusy` with the holder's name and time, and changes nothing."""
    await stage.engine([Continue()]).advance(stage.request())
    before = await stage.stored(), await stage.ledger.lease_of("s")
    other = stage.engine([], owner="two", ledger=stage.other_handle())
    for request in (stage.go_on, stage.request("k")):
        with pytest.raises(SessionBusy) as caught:
            await other.advance(request)
        assert (caught.value.owner, caught.value.expires_at_ms) == ("one", before[1].expires_at_ms)
    assert (await stage.stored(), await stage.ledger.lease_of("s")) == before
    assert stage.provider.requests == []


async def test_a_takeover_is_recorded(stage: Any) -> None:
    """After the lease ran out another process takes over: a claim, and a higher fence."""
    await stage.engine([Continue()]).advance(stage.request())
    other = stage.engine([Respond("x")], owner="two", ledger=stage.other_handle())
    stage.clock.jump(30_000)
    assert (await other.advance(stage.go_on)).outcome.response == "x"
    assert await stage.records(CoordinationClaim) == [
        CoordinationClaim(owner="two", fence=2, previous_owner="one")
    ]


async def test_the_old_owner_takes_up_its_session_at_once(stage: Any) -> None:
    """A process restarted under its name goes on without waiting for its own lease."""
    await stage.engine([Continue()]).advance(stage.request())
    restarted = stage.engine([Respond("x")], ledger=stage.other_handle())
    began = stage.clock.now_ms()
    assert (await restarted.advance(stage.go_on)).outcome.response == "x"
    assert stage.clock.now_ms() == began
    assert await stage.records(CoordinationClaim) == [
        CoordinationClaim(owner="one", fence=2, previous_owner="one")
    ]


async def test_a_claim_comes_before_the_effect(stage: Any) -> None:
    """Who takes over has the lease in the ledger before it asks the model."""
    await stage.engine([Continue()]).advance(stage.request())
    owners: list[Any] = []

    async def look(_: Any) -> Respond:
        owners.append((await stage.ledger.lease_of("s")).owner)
        return Respond("x")

    stage.clock.jump(30_000)
    await stage.engine(look, owner="two", ledger=stage.other_handle()).advance(stage.go_on)
    assert owners == ["two"]


async def test_a_stale_holder_cannot_write(stage: Any) -> None:
    """A holder that slept through a takeover gets `FenceLost`; its decision is not stored."""
    other = stage.engine([Respond("two's")], owner="two", ledger=stage.other_handle())

    async def oversleep(_: Any) -> Respond:
        await trio.testing.wait_all_tasks_blocked()  # the heartbeat sleeps, and will oversleep
        stage.clock.jump(60_000)
        await other.advance(stage.go_on)
        return Respond("one's")

    engine = stage.engine(oversleep)
    with pytest.raises(FenceLost):
        await engine.advance(stage.request("k"))
    again = await engine.advance(stage.request("k"))
    assert (again.outcome.response, again.outcome.idempotent_replay) == ("two's", True)


async def test_a_holder_that_paused_notices_the_takeover_first(stage: Any) -> None:
    """After a pause a former holder asks no model for a run that another process holds."""
    engine = stage.engine([Continue(), Respond("never")])
    await engine.advance(stage.request())
    mine = stage.provider
    stage.clock.jump(60_000)
    other = stage.engine([Continue()], owner="two", ledger=stage.other_handle())
    await other.advance(stage.go_on)
    with pytest.raises(SessionBusy):
        await engine.advance(stage.go_on)
    assert len(mine.requests) == 1


@pytest.mark.parametrize("texts", [("new",), ("new", "newer")], ids=["as long", "longer"])
async def test_another_history_is_read_from_its_start(stage: Any, texts: Any) -> None:
    """Of a session that was erased and begun anew, just as long or longer, nothing old is used."""

    async def live(engine: Any, *texts: str) -> int:
        for text in texts:
            await stage.play(engine, stage.request(text=text))
        return (await stage.ledger.head("s")).sequence

    def echo(request: Any) -> Respond:
        return Respond(request.trigger.content)

    engine = stage.engine(echo)
    asked = stage.provider.requests
    known = await live(engine, "old")
    del stage.ledger._shared.sessions["s"]
    length = await live(stage.engine(echo, ledger=stage.other_handle()), *texts)
    assert (length > known) == (len(texts) > 1)

    result = await engine.advance(stage.go_on)
    assert (result.outcome.response, result.idle) == (texts[-1], True)
    await engine.advance(stage.request(text="next"))
    prompt = str(asked[-1].messages)
    assert [text in prompt for text in ("old", "new", "next")] == [False, True, True]
    assert (await stage.replayed()).sequence == (await stage.ledger.head("s")).sequence


async def test_two_engines_on_one_handle_take_turns(stage: Any, together: Any) -> None:
    """Advances of one session over one handle never overlap."""
    running: list[int] = []
    most: list[int] = []

    async def answer(_: Any) -> Respond:
        running.append(1)
        most.append(len(running))
        await trio.sleep(1)
        running.pop()
        return Respond("x")

    engines = [stage.engine(answer) for _ in range(2)]
    results = await together(
        [lambda e=e, n=n: e.advance(stage.request(f"{n}")) for n, e in enumerate(engines * 3)]
    )
    assert [r.outcome.response for r in results] == ["x"] * 6
    assert (max(most), len(most)) == (1, 6)


async def test_turns_come_in_order_without_those_who_gave_up(stage: Any) -> None:
    """Who waits longest is next, also after others ahead of them were cancelled."""
    answered: list[str] = []

    async def answer(request: Any) -> Respond:
        await trio.sleep(1)
        answered.append(request.trigger.content)
        return Respond("x")

    engine = stage.engine(answer)
    given_up = trio.CancelScope()

    async def advance(text: str) -> None:
        with given_up if text == "b" else trio.CancelScope():
            await engine.advance(stage.request(text=text))

    async with trio.open_nursery() as nursery:
        for text in "abcd":
            nursery.start_soon(advance, text)
            await trio.testing.wait_all_tasks_blocked()
        given_up.cancel()
    assert answered == ["a", "c", "d"]


async def test_a_turn_ends_with_its_advance(stage: Any) -> None:
    """Advances that were cancelled or failed keep nobody from the session."""

    async def hang(_: Any) -> Respond:
        await trio.sleep_forever()

    engine = stage.engine([Respond("x")])
    with pytest.raises(SessionNotFound):
        await engine.advance(stage.go_on)
    await stage.interrupt(stage.engine(hang))
    assert (await engine.advance(stage.go_on)).outcome.response == "x"
    assert sessions._TAKEN == {}


async def test_sessions_do_not_wait_for_each_other(stage: Any, together: Any) -> None:
    """Advances of different sessions run side by side."""
    engine = stage.engine(lambda _: _slow())

    async def _slow() -> Respond:
        await trio.sleep(1)
        return Respond("x")

    began = stage.clock.now_ms()
    await together(
        [lambda n=n: engine.advance(stage.request(session_id=f"s{n}")) for n in range(9)]
    )
    assert stage.clock.now_ms() - began == 1_000
