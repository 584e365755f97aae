"""Runs stopped from another process, on SQLite and PostgreSQL: by a cancel, and by a message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio

from rainengine.core import (
    Agent,
    AgentEngine,
    AgentProfile,
    ContinueRequest,
    Message,
    ProcessRequest,
    Respond,
    ScriptedProvider,
    run_until_terminal,
    verify_session,
)
from rainengine.core.errors import RunOpen
from rainengine.core.records import BusyPolicy, OutcomeRecord
from rainengine.store_pg import open_postgres_ledger
from rainengine.store_sqlite import open_sqlite_ledger

LEASE_MS = 1_500
BEAT_S = LEASE_MS / 3 / 1000

OpenHandle: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]


@pytest.fixture(params=["sqlite", "postgres"])
def open_handle(request: pytest.FixtureRequest, tmp_path: Path) -> OpenHandle:
    """Open the same ledger anew, as each process does."""
    if request.param == "sqlite":
        return lambda: open_sqlite_ledger(tmp_path / "ledger.db")
    url: str = request.getfixturevalue("ledger_url")
    return lambda: open_postgres_ledger(url)


def model(thinking: trio.Event) -> ScriptedProvider:
    """A model that thinks for ever about `endless`, and answers everything else."""

    async def think(request: Any) -> Respond:
        if request.trigger.content == "endless":
            thinking.set()
            await trio.sleep_forever()
        return Respond(f"re: {request.trigger.content}")

    return ScriptedProvider(think)


def engine(ledger: Any, owner: str, busy: BusyPolicy, thinking: trio.Event) -> AgentEngine:
    """An engine as each process makes it."""
    return AgentEngine(
        ledger=ledger,
        provider=model(thinking),
        agent=Agent(profile=AgentProfile(busy=busy)),
        owner=owner,
        lease_ttl_ms=LEASE_MS,
    )


def message(text: str, key: str | None = None) -> ProcessRequest:
    """A message to the session."""
    trigger = Message(user_id="user", content=text)
    return ProcessRequest(session_id="s", trigger=trigger, idempotency_key=key)


async def while_thinking(
    open_handle: OpenHandle, busy: BusyPolicy, act: Callable[[AgentEngine], Awaitable[Any]]
) -> tuple[list[OutcomeRecord], float, Any]:
    """Act in one process while a model thinks in another.

    Return the outcomes, how many seconds the first process went on, and what the act returned.
    """
    thinking = trio.Event()
    came: list[Any] = []

    async def hold(ledger: Any) -> None:
        holder = engine(ledger, "one", busy, thinking)
        await holder.advance(message("endless"))
        came.append(trio.current_time())
        while not (await holder.advance(ContinueRequest(session_id="s"))).idle:
            pass

    async with open_handle() as one, open_handle() as two:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold, one)
            await thinking.wait()
            began = trio.current_time()
            came.append(await act(engine(two, "two", busy, thinking)))
        records = await two.read("s")
        assert (await verify_session(two, "s")).ok
    outcomes = [entry.record for entry in records if isinstance(entry.record, OutcomeRecord)]
    ended = next(item for item in came if isinstance(item, float))
    returned = next((item for item in came if not isinstance(item, float)), None)
    return outcomes, ended - began, returned


async def test_a_cancel_reaches_the_other_process(open_handle: OpenHandle) -> None:
    """The holder lets go of its model with its next heartbeat, and ends the run."""
    outcomes, seconds, found = await while_thinking(
        open_handle, "queue", lambda other: other.cancel("s", "never mind")
    )
    assert [(o.stop_reason, o.detail) for o in outcomes] == [("cancelled", "never mind")]
    assert (found, seconds < BEAT_S + 0.5) == (True, True)


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_message_interrupts_the_other_process(
    open_handle: OpenHandle, key: str | None
) -> None:
    """A caller who sends a message elsewhere gets its answer once the open run has ended."""
    outcomes, seconds, run = await while_thinking(
        open_handle, "interrupt", lambda other: run_until_terminal(other, message("second", key))
    )
    assert [o.stop_reason for o in outcomes] == ["cancelled", "responded"]
    assert (run.response, seconds < BEAT_S + 0.5) == ("re: second", True)


async def test_a_message_is_refused_by_any_process(open_handle: OpenHandle) -> None:
    """A process that does not work on the run refuses a message for it all the same."""

    async def send(other: AgentEngine) -> str:
        with pytest.raises(RunOpen):
            await other.advance(message("second"))
        await other.cancel("s", "enough")
        return "refused"

    outcomes, _, returned = await while_thinking(open_handle, "reject", send)
    assert ([o.stop_reason for o in outcomes], returned) == (["cancelled"], "refused")


async def test_many_messages_leave_one_answer(open_handle: OpenHandle) -> None:
    """Of messages that interrupt each other the last one is answered; each has one outcome."""

    async def send(other: AgentEngine) -> int:
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(other.submit, message(f"{number}", f"key {number}"))
        return 8

    outcomes, _, _ = await while_thinking(open_handle, "interrupt", send)
    assert len(outcomes) == 9
    assert len({outcome.trigger_id for outcome in outcomes}) == 9
    assert outcomes[0].stop_reason == "cancelled"
    assert outcomes[-1].stop_reason == "responded"
