"""The in-memory ledger keeps every promise of the contract."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import pytest

from rainengine.core.abc import LeaseChange, OutboxItem
from rainengine.core.codec import MAX_PAYLOAD_BYTES
from rainengine.core.errors import InadmissibleValue, InvalidConfiguration, LeaseHeld
from rainengine.core.inmemory import InMemoryLedger, LedgerStats, open_memory_url
from rainengine.core.testing import LEDGER_CHECKS, WORK_CHECKS, LedgerCheck, ScriptedClock
from rainengine.core.testing._samples import note


@attrs.define
class InMemoryMaker:
    """Opens handles on one backing store and moves its clock by hand."""

    clock: ScriptedClock = attrs.field(factory=ScriptedClock)
    backing: InMemoryLedger | None = None
    options: dict[str, int] = attrs.field(factory=dict)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[InMemoryLedger]:
        handle = InMemoryLedger(self.clock, backing=self.backing, **self.options)
        self.backing = self.backing or handle
        yield handle

    async def let_pass(self, ms: int) -> None:
        self.clock.jump(ms)


@pytest.mark.parametrize("check", [*LEDGER_CHECKS, *WORK_CHECKS], ids=lambda check: check.__name__)
async def test_contract(check: LedgerCheck) -> None:
    """The in-memory ledger keeps the promise that the check states."""
    await check(InMemoryMaker())


async def test_its_largest_record_is_an_option() -> None:
    """A handle takes what it was told to take, for all tenants, whatever it shares."""
    (check,) = [c for c in LEDGER_CHECKS if c.__name__ == "check_what_is_too_large_is_refused"]
    await check(InMemoryMaker(options={"max_payload_bytes": 2_000}))
    store = InMemoryLedger(max_payload_bytes=2_000)
    caps = [ledger.max_payload_bytes for ledger in (store, store.for_tenant("acme"))]
    assert caps == [2_000, 2_000]
    assert InMemoryLedger(backing=store).max_payload_bytes == MAX_PAYLOAD_BYTES


async def test_a_lease_ends_on_the_millisecond() -> None:
    """A lease holds until just before its expiry and not a millisecond longer."""
    clock = FixedClock()
    ledger = InMemoryLedger(clock)
    await ledger.append("s", [note()], expected=None, lease=LeaseChange("take", "a", 1_000))
    clock.ms += 999
    with pytest.raises(LeaseHeld):
        await ledger.append("s", [note()], expected=None, lease=LeaseChange("take", "b", 1_000))
    clock.ms += 1
    taken = await ledger.append("s", [note()], expected=None, lease=LeaseChange("take", "b", 1_000))
    assert taken.fence == 2


@attrs.define
class FixedClock:
    """A clock that moves only by hand."""

    ms: int = 0

    def now_ms(self) -> int:
        return self.ms


async def test_it_counts_what_it_wrote() -> None:
    """Counters cover all tenants of a handle, and neither failures nor another handle's writes."""
    store = InMemoryLedger()
    other = InMemoryLedger(backing=store)
    await store.append("s", [note(), note()], expected=None)
    await store.for_tenant("acme").append("s", [note()], expected=None)
    with pytest.raises(InadmissibleValue):
        await store.append("s", [note("\0")], expected=None)
    await other.append("s", [note()], expected=None)
    assert store.stats() == LedgerStats(commits=2, appends=2, records=3)
    assert other.stats() == LedgerStats(commits=1, appends=1, records=1)


async def test_it_keeps_what_is_to_be_delivered() -> None:
    """Outbox items stand under the last sequence of their append, in order."""
    ledger = InMemoryLedger()
    items = [OutboxItem(topic="t", payload={"n": n}) for n in range(2)]
    await ledger.append("s", [note(), note()], expected=None, outbox=items)
    rows = await ledger.read_outbox("s")
    found = [(row.sequence, row.ordinal, row.topic, row.payload) for row in rows]
    assert found == [(2, 0, "t", '{"n":0}'), (2, 1, "t", '{"n":1}')]


async def test_it_opens_by_its_url() -> None:
    """`memory:` opens an empty store each time; another URL is refused, and not repeated."""
    async with open_memory_url("memory:") as one, open_memory_url("memory:") as other:
        await one.append("s", [note()], expected=None)
        assert (await other.head("s")).sequence == 0
    with pytest.raises(InvalidConfiguration, match="memory:") as caught:
        async with open_memory_url("memory://user:secret@host"):
            pass
    assert "secret" not in str(caught.value)
