"""Wakes fire once, soon after their time, whatever workers and clocks do."""

from __future__ import annotations

import os
from typing import Any

import trio

from rainengine.core import Agent, AgentProfile, ContinueRequest, Respond
from rainengine.core.abc import SessionIndex
from rainengine.core.records import (
    KernelEventRecord,
    NewRecord,
    TriggerRecord,
    WakePolicy,
    WakeScheduled,
)
from rainengine.core.testing import ScriptedClock

MANY = AgentProfile(wake=WakePolicy(max_pending_wakes=1_000))


async def schedule(
    site: Any, wake_id: str, in_s: float, session_id: str = "s", **options: Any
) -> int:
    """Have a session woken in so many seconds, as a host does; return when that is."""
    name, tenant = options.pop("agent", "default"), options.pop("tenant", "default")
    engine = site.engine(site.store.for_tenant(tenant), agent=Agent(name=name, profile=MANY))
    due_at_ms: int = site.clock.now_ms() + round(in_s * 1000)
    await engine.schedule_wake(
        session_id, due_at_ms=due_at_ms, reason="look", wake_id=wake_id, **options
    )
    return due_at_ms


async def fired(site: Any, session_id: str = "s", tenant: str = "default") -> dict[str, int]:
    """The wakes that were brought in, and when, in milliseconds after they were due."""
    entries = await site.store.for_tenant(tenant).read(session_id, limit=100_000)
    triggers = [entry for entry in entries if isinstance(entry.record, TriggerRecord)]
    late = {
        entry.record.trigger.wake_id: entry.occurred_at_ms - entry.record.trigger.due_at_ms
        for entry in triggers
        if entry.idempotency_key == f"wake:{entry.record.trigger.wake_id}"
    }
    assert len(late) == len(triggers)
    return late


async def test_a_wake_becomes_a_run(site: Any) -> None:
    """A session that sleeps is woken at its time, by whichever worker, and its run is answered."""
    await schedule(site, "w", 3_600)
    workers = [site.worker(owner=name) for name in ("one", "two")]
    async with site.working(*workers):
        await trio.sleep(3_599)
        assert {} == await fired(site)
        await trio.sleep(3)
    (late_ms,) = (await fired(site)).values()
    assert 0 <= late_ms <= 1_000
    assert ["ScheduledWake"] == await site.answers()
    assert 1 == sum(worker.stats().wakes for worker in workers)
    assert 1 == sum(worker.stats().runs for worker in workers)


async def test_a_woken_session_is_worked_on_at_once(site: Any) -> None:
    """Its run does not wait for another poll."""
    await schedule(site, "w", 0)
    async with site.working(site.worker(poll_interval_s=600)):
        await site.until(site.answers, within_s=1)


async def test_a_wake_is_due_by_the_workers_clock(site: Any) -> None:
    """Listing and firing go by one clock, whatever time it is for the store."""
    await schedule(site, "w", 1_800)
    ahead = ScriptedClock(site.clock.now_ms() + 3_600_000)
    async with site.working(site.worker(clock=ahead)):
        await site.until(site.answers, within_s=1)


async def test_a_week_of_wakes(site: Any) -> None:
    """Wakes all through a week each fire once and in time, between two workers.

    One every ten minutes; with RAINENGINE_SWEEP=full one a minute, 10,080 of them.
    """
    week = range(0, 7 * 24 * 60, 1 if os.environ.get("RAINENGINE_SWEEP") == "full" else 10)
    sessions = [(tenant, f"s{n}") for tenant in ("acme", "default") for n in range(21)]
    profile = Agent(profile=MANY)
    hosts = {name: site.engine(site.store.for_tenant(name), agent=profile) for name, _ in sessions}
    start_ms = site.clock.now_ms()
    for count, minute in enumerate(week):
        tenant, session_id = sessions[count % len(sessions)]
        due_at_ms = start_ms + minute * 60_000
        await hosts[tenant].schedule_wake(
            session_id, due_at_ms=due_at_ms, reason="look", wake_id=f"w{minute}"
        )
    workers = [site.worker(owner=name, poll_interval_s=30) for name in ("one", "two")]
    async with site.working(*workers):
        await trio.sleep((week.stop + 1) * 60)
    late = [await fired(site, session_id, tenant) for tenant, session_id in sessions]
    assert {f"w{minute}" for minute in week} == set().union(*late)
    assert len(week) == sum(len(one) for one in late)
    assert max(max(one.values()) for one in late) <= 30_000
    assert len(week) == sum(worker.stats().runs for worker in workers)
    assert min(worker.stats().wakes for worker in workers) >= len(week) / 10


