"""What an engine does where a session's row and its records cannot both be right."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import trio

from rainengine.core import (
    AgentEngine,
    ContinueRequest,
    Message,
    ProcessRequest,
    Respond,
    ScriptedProvider,
)
from rainengine.core.errors import LedgerCorrupt
from rainengine.store_sqlite import open_sqlite_ledger

DAMAGES = {
    "head too high": "UPDATE rainengine_sessions SET head = head + 1",
    "head too low": "UPDATE rainengine_sessions SET head = head - 1",
    "other hash": "UPDATE rainengine_sessions SET hash = zeroblob(32)",
    "no last record": (
        "DELETE FROM rainengine_records WHERE sequence ="
        " (SELECT max(sequence) FROM rainengine_records)"
    ),
    "no records": "DELETE FROM rainengine_records",
}
QUESTION = ProcessRequest(session_id="s", trigger=Message(user_id="u", content="?"))


async def ask(path: Path, request: Any) -> Any:
    """Open the file as a new process would, and advance."""
    async with open_sqlite_ledger(path) as ledger:
        provider = ScriptedProvider([Respond("x")])
        return await AgentEngine(ledger=ledger, provider=provider).advance(request)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("request_", [QUESTION, ContinueRequest(session_id="s")])
async def test_head_and_records_that_disagree_are_corrupt(
    tmp_path: Path, damage: str, request_: Any
) -> None:
    """An engine says that the session is damaged, stores nothing, and does not try for ever."""
    path = tmp_path / "ledger.db"
    await ask(path, QUESTION)
    with sqlite3.connect(path) as connection:
        connection.execute(DAMAGES[damage])
        before = connection.execute("SELECT count(*) FROM rainengine_records").fetchone()
    connection.close()
    with trio.fail_after(10), pytest.raises(LedgerCorrupt):
        await ask(path, request_)
    connection = sqlite3.connect(path)
    assert before == connection.execute("SELECT count(*) FROM rainengine_records").fetchone()
    connection.close()
