"""What comes in several times, over several processes, runs once."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from random import Random
from typing import Any

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from rainengine.core import (
    Agent,
    AgentProfile,
    Continue,
    Message,
    ProcessRequest,
    Respond,
)
from rainengine.core.errors import SessionBusy
from rainengine.core.records import OutcomeRecord, TriggerRecord, WakePolicy

SESSIONS = 200


async def test_each_key_runs_once(site: Any) -> None:
    """Events sent three times each, shuffled, over three processes: as many runs as keys.

    1,000 keys; with RAINENGINE_SWEEP=full 10,000.
    """
    keys = 10_000 if os.environ.get("RAINENGINE_SWEEP") == "full" else 1_000
    events = [number for number in range(keys) for _ in range(3)]
    Random(3).shuffle(events)
    hosts = [site.engine(site.handle(), owner=f"host {number}") for number in range(3)]
    workers = [site.worker(owner=name) for name in ("one", "two", "three")]

    async def send(host: Any, numbers: list[int]) -> None:
        for number in numbers:
            trigger = Message(user_id="u", content=str(number))
            await host.submit(
                ProcessRequest(
                    session_id=f"s{number % SESSIONS}",
                    trigger=trigger,
                    idempotency_key=f"k{number}",
                )
            )

    async with site.working(*workers) as nursery:
        for number, host in enumerate(hosts):
            nursery.start_soon(send, host, events[number::3])
        await site.until(lambda: sum(w.stats().runs for w in workers) == keys, within_s=600)
        await trio.sleep(5)
    triggers: Counter[str] = Counter()
    answers: Counter[str | None] = Counter()
    for number in range(SESSIONS):
        triggers.update(r.trigger.content for r in await site.stored(TriggerRecord, f"s{number}"))
        answers.update(r.response for r in await site.stored(OutcomeRecord, f"s{number}"))
    once = Counter(str(number) for number in range(keys))
    assert (once, once) == (triggers, answers)
    assert keys == sum(worker.stats().runs for worker in workers)


DEEDS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.sampled_from("st"), st.integers(0, 6)),
        st.tuples(st.just("schedule"), st.sampled_from("st"), st.integers(0, 90)),
        st.tuples(st.just("crash"), st.integers(0, 1), st.integers(0, 5)),
        st.tuples(st.just("drain"), st.integers(0, 1), st.integers(0, 5)),
        st.tuples(st.just("jump"), st.integers(-50, 50), st.just(0)),
        st.tuples(st.just("wait"), st.integers(0, 40), st.just(0)),
    ),
    max_size=14,
)


async def think(request: Any) -> Any:
    """A model that takes two steps of three seconds."""
    await trio.sleep(3)
    return Continue() if request.context.step == 1 else Respond("x")


async def stored_keys(site: Any) -> set[tuple[str, str]]:
    """The sessions and keys of all triggers."""
    return {
        (name, record.idempotency_key)
        for name in "st"
        for record in await site.store.read(name, limit=10_000)
        if isinstance(record.record, TriggerRecord)
    }


@attrs.define(eq=False)
class Story:
    """Two workers and a host, to whom anything may happen; `keys` is what has to have its end."""

    site: Any
    nursery: trio.Nursery
    host: Any = attrs.field(init=False)
    workers: dict[int, tuple[Any, trio.CancelScope]] = attrs.field(factory=dict)
    keys: set[tuple[str, str]] = attrs.field(factory=set)

    def __attrs_post_init__(self) -> None:
        profile = AgentProfile(wake=WakePolicy(max_pending_wakes=99))
        self.host = self.site.engine(agent=Agent(profile=profile))

    async def begin(self, name: int) -> None:
        worker = self.site.worker(think, owner=f"worker {name}", poll_interval_s=5)
        scope = trio.CancelScope()

        async def live(task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            with scope:
                await worker.run(task_status=task_status)

        await self.nursery.start(live)
        self.workers[name] = worker, scope

    async def submit(self, session_id: str, number: int) -> None:
        await self.site.submit(session_id, key=f"k{number}")
        self.keys.add((session_id, f"k{number}"))

    async def schedule(self, session_id: str, in_s: int) -> None:
        wake_id, due_at_ms = f"w{len(self.keys)}", self.site.clock.now_ms() + in_s * 1_000
        with suppress(SessionBusy):
            await self.host.schedule_wake(
                session_id, due_at_ms=due_at_ms, reason="look", wake_id=wake_id
            )
            self.keys.add((session_id, f"wake:{wake_id}"))

    async def crash(self, name: int, away_s: int) -> None:
        self.workers[name][1].cancel()
        await trio.sleep(away_s)
        await self.begin(name)

    async def drain(self, name: int, away_s: int) -> None:
        await self.workers[name][0].drain()
        await self.crash(name, away_s)

    async def jump(self, seconds: int, _: int) -> None:
        self.site.clock.jump(seconds * 1_000)

    async def wait(self, seconds: int, _: int) -> None:
        await trio.sleep(seconds)


@settings(max_examples=30, deadline=None)
@given(deeds=DEEDS)
def test_whatever_happens_each_run_ends_once(deeds: Any, new_site: Any, run_trio: Any) -> None:
    """Submissions, wakes, crashes, drains and clocks in any order: each trigger one outcome."""

    async def main() -> None:
        site = new_site()
        async with trio.open_nursery() as nursery:
            story = Story(site, nursery)
            for name in range(2):
                await story.begin(name)
            for deed, what, number in deeds:
                await getattr(story, deed)(what, number)
            await trio.sleep(1_000)
            nursery.cancel_scope.cancel()
        assert [True, True] == [await site.is_settled(name) for name in "st"]
        assert story.keys == await stored_keys(site)

    run_trio(main)