async def test_a_wake_comes_in_beside_a_long_step(site: Any) -> None:
    """While somebody works on the session its wake is stored in time, and only once."""

    async def slowly(request: Any) -> Any:
        if request.trigger.type == "message":
            await trio.sleep(40)
        return Respond(request.trigger.type)

    await site.submit()
    await schedule(site, "w", 5)
    commits = []
    worker = site.worker(slowly)
    async with site.working(worker):
        await trio.sleep(7)
        assert 1 == len(await fired_beside(site))
        commits.append(site.store.stats().commits)
        await trio.sleep(30)
        assert 1 == len(await fired_beside(site))
        await trio.sleep(10)
    assert ["message", "scheduled_wake"] == await site.answers()
    assert 1 == worker.stats().wakes


async def fired_beside(site: Any) -> list[str]:
    """The wakes brought in beside other triggers."""
    triggers = [record.trigger for record in await site.stored(TriggerRecord)]
    return [trigger.wake_id for trigger in triggers if trigger.type == "scheduled_wake"]


async def test_a_wake_belongs_to_its_agent(site: Any) -> None:
    """It is brought in by the engine of the agent that scheduled it, with what was granted."""
    await site.submit(agent="other")
    await schedule(site, "w", 5, agent="mine", granted_scopes=("may:look",))
    async with site.working(site.worker()):
        await trio.sleep(10)
    record = (await site.stored(TriggerRecord))[-1]
    assert ("mine", ("may:look",)) == (record.agent.name, record.granted_scopes)
    assert ["hello", "ScheduledWake"] == await site.answers()


async def test_a_wake_of_a_missing_agent_waits(site: Any) -> None:
    """It fires when there is an engine for its agent, and holds up no other session's."""
    agents = {None, "here"}
    await schedule(site, "w", 5, agent="late")
    await schedule(site, "w", 5, "t", agent="here")
    worker = site.worker(agents=agents)
    async with site.working(worker):
        await trio.sleep(60)
        assert ({}, 1) == (await fired(site), len(await fired(site, "t")))
        assert ("late",) == worker.stats().missing_agents
        agents.add("late")
        await trio.sleep(20)
    assert 1 == len(await fired(site))


async def test_a_clock_set_forward_fires_once(site: Any) -> None:
    """Wakes that a jump left in the past fire once each."""
    for number in range(5):
        await schedule(site, f"w{number}", 600 * (number + 1))
    workers = [site.worker(owner=name) for name in ("one", "two")]
    async with site.working(*workers):
        site.clock.jump(86_400_000)
        await trio.sleep(60)
    assert 5 == len(await fired(site))
    assert 5 == len(await site.answers())


async def test_a_clock_set_back_delays(site: Any) -> None:
    """A wake waits until the clock has come to its time again, and does not fire twice."""
    await schedule(site, "a", 60)
    await schedule(site, "b", 120)
    async with site.working(site.worker(), site.worker(owner="two")):
        await trio.sleep(61)
        site.clock.jump(-3_600_000)
        await trio.sleep(3_600)
        assert {"a"} == set(await fired(site))
        await trio.sleep(70)
    assert {"a", "b"} == set(await fired(site))
    assert 2 == len(await site.answers())


async def test_a_worker_dies_between_wake_and_run(site: Any) -> None:
    """A wake that was brought in by a worker that died is answered by another, once."""
    await schedule(site, "w", 5)
    engine = site.engine(site.handle(), owner="gone")
    await trio.sleep(5)
    await engine.fire_wakes("s")
    async with site.working(site.worker()):
        await trio.sleep(5)
    assert ["ScheduledWake"] == await site.answers()
    assert 1 == len(await fired(site))


async def test_a_wake_id_that_was_used_is_not_hammered(site: Any) -> None:
    """A wake that can never fire costs a look now and then, and holds up no other."""
    await schedule(site, "w", 0)
    await site.engine().fire_wakes("s")
    await site.engine().advance(ContinueRequest(session_id="s"))
    again = KernelEventRecord(WakeScheduled(wake_id="w", due_at_ms=5, reason="again"))
    index = SessionIndex(state="completed", wake_due_at_ms=5)
    await site.store.append("s", [NewRecord(again, 0)], expected=None, index=index)
    looks: list[str] = []

    class Watched(type(site.store)):  # type: ignore[misc]
        async def lease_of(self, session_id: str) -> Any:
            looks.append(session_id)
            return await super().lease_of(session_id)

    await schedule(site, "w", 5, "t")
    worker = site.worker(store=Watched(site.clock, backing=site.store))
    async with site.working(worker):
        await trio.sleep(600)
    assert 1 == len(await fired(site, "t"))
    assert 1 == worker.stats().wakes
    assert 5 <= looks.count("s") <= 200
