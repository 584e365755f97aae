"""The outbox: delivered in order, at least once, tried again, given up, and cleared away."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from rainengine.core.errors import LedgerUnavailable, Undeliverable
from rainengine.core.records import RetryPolicy

SHORT = RetryPolicy(max_attempts=3, initial_interval_ms=1_000, max_interval_ms=8_000)


async def letters(site: Any, tenant: str = "default") -> list[tuple[Any, int, str | None]]:
    """What was given up: payload, attempts, and the last error."""
    found = await site.store.dead_letters(tenant)
    return [(letter.entry.payload, letter.entry.attempts, letter.error) for letter in found]


async def test_rows_are_delivered_in_order(site: Any, publisher_that: Any) -> None:
    """All rows of all sessions and tenants go out once, each topic's in order."""
    for number in range(10):
        await site.leave("s", ("a", number), ("b", number + 100))
        await site.leave("t", ("a", number + 200), tenant="acme")
    publisher = publisher_that()
    worker = site.worker(publisher=publisher)
    async with site.working(worker):
        await trio.sleep(1)
    topics: dict[tuple[str, str], list[int]] = {}
    for entry in publisher.given:
        topics.setdefault((entry.tenant, entry.topic), []).append(entry.payload)
    assert {
        ("default", "a"): list(range(10)),
        ("default", "b"): list(range(100, 110)),
        ("acme", "a"): list(range(200, 210)),
    } == topics
    assert (30, 0, 0) == (
        worker.stats().delivered,
        worker.stats().failed,
        worker.stats().dead,
    )


async def test_without_a_publisher_the_outbox_is_left_alone(site: Any, publisher_that: Any) -> None:
    """A worker that has no publisher does not touch the outbox; a later one delivers it."""
    await site.leave("s", ("a", 1))
    async with site.working(site.worker()):
        await trio.sleep(100)
    publisher = publisher_that()
    async with site.working(site.worker(publisher=publisher)):
        await trio.sleep(1)
    assert [(1, 1)] == [(entry.payload, entry.attempts) for entry in publisher.given]


async def test_more_than_a_batch_is_delivered_at_once(site: Any, publisher_that: Any) -> None:
    """A session with many rows does not wait for a poll between batches."""
    for number in range(20):
        await site.leave("s", *(("a", number * 10 + one) for one in range(10)))
    publisher = publisher_that()
    async with site.working(site.worker(publisher=publisher, outbox_batch=8, poll_interval_s=60)):
        await trio.sleep(1)
    assert list(range(200)) == publisher.payloads


async def test_a_failure_is_tried_again_and_holds_its_topic(site: Any, publisher_that: Any) -> None:
    """Later rows of the topic wait behind a row that fails; other topics go on."""
    attempts: Counter[Any] = Counter()

    async def fail_twice(entry: Any) -> None:
        attempts[entry.payload] += 1
        if entry.payload == "a1" and attempts["a1"] < 3:
            raise ConnectionError("no route")

    await site.leave("s", ("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2"))
    publisher = publisher_that(fail_twice)
    worker = site.worker(publisher=publisher)
    async with site.working(worker):
        await trio.sleep(20)
    assert ["b1", "b2"] == [text for text in publisher.payloads if text[0] == "b"]
    assert ["a1", "a1", "a1", "a2"] == [text for text in publisher.payloads if text[0] == "a"]
    assert "a2" == publisher.payloads[-1]
    assert {"a1": 3, "a2": 1, "b1": 1, "b2": 1} == attempts
    assert (4, 2) == (worker.stats().delivered, worker.stats().failed)
    assert [1, 2, 3] == [entry.attempts for entry in publisher.given if entry.payload == "a1"]


async def test_waits_grow_with_full_jitter(site: Any, publisher_that: Any) -> None:
    """Each wait is drawn up to a ceiling that doubles until it is at its highest."""

    async def fail(_: Any) -> None:
        raise ConnectionError

    await site.leave("s", ("a", 1))
    publisher = publisher_that(fail)
    policy = RetryPolicy(max_attempts=8, initial_interval_ms=4_000, max_interval_ms=60_000)
    worker = site.worker(publisher=publisher, publish_retry=policy, poll_interval_s=0.1)
    async with site.working(worker):
        await trio.sleep(400)
    waits = [after - before for before, after in pairwise(publisher.times)]
    for wait, ceiling in zip(waits, [4, 8, 16, 32, 60, 60, 60], strict=True):
        assert ceiling / 2 <= wait <= ceiling / 2 + 0.2


