"""Runs that nobody works on are taken up and brought to their ends."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from rainengine.core import Agent, Continue, ContinueRequest, Message, ProcessRequest, Respond
from rainengine.core.records import (
    CoordinationClaim,
    ModelDecision,
    OutcomeRecord,
    ToolResult,
)


async def test_a_submitted_trigger_is_worked_on(site: Any) -> None:
    """What a host made durable is answered by a worker within a poll."""
    async with site.working(site.worker()):
        await site.submit(text="hi")
        await trio.sleep(1)
        assert ["hi"] == await site.answers()


async def test_all_that_waits_in_a_session_is_worked_on(site: Any) -> None:
    """Triggers that wait behind each other are answered in order, and the session is then free."""
    for text in "abc":
        await site.submit(text=text)
    worker = site.worker()
    async with site.working(worker):
        await trio.sleep(1)
    assert ["a", "b", "c"] == await site.answers()
    assert None is await site.owner()
    assert (3, 3) == (worker.stats().runs, worker.stats().advances)


async def test_an_abandoned_run_is_taken_up(site: Any) -> None:
    """A run whose process is gone goes on when its lease has run out."""
    await site.submit()
    gone = site.engine(script=[Continue()], owner="gone")
    await gone.advance(ContinueRequest(session_id="s"))
    async with site.working(site.worker()):
        await trio.sleep(29)
        assert [] == await site.answers()
        await trio.sleep(3)
    assert ["hello"] == await site.answers()
    (claim,) = await site.stored(CoordinationClaim)
    assert ("one", "gone") == (claim.owner, claim.previous_owner)


async def test_a_worker_dies_three_times(site: Any) -> None:
    """Cancelled in the middle of a tool three times, a run ends as it would have without that."""
    attempts: list[float] = []

    async def act() -> str:
        attempts.append(trio.current_time())
        await trio.sleep(8)
        return "done"

    def decide(request: Any) -> Any:
        return site.calls("act") if request.context.step == 1 else Respond("over")

    tool = site.skill("act", act, timeout_ms=60_000)
    await site.submit()
    for number, name in enumerate(("one", "two", "three"), start=1):
        async with site.working(site.worker(decide, tool, owner=name)):
            await site.until(lambda so_many=number: len(attempts) == so_many, within_s=35)
    async with site.working(site.worker(decide, tool, owner="four")):
        await site.until(site.is_settled, within_s=60)
    assert ["over"] == await site.answers()
    assert ["done"] == [result.value for result in await site.stored(ToolResult)]
    assert 2 == len(await site.stored(ModelDecision))
    assert ["two", "three", "four"] == [c.owner for c in await site.stored(CoordinationClaim)]


async def test_a_restarted_worker_does_not_wait_for_its_former_self(site: Any) -> None:
    """Under the same owner the lease of the former self is taken over once it is listed."""

    async def act() -> str:
        await trio.sleep(5)
        return "done"

    def decide(request: Any) -> Any:
        return site.calls("act") if request.context.step == 1 else Respond("over")

    tool = site.skill("act", act)
    await site.submit()
    for _ in range(2):
        async with site.working(site.worker(decide, tool)):
            await trio.sleep(3)
    async with site.working(site.worker(decide, tool)):
        await trio.sleep(60)
    assert ["over"] == await site.answers()


async def test_a_session_held_elsewhere_is_left_alone(site: Any) -> None:
    """A worker does not disturb who works on a session, and asks no model."""

    async def slowly(_: Any) -> Any:
        await trio.sleep(40)
        return Respond("mine")

    await site.submit()
    holder = site.engine(site.handle(), slowly, owner="holder")
    worker = site.worker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(holder.advance, ContinueRequest(session_id="s"))
        await trio.testing.wait_all_tasks_blocked()
        async with site.working(worker):
            await trio.sleep(60)
    assert ["mine"] == await site.answers()
    assert 0 == worker.stats().advances


async def test_two_workers_share_the_work(site: Any) -> None:
    """Whatever is due is done once, by whichever worker gets it."""

    async def slowly(request: Any) -> Any:
        await trio.sleep(1)
        return Respond(request.trigger.content)

    for number in range(40):
        await site.submit(f"s{number}", text=str(number))
    workers = [site.worker(slowly, owner=name, max_concurrent=4) for name in ("one", "two")]
    async with site.working(*workers):
        await trio.sleep(15)
    for number in range(40):
        assert [str(number)] == await site.answers(f"s{number}")
    shares = [worker.stats().runs for worker in workers]
    assert 40 == sum(shares)
    assert min(shares) >= 10


async def test_no_more_than_so_many_at_once(site: Any) -> None:
    """A worker never works on more than `max_concurrent` sessions, and always on as many."""
    now = [0]
    most = [0]

    async def decide(_: Any) -> Any:
        now[0] += 1
        most[0] = max(most[0], now[0])
        await trio.sleep(1)
        now[0] -= 1
        return Respond("x")

    for number in range(30):
        await site.submit(f"s{number}")
    worker = site.worker(decide, max_concurrent=5)
    async with site.working(worker):
        await site.until(lambda: worker.stats().runs == 30, within_s=8)
    assert 5 == most[0]


async def test_a_long_queue_does_not_keep_its_place(site: Any) -> None:
    """After each outcome a session goes to the back, so that others have their turn."""
    order: list[str] = []

    async def decide(request: Any) -> Any:
        order.append(request.context.session_id)
        await trio.sleep(1)
        return Respond("x")

    for _ in range(5):
        await site.submit("long")
    for name in ("other", "third"):
        await site.submit(name)
    async with site.working(site.worker(decide, max_concurrent=1)):
        await trio.sleep(20)
    assert 7 == len(order)
    assert {"other", "third"} < set(order[:4])


async def test_a_nudged_worker_looks_at_once(site: Any) -> None:
    """A host that has submitted something need not wait for the poll."""
    worker = site.worker(poll_interval_s=600)
    async with site.working(worker):
        await trio.sleep(1)
        await site.submit()
        worker.nudge()
        await trio.sleep(1)
        assert ["hello"] == await site.answers()


async def test_idle_workers_only_poll(site: Any) -> None:
    """With nothing due, a worker asks the store once a poll for each kind of work."""
    asked: list[str] = []

    class Asked(type(site.store)):  # type: ignore[misc]
        async def due(self, kind: str, **options: Any) -> Any:
            asked.append(kind)
            return await super().due(kind, **options)

    store = Asked(site.clock, backing=site.store)
    async with site.working(site.worker(store=store)):
        await trio.sleep(100)
    assert 100 <= asked.count("run") <= 200
    assert 100 <= asked.count("wake") <= 200


async def test_a_session_is_served_again_at_once(site: Any) -> None:
    """A session that has just been served is not left alone when it has something new."""
    worker = site.worker(poll_interval_s=600)
    async with site.working(worker):
        for text in ("a", "b", "c"):
            await site.submit(text=text)
            worker.nudge()
            await site.until(site.is_settled, within_s=1)
    assert ["a", "b", "c"] == await site.answers()


# Agents.


async def test_the_right_engine_is_found(site: Any) -> None:
    """Each run goes to the engine of its agent, whatever the listing says of the session."""
    await site.submit(agent="a", text="one")
    await site.submit(agent="b", text="two")
    await site.submit(agent="a", text="once more")
    await site.submit("t", agent="b", text="three")
    worker = site.worker(agents={None, "a", "b"})
    async with site.working(worker):
        await trio.sleep(2)
    assert 0 == worker.stats().waiting_for_agent
    assert ["one", "two", "once more"] == await site.answers()
    assert ["three"] == await site.answers("t")


async def test_a_guess_that_leads_nowhere_is_no_obstacle(site: Any) -> None:
    """Where the listing names an agent that is not here, the run may still be another's."""
    gone = site.engine(script=[Continue()], owner="gone", agent=Agent(name="here"))
    await gone.advance(ProcessRequest(session_id="s", trigger=Message(user_id="u", content="a")))
    await site.submit(agent="elsewhere", text="b")
    async with site.working(site.worker(agents={None, "here"})):
        await trio.sleep(40)
    assert ["a"] == await site.answers()


