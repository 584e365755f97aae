"""Two people, in two processes, approve the same thing: it is done once, and one is told so.

A plain run is a slice; `RAINENGINE_SWEEP=full` has them race a thousand times.
"""

from __future__ import annotations

import os
from collections import Counter

import psycopg

from rainengine.core import Message, ProcessRequest
from rainengine.core.records import ApprovalResolution
from rainengine.store_pg import open_postgres_ledger
from testbed.fleet import open_fleet
from testbed.roles import paying_engine

FULL = os.environ.get("RAINENGINE_SWEEP") == "full"
ROUNDS = 1_000 if FULL else 25
APPROVERS = ("ann", "bob")
ALREADY = "it is resolved already: answered before, or called off"


async def test_of_two_approvers_one_runs_and_one_is_told_so(ledger_url: str) -> None:
    """The call runs once, its token is spent once, and the other is told that it was late."""
    with psycopg.connect(ledger_url) as connection:
        connection.execute("CREATE TABLE paid (session_id text, owner text)")
    winners: Counter[str] = Counter()
    async with open_fleet() as fleet, open_postgres_ledger(ledger_url) as ledger:
        engine = paying_engine(ledger, ledger_url, owner="host")
        members = [
            await fleet.start("approve", url=ledger_url, rounds=ROUNDS, name=name)
            for name in APPROVERS
        ]
        for number in range(ROUNDS):
            session_id = f"round-{number}"
            question = Message(user_id="eve", content="Pay")
            asked = await engine.advance(ProcessRequest(session_id=session_id, trigger=question))
            assert asked.outcome is not None
            assert asked.outcome.stop_reason == "suspended"
            told = [await member.report() for member in members]
            assert sorted(told, key=str) == [["policy_aborted", ALREADY], ["responded", None]]
            winners[APPROVERS[told.index(["responded", None])]] += 1
            records = [stored.record for stored in await ledger.read(session_id)]
            assert sum(isinstance(record, ApprovalResolution) for record in records) == 1
        assert [await member.ended() for member in members] == [0, 0]
    with psycopg.connect(ledger_url) as connection:
        paid = connection.execute("SELECT session_id, count(*) FROM paid GROUP BY 1").fetchall()
    assert dict(paid) == {f"round-{number}": 1 for number in range(ROUNDS)}
    assert set(winners) == set(APPROVERS)  # or else nobody raced
