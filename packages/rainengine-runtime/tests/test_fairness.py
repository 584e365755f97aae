"""Every tenant has its turn, and every session of a tenant."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from rainengine.core import Respond
from rainengine.core.abc import DueSession
from rainengine.core.testing import ScriptedIds
from rainengine.runtime._scanning import Scanner
from rainengine.runtime._waiting import WaitingLine


@attrs.define
class FakeQueue:
    """A work queue over a list of tenants and sessions."""

    sessions: list[tuple[str, str]]
    asked: int = 0

    async def due(self, kind: str, *, now_ms: Any, after: Any, limit: int) -> list[DueSession]:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        found = [place for place in sorted(self.sessions) if self._is_after(place, after)]
        return [
            DueSession(tenant=tenant, session_id=session_id, agent=None)
            for tenant, session_id in found[:limit]
        ]

    def _is_after(self, place: tuple[str, str], after: Any) -> bool:
        if after is None:
            return True
        tenant, session_id = after
        return place[0] > tenant or (place[0] == tenant and place[1] > (session_id or "\U0010ffff"))


def scanner_of(queue: Any, page_size: int = 4, fractions: Any = ()) -> Scanner:
    """A scanner of a queue."""
    return Scanner(
        queue=queue,
        kind="run",
        page_size=page_size,
        fraction=ScriptedIds(fractions=fractions).fraction,
        now_ms=lambda: None,
    )


async def round_of(scanner: Scanner) -> list[tuple[str, str]]:
    """Everything that one round finds."""
    scanner.begin()
    found: list[tuple[str, str]] = []
    while (page := await scanner.next_page()) is not None:
        found += [(session.tenant, session.session_id) for session in page]
    return found


async def test_a_round_visits_every_tenant() -> None:
    """However many sessions a tenant has, those of the others are found in the same round."""
    queue = FakeQueue([("big", f"{n:05}") for n in range(10_000)])
    queue.sessions += [("aaa", "s"), ("zzz", "s"), ("zzzz", "s")]
    found = await round_of(scanner_of(queue))
    assert {"aaa", "big", "zzz", "zzzz"} == {tenant for tenant, _ in found}
    assert queue.asked <= 4


async def test_what_was_jumped_over_is_visited_in_the_next_rounds() -> None:
    """Each round goes on within a tenant where the last one ended, and begins anew at its end."""
    queue = FakeQueue([("big", f"{n:02}") for n in range(10)])
    scanner = scanner_of(queue)
    rounds = [sorted(session for _, session in await round_of(scanner)) for _ in range(4)]
    assert [["00", "01", "02", "03"], ["04", "05", "06", "07"], ["08", "09"]] == rounds[:3]
    assert ["00", "01", "02", "03"] == rounds[3]


async def test_a_long_round_begins_anywhere() -> None:
    """Once there are pages of tenants, rounds begin at random ones, and still visit all."""
    queue = FakeQueue([(f"t{n:02}", "s") for n in range(40)])
    scanner = scanner_of(queue)
    first = await round_of(scanner)
    second = await round_of(scanner)
    assert set(first) == set(second)
    assert "t00" == first[0][0]
    assert "t00" != second[0][0]


async def test_an_empty_queue_costs_one_question() -> None:
    """Where nothing is due the store is asked once a round."""
    queue = FakeQueue([])
    scanner = scanner_of(queue)
    for _ in range(5):
        assert [] == await round_of(scanner)
    assert 5 == queue.asked


PLACES = st.sets(st.tuples(st.sampled_from("abcdef"), st.sampled_from("0123456789")), max_size=40)


@settings(max_examples=100, deadline=None)
@given(
    places=PLACES,
    page_size=st.integers(1, 7),
    fractions=st.lists(st.floats(0, 1, exclude_max=True), max_size=50),
)
def test_no_session_is_missed(places: Any, page_size: int, fractions: Any, run_trio: Any) -> None:
    """Each round visits every tenant; a session is found after as many as its tenant has pages."""

    async def main() -> None:
        queue = FakeQueue(sorted(places))
        scanner = scanner_of(queue, page_size, fractions)
        found: set[tuple[str, str]] = set()
        for _ in range(2 * (10 // page_size + 2)):
            one = await round_of(scanner)
            assert {tenant for tenant, _ in places} == {tenant for tenant, _ in one}
            assert len(one) <= len(places) + page_size
            found |= set(one)
        assert places == found

    run_trio(main)


def test_tenants_wait_in_turns() -> None:
    """The line takes tenants one after another, and each one's sessions as they came."""
    line = WaitingLine()
    for tenant, session_id in ["a1", "a2", "a3", "b1", "c1", "b2"]:
        line.push(DueSession(tenant=tenant, session_id=session_id, agent=None))
    assert 6 == len(line)
    assert ["a1", "b1", "c1", "a2", "b2", "a3"] == [
        f"{session.tenant}{session.session_id}" for session in (line.pop() for _ in range(6))
    ]
    assert 0 == len(line)


