"""The answer to a COMMIT is lost on the way: what was appended stands once, whatever was done."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from uuid import uuid4

import attrs
import psycopg
import pytest
import trio

from rainengine.core import verify_session
from rainengine.core.abc import LeaseChange, OutboxItem, SessionIndex, SessionQuery
from rainengine.core.errors import AppendUnknown, LedgerBusy, SequenceConflict
from rainengine.core.records import (
    KernelEventRecord,
    MemoryArchived,
    Message,
    NewRecord,
    TriggerRecord,
)
from rainengine.store_pg import PostgresSettings, open_postgres_ledger
from rainengine.store_sql import SqlLedger, SqlLedgerStore
from testbed.proxy import (
    Fault,
    Proxy,
    RoundTrip,
    black_hole,
    cut_answer,
    late_request,
    lose_answer,
    lose_request,
    open_proxy,
    swallow_answer,
)

BATCH = "INSERT INTO rainengine_records"
HOUR_MS = 3_600_000
TAKE = LeaseChange("take", "me", HOUR_MS)
RUNNING = SessionIndex(state="running", agent="a")
SETTINGS = {"": PostgresSettings(), "pooler": PostgresSettings(pooler=True)}

Operation: TypeAlias = Callable[[SqlLedger], Awaitable[Any]]


def _note(content: str = "note") -> NewRecord:
    return NewRecord(KernelEventRecord(MemoryArchived(note_id="n", content=content)), 0)


def _trigger(key: str) -> NewRecord:
    message = Message(user_id="u", content="hello")
    return NewRecord(TriggerRecord(trigger_id=key, trigger=message, body_hash=""), 0, key, key)


async def _in_a_known_session(ledger: SqlLedger) -> Any:
    head = await ledger.head("known")
    outbox = [OutboxItem(topic="t", payload=n) for n in range(2)]
    return await ledger.append(
        "known", [_note("1"), _note("2")], expected=head, fence=1, index=RUNNING, outbox=outbox
    )


async def _in_a_new_session(ledger: SqlLedger) -> Any:
    return await ledger.append(
        "new", [_trigger("k"), _note()], expected=await ledger.head("new"), lease=TAKE
    )


async def _intake(ledger: SqlLedger) -> Any:
    return await ledger.append("known", [_trigger("k")], expected=None)


async def _intake_in_a_new_session(ledger: SqlLedger) -> Any:
    return await ledger.append("new", [_trigger("k")], expected=None, index=RUNNING)


async def _take(ledger: SqlLedger) -> Any:
    return await ledger.append("known", [], expected=await ledger.head("known"), lease=TAKE)


async def _extend(ledger: SqlLedger) -> Any:
    return await ledger.heartbeat("known", owner="me", fence=1, ttl_ms=2 * HOUR_MS)


async def _free(ledger: SqlLedger) -> Any:
    return await ledger.release("known", owner="me", fence=1)


OPERATIONS: dict[str, Operation] = {
    "append": _in_a_known_session,
    "first append": _in_a_new_session,
    "intake": _intake,
    "first intake": _intake_in_a_new_session,
    "take": _take,
    "heartbeat": _extend,
    "release": _free,
}


@attrs.frozen(kw_only=True)
class Place:
    """A ledger by way of a proxy, and straight; in both the session `known` is held by `me`."""

    url: str
    proxy: Proxy
    store: SqlLedgerStore
    straight: SqlLedgerStore

    async def tenant(self) -> str:
        """A new tenant that has that session."""
        tenant = uuid4().hex
        ledger = self.store.for_tenant(tenant)
        await ledger.append("known", [_note("0")], expected=None, lease=TAKE)
        return tenant

    async def picture(self, tenant: str) -> object:
        """All that there is of a tenant, but for times, hashes and fences, once it is verified."""
        ledger = self.straight.for_tenant(tenant)
        sessions = (await ledger.list_sessions(SessionQuery())).sessions
        for info in sessions:
            await verify_session(ledger, info.session_id)
        return {
            info.session_id: (
                info.head.sequence,
                info.state,
                info.agent,
                info.lease_owner,
                [entry.payload for entry in await ledger.read_encoded(info.session_id)],
                await trio.to_thread.run_sync(self._outbox, tenant, info.session_id),
            )
            for info in sessions
        }

    def _outbox(self, *key: str) -> list[Any]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(
                "SELECT sequence, ordinal, topic, payload FROM rainengine_outbox"
                " WHERE (tenant, session_id) = (%s, %s) ORDER BY 1, 2",
                key,
            ).fetchall()


@asynccontextmanager
async def _place(url: str, settings: PostgresSettings) -> AsyncGenerator[Place]:
    with trio.fail_after(60):
        async with (
            open_proxy(url) as proxy,
            open_postgres_ledger(proxy.url, settings=settings) as store,
            open_postgres_ledger(url) as straight,
        ):
            yield Place(url=url, proxy=proxy, store=store, straight=straight)


async def _check_result(place: Place, tenant: str, result: Any) -> None:
    """What the caller was told is how it is."""
    ledger = place.straight.for_tenant(tenant)
    session_id = "new" if (await ledger.head("new")).sequence else "known"
    lease = await ledger.lease_of(session_id)
    if isinstance(result, type(lease.head)):
        assert result == lease.head
    elif result is not None:
        assert (result.head, result.fence) == (lease.head, lease.fence)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
@pytest.mark.parametrize("fault", [lose_request, lose_answer, cut_answer])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=list(OPERATIONS))
async def test_a_lost_commit_is_done_once(
    operation: Operation, fault: Fault, settings: PostgresSettings, ledger_url: str
) -> None:
    """The server has or has not got the statement: its caller succeeds, as if nothing had been."""
    async with _place(ledger_url, settings) as place:
        twin, tenant = await place.tenant(), await place.tenant()
        await operation(place.straight.for_tenant(twin))
        place.proxy.arm(fault, on=BATCH)
        result = await operation(place.store.for_tenant(tenant))
        assert not place.proxy.armed
        assert await place.picture(tenant) == await place.picture(twin)
        await _check_result(place, tenant, result)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=list(OPERATIONS))
async def test_a_statement_that_comes_late_does_nothing(
    operation: Operation, ledger_url: str
) -> None:
    """A statement that reaches the server long after it was sent again finds nothing to do."""
    until, done = trio.Event(), trio.Event()
    async with _place(ledger_url, PostgresSettings()) as place:
        twin, tenant = await place.tenant(), await place.tenant()
        await operation(place.straight.for_tenant(twin))
        place.proxy.arm(late_request(until, done=done), on=BATCH)
        result = await operation(place.store.for_tenant(tenant))
        await _check_result(place, tenant, result)
        before = await place.picture(tenant)
        lease = await place.straight.for_tenant(tenant).lease_of("known")
        until.set()
        await done.wait()
        assert await place.picture(tenant) == before == await place.picture(twin)
        assert await place.straight.for_tenant(tenant).lease_of("known") == lease


def _and_somebody_else(fault: Fault, ledger: SqlLedger) -> Fault:
    """What a fault does, with an append of somebody else's before the client learns of it."""

    async def strike(trip: RoundTrip) -> None:
        if fault is lose_answer:
            await trip.forward()
            await trip.answered()
        await ledger.append("s", [_note("other")], expected=None)
        trip.cut()

    return strike


