"""Stopping: a worker that drains loses nothing and leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from rainengine.core import Continue, Respond
from rainengine.core.errors import LedgerUnavailable


async def test_a_drained_worker_ends_its_steps(site: Any) -> None:
    """The step under way comes to its end, the lease is given back, and another goes on at once."""
    asked: list[float] = []

    async def decide(_: Any) -> Any:
        asked.append(trio.current_time())
        await trio.sleep(10)
        return Continue() if len(asked) == 1 else Respond("over")

    await site.submit()
    worker = site.worker(decide)
    async with site.working(worker):
        await trio.sleep(3)
        began = trio.current_time()
        await worker.drain()
        assert 6 <= trio.current_time() - began <= 8
        assert (1, None) == (len(asked), await site.owner())
        async with site.working(site.worker(decide, owner="two")):
            await site.until(site.is_settled, within_s=12)
    assert (2, 1) == (len(asked), worker.stats().advances)


async def test_a_drained_worker_takes_no_more(site: Any) -> None:
    """What comes due while it drains, or waits for a place, is left to others."""

    async def slowly(_: Any) -> Any:
        await trio.sleep(5)
        return Respond("x")

    for number in range(10):
        await site.submit(f"s{number}")
    worker = site.worker(slowly, max_concurrent=2)
    async with site.working(worker):
        await trio.sleep(1)
        await worker.drain()
        await site.submit("late")
        await trio.sleep(60)
    assert 2 == worker.stats().runs
    assert {None} == {await site.owner(f"s{number}") for number in range(10)}


async def test_sessions_that_wait_for_their_next_run_are_given_back(site: Any) -> None:
    """A session that had its turn and waits for the next one is free after a drain."""

    async def decide(request: Any) -> Any:
        await trio.sleep(3 if request.context.session_id == "long" else 0)
        return Respond("x")

    for _ in range(3):
        await site.submit("queue")
    for _ in range(3):
        await site.submit("long")
    worker = site.worker(decide, max_concurrent=1)
    async with site.working(worker):
        await site.until(lambda: worker.stats().runs >= 1, within_s=10)
        await worker.drain()
    assert {None} == {await site.owner(name) for name in ("queue", "long")}


async def test_what_waits_is_given_back_before_steps_end(site: Any) -> None:
    """A drain does not keep a session that waits for its turn until others' steps are over."""

    async def decide(_: Any) -> Any:
        await trio.sleep(4)
        return Respond("x")

    for name in ("a", "b", "c"):
        for _ in range(3):
            await site.submit(name)
    worker = site.worker(decide, max_concurrent=2)
    async with site.working(worker) as nursery:
        await trio.sleep(5)
        nursery.start_soon(worker.drain)
        await trio.sleep(1)
        held = {name: await site.owner(name) for name in ("a", "b", "c")}
    assert 2 == worker.stats().runs
    assert 2 == list(held.values()).count("one")


async def test_a_drain_that_takes_too_long_is_cut_short(site: Any) -> None:
    """After `drain_timeout_s` what is still under way is cancelled, as in a crash."""

    async def decide(_: Any) -> Any:
        await trio.sleep(40)
        return Respond("x")

    await site.submit()
    worker = site.worker(decide, drain_timeout_s=5)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await trio.sleep(2)
        with trio.fail_after(5.5):
            await worker.drain()
    assert "one" == await site.owner()
    async with site.working(site.worker(owner="two")):
        await site.until(site.is_settled, within_s=40)


async def test_a_drain_while_the_ledger_is_away_ends(site: Any) -> None:
    """A worker that waits for its ledger stops waiting when it is drained."""

    class Away(type(site.store)):  # type: ignore[misc]
        async def due(self, *args: Any, **options: Any) -> Any:
            raise LedgerUnavailable("away")

    worker = site.worker(store=Away(site.clock, backing=site.store))
    async with site.working(worker):
        await trio.sleep(500)
        with trio.fail_after(1):
            await worker.drain()


async def test_draining_gives_rows_back(site: Any, publisher_that: Any) -> None:
    """The publication under way ends, and rows that were claimed with it go to another worker."""

    async def slowly(_: Any) -> None:
        await trio.sleep(2)

    await site.leave("s", *(("a", number) for number in range(5)))
    first, second = publisher_that(slowly), publisher_that()
    worker = site.worker(publisher=first)
    async with site.working(worker):
        await trio.sleep(1)
        await worker.drain()
    async with site.working(site.worker(publisher=second, owner="two")):
        await trio.sleep(1)
    assert ([0], [1, 2, 3, 4]) == (first.payloads, second.payloads)


async def test_draining_what_is_not_at_work(site: Any) -> None:
    """Before it began and after it ended, a worker has nothing to drain, and may work again."""
    worker = site.worker()
    await worker.drain()
    for text in ("a", "b"):
        await site.submit(text=text)
        async with site.working(worker):
            await site.until(site.is_settled, within_s=2)
            await worker.drain()
            await worker.drain()
    assert ["a", "b"] == await site.answers()


@pytest.mark.parametrize("after_s", [0, 0.3, 1, 4.5, 7])
async def test_a_worker_may_be_cancelled_at_any_time(site: Any, after_s: float) -> None:
    """Whenever it is cancelled it ends at once, and others bring all runs to their ends."""

    async def decide(request: Any) -> Any:
        await trio.sleep(2)
        return Continue() if request.context.step < 3 else Respond("x")

    for number in range(6):
        await site.submit(f"s{number}")
    worker = site.worker(decide, max_concurrent=3)
    began = trio.current_time()
    with trio.move_on_after(after_s):
        await worker.run()
    assert after_s == pytest.approx(trio.current_time() - began)
    assert 0 == worker.stats().under_way
    async with site.working(site.worker(decide, owner="two")):
        for number in range(6):
            await site.until(lambda name=f"s{number}": site.is_settled(name), within_s=60)