async def test_a_row_that_keeps_failing_dies(site: Any, publisher_that: Any) -> None:
    """After so many attempts a row is dead, with its last error, and the later ones go out."""

    async def fail(entry: Any) -> None:
        if entry.payload == "bad":
            raise ConnectionError("refused \0")

    await site.leave("s", ("a", "bad"), ("a", "good"))
    publisher = publisher_that(fail)
    worker = site.worker(publisher=publisher, publish_retry=SHORT)
    async with site.working(worker):
        await trio.sleep(30)
    assert ["bad", "bad", "bad", "good"] == publisher.payloads
    assert [("bad", 3, "ConnectionError: refused \ufffd")] == await letters(site)
    assert (1, 2, 1) == (worker.stats().delivered, worker.stats().failed, worker.stats().dead)


async def test_what_will_never_be_accepted_dies_at_once(site: Any, publisher_that: Any) -> None:
    """`Undeliverable` is not tried again, and the rows after it go out in the same batch."""

    async def refuse(entry: Any) -> None:
        if entry.payload == "bad":
            raise Undeliverable("no such stream")

    await site.leave("s", ("a", "bad"), ("a", "good"))
    publisher = publisher_that(refuse)
    async with site.working(site.worker(publisher=publisher)):
        await trio.sleep(1)
    assert ["bad", "good"] == publisher.payloads
    assert [("bad", 1, "Undeliverable: no such stream")] == await letters(site)


async def test_a_dead_row_can_be_tried_again(site: Any, publisher_that: Any) -> None:
    """`redrive` puts a dead row back, and the worker delivers it."""
    accepts: list[bool] = []

    async def refuse(_: Any) -> None:
        if not accepts:
            raise Undeliverable

    await site.leave("s", ("a", 1))
    worker = site.worker(publisher=publisher_that(refuse))
    async with site.working(worker):
        await trio.sleep(2)
        accepts.append(True)
        (letter,) = await site.store.dead_letters("default")
        assert await site.store.redrive(letter.entry)
        await trio.sleep(2)
    assert (1, 1) == (worker.stats().dead, worker.stats().delivered)


async def test_a_publisher_that_hangs_is_cut_off(site: Any, publisher_that: Any) -> None:
    """It has `publish_timeout_s` for a row; that counts as a failure, and others go on."""

    async def hang(entry: Any) -> None:
        if entry.topic == "slow":
            await trio.sleep_forever()

    await site.leave("s", ("slow", 1), ("fast", 2))
    await site.leave("t", ("fast", 3))
    publisher = publisher_that(hang)
    worker = site.worker(publisher=publisher, publish_retry=SHORT, publish_timeout_s=5)
    async with site.working(worker):
        await trio.sleep(4)
        assert {1, 2, 3} == set(publisher.payloads)
        await trio.sleep(60)
    assert [(1, 3, "not published within 5 s")] == await letters(site)
    given = zip(publisher.times, publisher.given, strict=True)
    slow = [at for at, entry in given if entry.topic == "slow"]
    assert all(after - before >= 5 for before, after in pairwise(slow))


async def test_two_workers_never_publish_a_row_together(site: Any, publisher_that: Any) -> None:
    """Even where every publication takes almost its whole time, no claim runs out under it."""
    busy: set[str] = set()
    doubled: list[str] = []

    async def slowly(entry: Any) -> None:
        if entry.key in busy:
            doubled.append(entry.key)
        busy.add(entry.key)
        await trio.sleep(9.9)
        busy.discard(entry.key)

    for name in ("s", "t"):
        await site.leave(name, *(("a", number) for number in range(10)))
    publisher = publisher_that(slowly)
    workers = [site.worker(publisher=publisher, owner=name) for name in ("one", "two")]
    async with site.working(*workers):
        await trio.sleep(300)
    assert [] == doubled
    assert 20 == len(publisher.given)
    assert {1} == {entry.attempts for entry in publisher.given}