@pytest.mark.parametrize("crowd", [300])
async def test_a_crowd_does_not_delay_another_tenant(site: Any, crowd: int) -> None:
    """A tenant's one session is served within two runs' time though another has hundreds due."""

    async def decide(request: Any) -> Any:
        await trio.sleep(1)
        return Respond(request.context.tenant)

    for number in range(crowd):
        await site.submit(f"s{number:04}", tenant="big")
    worker = site.worker(decide, max_concurrent=4, page_size=10)
    async with site.working(worker):
        await trio.sleep(10)
        await site.submit("one", tenant="small")
        await site.until(lambda: site.is_settled("one", "small"), within_s=5)
        assert worker.stats().runs < 80
        await site.until(lambda: worker.stats().runs == crowd + 1, within_s=crowd / 4 + 10)


async def test_a_tenant_has_its_share_of_a_page(site: Any) -> None:
    """Only a few sessions of one tenant are taken before the next tenant's."""
    served: list[str] = []

    async def decide(request: Any) -> Any:
        served.append(request.context.tenant)
        await trio.sleep(1)
        return Respond("x")

    for number in range(60):
        await site.submit(f"s{number:02}", tenant="big")
    for tenant in ("small", "tiny"):
        await site.submit(tenant=tenant)
    async with site.working(site.worker(decide, max_concurrent=2, sessions_per_tenant=2)):
        await trio.sleep(10)
    assert {"small", "tiny"} < set(served[:6])


async def test_tenants_take_turns(site: Any) -> None:
    """With work in every tenant all the time, no tenant is far ahead of another."""
    served: Counter[str] = Counter()

    async def decide(request: Any) -> Any:
        served[request.context.tenant] += 1
        await trio.sleep(1)
        return Respond("x")

    for tenant in range(30):
        for number in range(10):
            await site.submit(f"s{number}", tenant=f"t{tenant:02}")
    worker = site.worker(decide, max_concurrent=2, sessions_per_tenant=1, page_size=60)
    async with site.working(worker):
        await trio.sleep(90)
    assert 30 == len(served)
    assert max(served.values()) - min(served.values()) <= 2


async def test_a_crowd_is_served_without_gaps(site: Any) -> None:
    """With more due than can be taken, no place stays empty until the next poll."""

    async def decide(_: Any) -> Any:
        await trio.sleep(0.1)
        return Respond("x")

    for number in range(200):
        await site.submit(f"s{number:03}")
    worker = site.worker(decide, max_concurrent=4, page_size=10, poll_interval_s=10)
    async with site.working(worker):
        await site.until(lambda: worker.stats().runs == 200, within_s=200 / 4 * 0.1 + 1)


async def test_long_queues_do_not_keep_others_out(site: Any) -> None:
    """Sessions with more and more to do give their places up to others that are due."""
    served: Counter[str] = Counter()

    async def decide(request: Any) -> Any:
        served[request.context.session_id] += 1
        await site.submit(request.context.session_id)
        await trio.sleep(1)
        return Respond("x")

    for number in range(20):
        await site.submit(f"s{number:02}")
    ids = ScriptedIds(fractions=iter(Random(5).random, None))
    async with site.working(site.worker(decide, max_concurrent=2, ids=ids)):
        await trio.sleep(60)
    assert 20 == len(served)
    assert max(served.values()) - min(served.values()) <= 12