async def test_a_missing_agent_is_waited_for(site: Any, caplog: Any) -> None:
    """A run without an engine waits, visibly and without being hammered, until there is one."""
    agents = {None, "here"}
    made: list[str | None] = []
    worker = site.worker(agents=agents)
    ask = worker._parts.engines.engine_for
    worker._parts.engines.engine_for = lambda ledger, name: made.append(name) or ask(ledger, name)
    await site.submit(agent="late")
    await site.submit("t", agent="here")
    async with site.working(worker):
        await trio.sleep(600)
        stats = worker.stats()
        assert (1, ("late",)) == (stats.waiting_for_agent, stats.missing_agents)
        assert ["hello"] == await site.answers("t")
        assert made.count("late") <= 600 / 7
        assert 1 == sum("late" in record.message for record in caplog.records)
        agents.add("late")
        await trio.sleep(20)
        assert ["hello"] == await site.answers()
        await trio.sleep(100)
        stats = worker.stats()
        assert (0, ()) == (stats.waiting_for_agent, stats.missing_agents)


async def test_many_sessions_of_a_missing_agent_hold_up_no_other(site: Any) -> None:
    """Among 2,000 sessions that nobody can serve, one that can be served is, within seconds."""
    for number in range(2_000):
        await site.submit(f"a{number:04}", agent="gone")
    await site.submit("a0999x", agent="here")
    worker = site.worker(agents={"here"})
    async with site.working(worker):
        await site.until(lambda: site.is_settled("a0999x"), within_s=10)


@pytest.mark.parametrize("wrong", ["same", "error"])
async def test_an_engine_that_is_not_the_one(site: Any, wrong: str, caplog: Any) -> None:
    """A host that gives another agent's engine, or fails to make one, has the run wait."""
    asked: list[str | None] = []

    def engine_for(ledger: Any, name: str | None) -> Any:
        asked.append(name)
        if wrong == "error":
            raise ValueError("no such thing")
        return site.engine(ledger)

    await site.submit(agent="a")
    worker = site.worker(engine_for=engine_for)
    async with site.working(worker):
        await trio.sleep(60)
        assert 1 == worker.stats().waiting_for_agent
    assert asked.count("a") <= 60 / 7
    assert [] == await site.stored(OutcomeRecord)
    assert 1 == sum("serves" in record.message for record in caplog.records)


async def test_engines_are_kept_within_bounds(site: Any) -> None:
    """A worker makes an engine once, and lets go of those that it has not used for longest."""
    made: list[str] = []

    def engine_for(ledger: Any, agent: str | None) -> Any:
        made.append(ledger.tenant)
        return site.engine(ledger, owner="one")

    worker = site.worker(engine_for=engine_for, cached_engines=2)
    async with site.working(worker):
        for tenant in ("a", "b", "a", "b", "c", "a"):
            await site.submit(tenant=tenant)
            await trio.sleep(2)
    assert ["a", "b", "c", "a"] == made
