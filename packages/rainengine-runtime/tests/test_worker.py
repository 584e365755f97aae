"""What a worker is made of, what it tells of itself, and one pass at a time."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import rainengine.runtime
from rainengine.core import Agent, InMemoryLedger, Respond
from rainengine.core.errors import InvalidConfiguration, LedgerUnavailable
from rainengine.core.records import RetryPolicy
from rainengine.core.testing import FailBefore, FaultyLedger
from rainengine.runtime import Worker, WorkerSettings, WorkerStats

# One pass.


async def test_one_pass_does_all_that_is_due(site: Any, publisher_that: Any) -> None:
    """`run_once` fires wakes, ends runs and delivers rows, says how many, and comes back."""
    engine = site.engine()
    for number in range(50):
        await site.submit(f"s{number}", tenant=f"t{number % 3}")
        await site.submit(f"s{number}", tenant=f"t{number % 3}")
    await engine.schedule_wake("w", due_at_ms=site.clock.now_ms(), reason="look")
    await engine.schedule_wake("w", due_at_ms=site.clock.now_ms() + 60_000, reason="later")
    await site.leave("s", ("a", 1), ("a", 2))
    worker = site.worker(publisher=publisher_that(), page_size=7, max_concurrent=3)
    began = trio.current_time()
    done = await worker.run_once()
    assert (101, 1, 2, 0) == (done.runs, done.wakes, done.delivered, done.under_way)
    assert began == trio.current_time()
    again = await worker.run_once()
    assert (0, 0, 0) == (again.runs, again.wakes, again.delivered)
    assert 101 == worker.stats().runs


async def test_one_pass_leaves_others_alone(site: Any, publisher_that: Any) -> None:
    """What fails, is held elsewhere or has no engine is told of, and left for another pass."""

    async def fail(_: Any) -> None:
        raise ConnectionError

    await site.submit("missing", agent="gone")
    await site.submit("fine")
    await site.submit("bad")
    session = site.store._session("bad")
    session.rows[0] = (*session.rows[0][:2], "{}", *session.rows[0][3:])
    await site.leave("rows", ("a", 1))
    worker = site.worker(agents={None, "default"}, publisher=publisher_that(fail))
    done = await worker.run_once()
    assert (1, 1, 1) == (done.runs, done.errors, done.failed)
    assert (1, 1, ("gone",)) == (done.backed_off, done.waiting_for_agent, done.missing_agents)


@pytest.mark.parametrize("append", [1, 2, 5])
async def test_one_pass_tells_of_a_ledger_that_is_away(site: Any, append: int) -> None:
    """It waits for nothing: the error is raised when what was under way has ended."""
    for number in range(5):
        await site.submit(f"s{number}")
    error = LedgerUnavailable("away")
    worker = site.worker(store=FaultyLedger(site.handle(), {append: FailBefore(error)}))
    with pytest.raises(LedgerUnavailable) as caught:
        await worker.run_once()
    assert error is caught.value
    await trio.sleep(30)
    await worker.run_once()
    assert 5 == worker.stats().runs


async def test_one_pass_may_be_drained(site: Any) -> None:
    """A pass that is drained ends its steps and leaves the rest."""

    async def slowly(_: Any) -> Any:
        await trio.sleep(5)
        return Respond("x")

    for number in range(10):
        await site.submit(f"s{number}")
    worker = site.worker(slowly, max_concurrent=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run_once)
        await trio.sleep(1)
        await worker.drain()
    assert 2 == worker.stats().runs


def test_passes_may_be_runs_of_trio(new_site: Any, run_trio: Any) -> None:
    """What one pass put off is tried by the next, even where its times mean something else.

    In between, outside of trio, the numbers can be asked for.
    """
    site = new_site()
    agents = {None}
    worker = site.worker(agents=agents)

    async def first() -> WorkerStats:
        await trio.sleep(80_000)
        await site.submit(agent="late")
        return await worker.run_once()

    assert 1 == run_trio(first).waiting_for_agent
    assert ("late",) == worker.stats().missing_agents
    agents.add("late")
    done = run_trio(worker.run_once)
    assert (1, 0) == (done.runs, done.waiting_for_agent)


async def test_a_worker_is_at_work_once(site: Any) -> None:
    """A second `run` of the same worker is refused, and disturbs nothing."""
    worker = site.worker()
    async with site.working(worker):
        for again in (worker.run, worker.run_once):
            with pytest.raises(RuntimeError, match="at work already"):
                await again()
        await site.submit()
        await site.until(site.is_settled, within_s=2)


# What it tells.


async def test_numbers_are_as_of_now(site: Any) -> None:
    """`stats` tells of sessions under way, and is a value that does not change."""

    async def slowly(_: Any) -> Any:
        await trio.sleep(5)
        return Respond("x")

    for number in range(3):
        await site.submit(f"s{number}")
    worker = site.worker(slowly)
    before = worker.stats()
    async with site.working(worker):
        await trio.sleep(2)
        assert 3 == worker.stats().under_way
        await trio.sleep(5)
    after = worker.stats()
    assert (0, 0) == (before.runs, after.under_way)
    assert (3, 3) == (after.since(before).runs, after.since(before).advances)
    assert WorkerStats(**attrs.asdict(before)) == before


# What it is made of.


async def test_a_store_has_to_have_a_work_queue() -> None:
    """A ledger that cannot be asked what is due is refused, by name."""
    tenant = InMemoryLedger().for_tenant("acme")
    with pytest.raises(InvalidConfiguration) as caught:
        Worker(tenant, lambda *_: None)
    assert "store" == caught.value.field


async def test_a_publisher_needs_an_outbox(publisher_that: Any) -> None:
    """A publisher for a store without an outbox is refused."""

    class Queue(InMemoryLedger):
        claim = None

    store: Any = Queue()
    assert isinstance(store, rainengine.runtime.WorkStore)
    with pytest.raises(InvalidConfiguration) as caught:
        Worker(store, lambda *_: None, publisher=publisher_that())
    assert "publisher" == caught.value.field


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ({"poll_interval_s": 0}, "poll_interval_s"),
        ({"max_concurrent": -1}, "max_concurrent"),
        ({"drain_timeout_s": float("inf")}, "drain_timeout_s"),
        ({"publish_timeout_s": float("nan")}, "publish_timeout_s"),
        ({"session_retry": RetryPolicy(max_interval_ms=0)}, "session_retry.max_interval_ms"),
    ],
)
def test_settings_are_checked(setting: dict[str, Any], field: str) -> None:
    """What is not above 0 and finite is refused, and the error names it."""
    with pytest.raises(InvalidConfiguration) as caught:
        WorkerSettings(**setting)
    assert field == caught.value.field


async def test_the_clock_of_the_system_will_do(site: Any) -> None:
    """Without clock and ids a worker uses those of the system."""
    store = InMemoryLedger()
    worker = Worker(store, lambda ledger, _: site.engine(ledger, clock=None, ids=None))
    engine = site.engine(store, agent=Agent(), clock=None)
    await engine.schedule_wake("s", due_at_ms=5, reason="look")
    assert (1, 1) == ((done := await worker.run_once()).wakes, done.runs)


# The module.


def test_every_public_name_is_documented() -> None:
    """Each name is exported once as `Name as Name`, has a docstring, and is in the reference."""
    source = Path(str(rainengine.runtime.__file__)).read_text()
    lines = [line.split() for line in source.splitlines() if line.startswith("from rainengine")]
    names = [line[3] for line in lines]
    assert sorted(set(names)) == sorted(names)
    page = Path(__file__).parents[3] / "docs" / "reference" / "runtime.md"
    for _, module, _, name, _, alias in lines:
        assert name == alias
        value = getattr(importlib.import_module(module), name)
        assert getattr(rainengine.runtime, name) is value
        assert f":: rainengine.runtime.{name}\n" in page.read_text()
