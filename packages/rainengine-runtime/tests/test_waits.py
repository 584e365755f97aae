"""Runs that wait for an answer cost a worker nothing, and it takes answers in by itself."""

from __future__ import annotations

from typing import Any

import trio

from rainengine.core import Approval, ProcessRequest, Respond, Suspend
from rainengine.core.records import OutcomeRecord, PendingApproval

DAY_S = 86_400


def ask_first(request: Any) -> Any:
    """A model that asks a person before it answers."""
    return Suspend(reason="may I?") if request.context.step == 1 else Respond("done")


async def answered(site: Any) -> None:
    """Bring the person's answer in, as a host does."""
    (pending,) = await site.stored(PendingApproval)
    trigger = Approval(resume_token=pending.resume_token, decision="approved")
    request = ProcessRequest(
        session_id="s", trigger=trigger, granted_scopes=("scope:human_approval",)
    )
    await site.engine().submit(request)


async def test_a_run_that_waits_is_nobodys_work(site: Any) -> None:
    """A worker brings it to where it waits, and does not look at it again."""
    await site.submit()
    worker = site.worker(ask_first)
    async with site.working(worker):
        await trio.sleep(3_600)
    assert (1, 1, 0) == (worker.stats().advances, worker.stats().runs, worker.stats().wakes)
    assert ([None], None) == (await site.answers(), await site.owner())


async def test_a_worker_takes_an_answer_in(site: Any) -> None:
    """An answer that is submitted is taken in like any trigger, and the run goes on to its end."""
    await site.submit()
    async with site.working(site.worker(ask_first)):
        await trio.sleep(60)
        await answered(site)
        await trio.sleep(60)
    assert ([None, "done"], None) == (await site.answers(), await site.owner())


async def test_a_worker_ends_waits_that_are_over(site: Any) -> None:
    """A run whose approval has expired ends by itself, a day later by default."""
    await site.submit()
    async with site.working(site.worker(ask_first, poll_interval_s=60)):
        await trio.sleep(DAY_S - 60)
        assert 1 == len(await site.stored(OutcomeRecord))
        await trio.sleep(240)
    outcome = (await site.stored(OutcomeRecord))[-1]
    assert ("cancelled", "nobody answered in time") == (outcome.stop_reason, outcome.detail)


async def test_a_worker_ends_all_that_were_cancelled(site: Any) -> None:
    """Several runs that wait and are cancelled together all end, and the session is left alone."""
    for key in ("a", "b", "c"):
        await site.submit(key=key)
    worker = site.worker(ask_first)
    async with site.working(worker):
        await trio.sleep(60)
        await site.engine().cancel("s", "enough")
        await trio.sleep(60)
        before = worker.stats().advances
        await trio.sleep(600)
    assert ["suspended"] * 3 + ["cancelled"] * 3 == [
        outcome.stop_reason for outcome in await site.stored(OutcomeRecord)
    ]
    assert before == worker.stats().advances