@pytest.mark.parametrize(
    ("fault", "upon", "stands"),
    [
        (lose_request, "any head", ["other", "ours"]),
        (lose_answer, "any head", ["ours", "other"]),
        (lose_answer, "a head", ["ours", "other"]),
    ],
)
async def test_somebody_else_comes_in_between(
    fault: Fault, upon: str, stands: list[str], ledger_url: str
) -> None:
    """What was stored is told as stored, and intake that was not comes behind."""
    async with _place(ledger_url, PostgresSettings()) as place:
        first = await place.store.append("s", [_note("first")], expected=None)
        place.proxy.arm(_and_somebody_else(fault, place.straight), on=BATCH)
        head = first.head if upon == "a head" else None
        done = await place.store.append("s", [_note("ours")], expected=head)
        assert await _contents(place.straight) == ["first", *stands]
        assert stands[done.first_sequence - 2] == "ours"


async def test_what_was_lost_is_refused_once_somebody_else_came(ledger_url: str) -> None:
    """What was decided upon a head and never arrived is a conflict when that head has passed."""
    async with _place(ledger_url, PostgresSettings()) as place:
        first = await place.store.append("s", [_note("first")], expected=None)
        place.proxy.arm(_and_somebody_else(lose_request, place.straight), on=BATCH)
        with pytest.raises(SequenceConflict):
            await place.store.append("s", [_note("ours")], expected=first.head)
        assert await _contents(place.straight) == ["first", "other"]


