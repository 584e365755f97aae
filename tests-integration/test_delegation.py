"""Work that is handed from agent to agent, by processes that are killed in the middle of it.

A plain run is a slice; `RAINENGINE_SWEEP=full` has more sessions and more kills.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from crash_sweep.counter import ask_counter
from rainengine.core import Message, ProcessRequest, verify_session
from rainengine.core.abc import SessionQuery
from rainengine.core.projection import SessionProjection, fold
from rainengine.core.records import OutcomeRecord, ToolResult, TriggerRecord
from rainengine.core.subagents import child_of
from testbed.delegating import PRICE_MICROS, Agents, open_any
from testbed.fleet import Fleet, Member, open_fleet
from testbed.processes import until

FULL = os.environ.get("RAINENGINE_SWEEP") == "full"
SESSIONS, KILLS = (60, 60) if FULL else (6, 6)
TTL_MS = 1_500
ANSWER = "boss: digger: mole: dug"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, as that of a Unix socket has to be."""
    with tempfile.TemporaryDirectory(prefix="rain-") as name:
        yield Path(name)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, folder: Path) -> str:
    """Where a ledger is, or will be."""
    if request.param == "sqlite":
        return str(folder / "ledger.db")
    postgres: str = request.getfixturevalue("ledger_url")
    return postgres


async def start(fleet: Fleet, url: str, counter: Path, owner: str) -> Member:
    """Start a process that works, and return once it does."""
    member = await fleet.start(
        "hand_over",
        url=url,
        poll_s=0.05,
        counter=str(counter),
        owner=owner,
        ttl_ms=TTL_MS,
        pause_s=0.02,
    )
    assert await member.report() == "ready"
    return member


async def records(ledger: Any, session_id: str, kind: type) -> list[Any]:
    """A session's records of one kind."""
    stored = await ledger.read(session_id, limit=10_000)
    return [entry.record for entry in stored if isinstance(entry.record, kind)]


async def child(ledger: Any, session_id: str) -> str:
    """The session that works for a session, which delegates once."""
    (paused,) = [o for o in await records(ledger, session_id, OutcomeRecord) if o.resume_token]
    return child_of(paused.resume_token)


async def usage_of(ledger: Any, session_id: str) -> tuple[int, int, int]:
    """What a session used: cost, tokens, and what is still set aside."""
    projection = SessionProjection()
    for entry in await ledger.read(session_id, limit=10_000):
        fold(projection, entry.sequence, entry)
    usage = projection.usage
    return usage.cost_micros, usage.tokens, usage.reserved_micros


async def test_killed_in_the_middle_all_is_done_once(url: str, folder: Path) -> None:
    """Parent, child and grandchild each end once, whoever dies; costs add up, effects do not."""
    counter, chance = folder / "counter", random.Random(SESSIONS)
    names = [f"s{number}" for number in range(SESSIONS)]
    async with open_fleet() as fleet, open_any(url) as ledger:
        outside = await fleet.start("count_effects", path=str(counter))
        assert await outside.report() == "ready"
        host = Agents(counter=str(counter), owner="host", ttl_ms=TTL_MS, pause_s=0)
        boss = host.engine(ledger, "boss")
        assert boss is not None
        for name in names:
            wish = Message(user_id="ann", content="dig")
            await boss.submit(ProcessRequest(session_id=name, trigger=wish))
        members = {owner: await start(fleet, url, counter, owner) for owner in ("one", "two")}
        for _ in range(KILLS):
            await trio.sleep(chance.uniform(0, 0.5))
            owner = chance.choice(list(members))
            await members[owner].kill()
            members[owner] = await start(fleet, url, counter, owner)
        await until(partial(all_have_ended, ledger), within_s=300 if FULL else 60)
        for name in names:
            await check(ledger, name)
        counts = Counter(ask_counter(counter, "tally"))
        pays = [times for call, times in counts.items() if call.endswith("/pay")]
        sends = [times for call, times in counts.items() if call.endswith("/send")]
        assert ([1] * SESSIONS, {1}) == (pays, set(sends))
        assert [] == [*await ledger.due("run"), *await ledger.due("outbox")]


async def all_have_ended(ledger: Any) -> bool:
    """Whether every session there is to be has come to its end."""
    query = SessionQuery(states=("completed",), limit=1_000)
    return len((await ledger.list_sessions(query)).sessions) == 3 * SESSIONS


async def check(ledger: Any, name: str) -> None:
    """Look at a session, at its child's and at its grandchild's."""
    sessions = [name, second := await child(ledger, name), await child(ledger, second)]
    outcomes = [await records(ledger, one, OutcomeRecord) for one in sessions]
    assert [["delegated", "responded"]] * 2 + [["responded"]] == [
        [outcome.stop_reason for outcome in of_session] for of_session in outcomes
    ]
    assert ANSWER == outcomes[0][-1].response
    triggers = [len(await records(ledger, one, TriggerRecord)) for one in sessions]
    assert [2, 2, 1] == triggers
    calls = {r.call_id: r.failure for r in await records(ledger, sessions[-1], ToolResult)}
    assert {"pay", "send"} == calls.keys()
    assert calls["pay"] is None
    assert calls["send"] is None or calls["send"].kind == "unknown_outcome"
    for one in sessions:
        assert (await verify_session(ledger, one)).ok
    used = [await usage_of(ledger, one) for one in sessions]
    assert [
        (6 * PRICE_MICROS, 12, 0),
        (4 * PRICE_MICROS, 8, 0),
        (2 * PRICE_MICROS, 4, 0),
    ] == used