async def test_a_worker_that_dies_while_publishing(site: Any, publisher_that: Any) -> None:
    """Its rows are claimed again when the claim has run out, and go out again: at least once."""

    async def hang(_: Any) -> None:
        await trio.sleep_forever()

    class Dead(type(site.store)):  # type: ignore[misc]
        async def settle(self, reports: Any) -> None:
            raise LedgerUnavailable("away")

    await site.leave("s", ("a", 1))
    first, second = publisher_that(hang), publisher_that()
    store = Dead(site.clock, backing=site.store)
    async with site.working(site.worker(store=store, publisher=first)):
        await trio.sleep(5)
    async with site.working(site.worker(publisher=second)):
        await trio.sleep(30)
        assert [] == second.payloads
        await trio.sleep(10)
    assert ([1], 2) == (second.payloads, second.given[0].attempts)


async def test_what_was_published_is_settled_when_cancelled(site: Any, publisher_that: Any) -> None:
    """A cancelled worker still records what went out, and gives the rest back untried."""

    async def hang_later(entry: Any) -> None:
        if entry.payload == 3:
            await trio.sleep_forever()

    await site.leave("s", *(("a", number) for number in range(1, 6)))
    first, second = publisher_that(hang_later), publisher_that()
    async with site.working(site.worker(publisher=first)):
        await trio.sleep(2)
    async with site.working(site.worker(publisher=second, owner="two")):
        await trio.sleep(1)
    assert ([1, 2, 3], [3, 4, 5]) == (first.payloads, second.payloads)
    assert {1} == {entry.attempts for entry in second.given}


async def test_a_short_outage_publishes_nothing_again(site: Any, publisher_that: Any) -> None:
    """What was published while the ledger was away for a moment is recorded when it is back."""

    class Shaky(type(site.store)):  # type: ignore[misc]
        async def settle(self, reports: Any) -> None:
            if trio.current_time() < began + 3:
                raise LedgerUnavailable("away")
            await super().settle(reports)

    began = trio.current_time()
    await site.leave("s", ("a", 1), ("a", 2))
    publisher = publisher_that()
    worker = site.worker(store=Shaky(site.clock, backing=site.store), publisher=publisher)
    async with site.working(worker):
        await trio.sleep(120)
    assert [1, 2] == publisher.payloads
    assert (2, 0) == (worker.stats().delivered, worker.stats().outages)


async def test_old_rows_are_discarded(site: Any, publisher_that: Any) -> None:
    """Delivered rows are deleted when they are a week old, and dead ones are kept."""

    async def refuse(entry: Any) -> None:
        if entry.payload == "bad":
            raise Undeliverable

    await site.leave("s", ("a", "good"), ("a", "bad"))
    worker = site.worker(publisher=publisher_that(refuse), poll_interval_s=3_600)
    async with site.working(worker):
        await trio.sleep(6 * 24 * 3_600)
        assert 0 == worker.stats().discarded
        await trio.sleep(2 * 24 * 3_600)
        assert 1 == worker.stats().discarded
    assert 1 == len(await letters(site))


ROWS = st.lists(
    st.tuples(st.sampled_from("st"), st.sampled_from("ab"), st.integers(0, 3)), max_size=16
)


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, poisoned=st.integers(0, 20))
def test_order_holds_whatever_fails(
    rows: Any, poisoned: int, new_site: Any, publisher_that: Any, run_trio: Any
) -> None:
    """Two workers deliver all rows but the poisoned one, and begin each topic's in order."""

    async def main() -> None:
        site = new_site()
        tries: Counter[int] = Counter()

        async def behave(entry: Any) -> None:
            number, failures = entry.payload
            tries[number] += 1
            if number == poisoned or tries[number] <= min(failures, 2):
                raise ConnectionError

        for number, (session_id, topic, failures) in enumerate(rows):
            await site.leave(session_id, (topic, [number, failures]))
        publisher = publisher_that(behave)
        options = {"publish_retry": SHORT, "outbox_batch": 3, "poll_interval_s": 4}
        workers = [site.worker(publisher=publisher, owner=name, **options) for name in "ab"]
        async with site.working(*workers):
            await trio.sleep(200)
        firsts: dict[Any, list[int]] = {}
        for entry in publisher.given:
            topic = firsts.setdefault((entry.session_id, entry.topic), [])
            if entry.payload[0] not in topic:
                topic.append(entry.payload[0])
        assert all(topic == sorted(topic) for topic in firsts.values())
        assert set(range(len(rows))) == {number for topic in firsts.values() for number in topic}
        dead = [number for (number, _), *_ in await letters(site)]
        assert [poisoned][: poisoned < len(rows)] == dead

    run_trio(main)
