"""One admission rule: SQLite takes what the ledger in memory takes, and gives it back the same."""

from __future__ import annotations

from pathlib import Path

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rainengine.core.abc import Ledger, OutboxItem
from rainengine.core.errors import InadmissibleValue
from rainengine.core.inmemory import InMemoryLedger
from rainengine.core.records import ExternalEvent, JsonValue, NewRecord, TriggerRecord
from rainengine.store_sqlite import open_sqlite_ledger

any_text = st.text(st.characters(exclude_categories=()), max_size=8)
any_json = st.recursive(
    st.none() | st.booleans() | st.floats() | any_text | st.integers(-(2**66), 2**66),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)
times = st.integers(-(2**64), 2**64)


async def _verdict(ledger: Ledger, session_id: str, record: NewRecord, item: OutboxItem) -> object:
    try:
        await ledger.append(session_id, [record], expected=None, outbox=[item])
    except InadmissibleValue as error:
        return error.path, error.reason
    return await ledger.read(session_id)


async def _both(path: Path, session_id: str, record: NewRecord, item: OutboxItem) -> None:
    expected = await _verdict(InMemoryLedger(), session_id, record, item)
    async with open_sqlite_ledger(path) as ledger:
        assert await _verdict(ledger, session_id, record, item) == expected


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.tuples(any_text, any_text, any_text), payload=any_json, at=times)
def test_same_verdict_as_in_memory(
    tmp_path: Path, texts: tuple[str, str, str], payload: JsonValue, at: int
) -> None:
    """For any text, JSON and time both refuse for the same reason or store the same."""
    session_id, source, key = texts
    event = ExternalEvent(source=source, payload=payload)
    record = TriggerRecord(trigger_id="t", trigger=event, body_hash="")
    new = NewRecord(record, at, "t", key)
    path = tmp_path / "x.db"
    for extra in ("", "-wal", "-shm"):
        path.with_name(path.name + extra).unlink(missing_ok=True)
    trio.run(_both, path, session_id, new, OutboxItem(topic="t", payload=payload))
