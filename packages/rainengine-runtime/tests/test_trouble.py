"""A session that goes wrong holds up no other; a ledger that is away is waited for."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import trio

from rainengine.core import Respond
from rainengine.core.errors import (
    AppendUnknown,
    LedgerBusy,
    LedgerClosed,
    LedgerCorrupt,
    LedgerFull,
    LedgerUnavailable,
    TransactionTimeout,
)
from rainengine.core.testing import (
    CrashingLedger,
    FailBefore,
    FaultyLedger,
    ScriptedIds,
    SimulatedCrash,
)


def spoil(site: Any, session_id: str) -> None:
    """Damage a session in the store: its first record is no longer what was written."""
    session = site.store._session(session_id)
    session.rows[0] = (*session.rows[0][:2], '{"trigger_id": 7}', *session.rows[0][3:])


class Moody:
    """A handle whose store raises an error as long as there is one."""

    def __new__(cls, site: Any) -> Any:
        base: Any = type(site.store)

        class Store(base):  # type: ignore[misc]
            error: Exception | None = None
            only_appends = False
            only_session: str | None = None
            asked: list[float]

            async def due(self, kind: str, **options: Any) -> Any:
                self.asked.append(trio.current_time())
                if self.error is not None and not self.only_appends and not self.only_session:
                    raise self.error
                return await super().due(kind, **options)

            async def append(self, session_id: str, *args: Any, **options: Any) -> Any:
                if self.error is not None and self.only_session in (None, session_id):
                    self.asked.append(trio.current_time())
                    raise self.error
                return await super().append(session_id, *args, **options)

        store = Store(site.clock, backing=site.store)
        store.asked = []
        return store


async def test_a_poisoned_session_holds_up_no_other(site: Any, caplog: Any) -> None:
    """A session that cannot be read is tried less and less often; all others are served."""
    for number in range(20):
        await site.submit(f"s{number:02}")
    spoil(site, "s03")
    worker = site.worker(max_concurrent=1)
    async with site.working(worker):
        await site.until(lambda: worker.stats().runs == 19, within_s=20)
        await trio.sleep(3_600)
    stats = worker.stats()
    assert 10 <= stats.errors <= 30
    assert 1 == stats.backed_off
    shown = [record for record in caplog.records if record.levelname == "ERROR"]
    assert 1 == len(shown)
    assert LedgerCorrupt is shown[0].exc_info[0]


@pytest.mark.parametrize("error", [LedgerBusy("locked"), TransactionTimeout("slow")])
async def test_a_locked_session_holds_up_no_other(site: Any, error: Any, caplog: Any) -> None:
    """A session that somebody keeps locked rests by itself: the ledger is not away."""
    for number in range(20):
        await site.submit(f"s{number:02}")
    store = Moody(site)
    store.error, store.only_session = error, "s03"
    worker = site.worker(store=store, max_concurrent=1)
    async with site.working(worker):
        await site.until(lambda: worker.stats().runs == 19, within_s=5)
        assert (0, 0) == (worker.stats().outages, worker.stats().errors)
        store.error = None
        await site.until(lambda: worker.stats().runs == 20, within_s=60)
    assert [] == [record for record in caplog.records if record.levelname != "DEBUG"]


async def test_each_kind_of_error_is_shown_once(site: Any, caplog: Any) -> None:
    """Errors are logged in full when they are new, also while another kind goes on."""

    class Broken(type(site.store)):  # type: ignore[misc]
        async def lease_of(self, session_id: str) -> Any:
            if session_id[0] == "a":
                raise ValueError(session_id)
            if session_id[0] == "b":
                raise KeyError(session_id)
            raise KeyError("elsewhere")

    for name in ("a1", "a2", "b1", "b2", "c1"):
        await site.submit(name)
    worker = site.worker(store=Broken(site.clock, backing=site.store))
    async with site.working(worker):
        await trio.sleep(100)
    kinds = [record.exc_info[0] for record in caplog.records if record.levelname == "ERROR"]
    assert [KeyError, KeyError, ValueError] == sorted(kinds, key=lambda kind: kind.__name__)
    assert worker.stats().errors > 10


async def test_a_session_that_recovers_is_served(site: Any) -> None:
    """Once its trouble is over, a session is served, and no longer counts as backed off."""
    await site.submit()
    session = site.store._session("s")
    sound = session.rows[0]
    spoil(site, "s")
    worker = site.worker()
    async with site.working(worker):
        await trio.sleep(100)
        session.rows[0] = sound
        await site.until(site.is_settled, within_s=300)
        assert 0 == worker.stats().backed_off


async def test_a_failed_session_is_given_back(site: Any) -> None:
    """A worker that fails on a session holds no lease, so that another can try at once."""

    class Failing(type(site.store)):  # type: ignore[misc]
        async def append(self, *args: Any, **options: Any) -> Any:
            if options["lease"].action == "free":
                raise ZeroDivisionError
            return await super().append(*args, **options)

    await site.submit()
    worker = site.worker(store=Failing(site.clock, backing=site.store), owner="bad")
    async with site.working(worker):
        await site.until(lambda: worker.stats().errors, within_s=2)
        assert None is await site.owner()
        async with site.working(site.worker(owner="good")):
            await site.until(site.is_settled, within_s=2)
    assert worker.stats().errors >= 1


@pytest.mark.parametrize("error", [LedgerUnavailable("away"), LedgerFull("full")])
@pytest.mark.parametrize("only_appends", [False, True])
async def test_a_ledger_that_is_away_is_waited_for(
    site: Any, error: Exception, only_appends: Any, caplog: Any
) -> None:
    """While the ledger is away it is asked less and less often; when it is back all goes on."""
    store = Moody(site)
    store.error, store.only_appends = error, only_appends
    for number in range(5):
        await site.submit(f"s{number}")
    worker = site.worker(store=store)
    async with site.working(worker):
        await trio.sleep(1_000)
        tries = len(store.asked)
        assert tries <= (3_200 if only_appends else 250)
        assert 0 == worker.stats().errors
        assert worker.stats().outages >= 10
        store.error = None
        await site.until(lambda: worker.stats().runs == 5, within_s=40)
    messages = [record.message for record in caplog.records if "away" in record.message]
    assert 1 == len(messages)


async def test_a_short_outage_costs_no_lease(site: Any) -> None:
    """A run that met an outage goes on as soon as the ledger is back."""
    calls: list[float] = []

    async def decide(request: Any) -> Any:
        calls.append(trio.current_time())
        if len(calls) == 1:
            store.error = LedgerUnavailable("away")
            recovery.start_soon(come_back)
        return Respond("x")

    async def come_back() -> None:
        await trio.sleep(3)
        store.error = None

    store = Moody(site)
    await site.submit()
    async with trio.open_nursery() as recovery, site.working(site.worker(decide, store=store)):
        await site.until(site.is_settled, within_s=12)


@pytest.mark.parametrize("error", [LedgerUnavailable("away"), AppendUnknown("lost")])
async def test_every_single_fault_is_survived(site: Any, error: Exception) -> None:
    """Whichever append fails, the run ends, and the model is asked once more at most."""
    for number in range(1, 6):
        session_id = f"s{number}"
        await site.submit(session_id)
        ledger = FaultyLedger(site.handle(), {number: FailBefore(error)})
        site.requests.clear()
        worker = site.worker(store=ledger, owner=f"w{number}")
        async with site.working(worker):
            await site.until(lambda name=session_id: site.is_settled(name), within_s=60)
        assert sum(len(asked) for asked in site.requests) <= 2


async def test_a_closed_ledger_ends_the_worker(site: Any) -> None:
    """A handle that the host has closed will not come back: `run` raises, and says why."""
    store = Moody(site)
    worker = site.worker(store=store)
    store.error = LedgerClosed("closed")
    with pytest.raises(LedgerClosed):
        await worker.run()
    await site.submit()
    with pytest.raises(LedgerClosed):
        await worker.run()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("append", [1, 2])
async def test_a_crash_is_no_error(site: Any, append: int, when: Any) -> None:
    """A process that dies does not go on as if a session had an error; another worker does."""
    await site.submit()
    store = CrashingLedger(site.handle(), append, when)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with site.working(site.worker(store=store, owner="gone")):
            await trio.sleep(600)
    assert caught.group_contains(SimulatedCrash)
    async with site.working(site.worker(owner="next")):
        await site.until(site.is_settled, within_s=60)


async def test_what_rests_is_bounded(site: Any) -> None:
    """However many sessions go wrong, only so many are remembered."""
    ids = ScriptedIds(fractions=iter(Random(5).random, None))
    worker = site.worker(max_concurrent=50, page_size=1_000, ids=ids)
    worker._parts.resting["run"].limit = 100
    for number in range(300):
        await site.submit(f"s{number:03}")
        spoil(site, f"s{number:03}")
    await site.submit("t")
    async with site.working(worker):
        await site.until(lambda: site.is_settled("t"), within_s=60)
        await trio.sleep(5)
    assert 100 == worker.stats().backed_off