async def _contents(ledger: SqlLedger, session_id: str = "s") -> list[str]:
    events = [stored.record.event for stored in await ledger.read(session_id)]
    return [event.content for event in events if isinstance(event, MemoryArchived)]


@pytest.mark.parametrize("fault", [lose_request, lose_answer])
async def test_a_whole_batch_is_lost(fault: Fault, ledger_url: str) -> None:
    """Every append of a lost batch is stored once, those of new sessions as well."""
    async with _place(ledger_url, PostgresSettings()) as place:
        for n in range(0, 32, 2):
            await place.store.append(f"s{n}", [_note("first")], expected=None)
        place.proxy.arm(fault, on=BATCH)
        async with trio.open_nursery() as nursery:
            for n in range(32):
                nursery.start_soon(_append_ours, place.store, f"s{n}")
        for n in range(32):
            first = [] if n % 2 else ["first"]
            assert await _contents(place.straight, f"s{n}") == [*first, "ours"]


async def _append_ours(ledger: SqlLedger, session_id: str) -> None:
    head = await ledger.head(session_id)
    await ledger.append(session_id, [_note("ours")], expected=head)


async def test_a_server_that_stays_away_leaves_it_unknown(ledger_url: str) -> None:
    """Where nobody tells in `settle_for_s` seconds what became of it, that is the answer."""
    async with _place(ledger_url, PostgresSettings(settle_for_s=0.2)) as place:
        await place.store.append("s", [_note("first")], expected=None)

        async def gone(trip: RoundTrip) -> None:
            place.proxy.refuse()
            trip.cut()

        place.proxy.arm(gone, on=BATCH)
        with pytest.raises(AppendUnknown, match="load the session again"):
            await place.store.append("s", [_note("ours")], expected=None)
        assert await _contents(place.straight) == ["first"]
        place.proxy.accept()
        await place.store.append("s", [_note("again")], expected=None)
        assert await _contents(place.store) == ["first", "again"]


@pytest.mark.parametrize("fault", [black_hole, swallow_answer])
async def test_an_answer_that_never_comes_is_not_waited_for(fault: Fault, ledger_url: str) -> None:
    """After `append_timeout_s` nobody waits, and once the connection is cut all goes on."""
    async with _place(ledger_url, PostgresSettings(append_timeout_s=0.3)) as place:
        await place.store.append("s", [_note("first")], expected=None)
        place.proxy.arm(fault, on=BATCH)
        with pytest.raises(AppendUnknown, match="may still store this"):
            await place.store.append("s", [_note("ours")], expected=None)
        with pytest.raises(LedgerBusy, match="nothing was stored"):
            await place.store.append("other", [_note("other")], expected=None)
        place.proxy.cut_all()
        await place.store.append("s", [_note("again")], expected=None)
        assert await _contents(place.straight) == ["first", "ours", "again"]
        assert (await verify_session(place.straight, "s")).ok
        assert await _contents(place.straight, "other") == []
