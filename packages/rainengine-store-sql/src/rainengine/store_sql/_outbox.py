"""The outbox, given a connection; claims and reports within a transaction.

Two who claim at the same time see the same rows free, where the database lets them: each row is
taken by an update that looks again, in the order of the rows, and who has lost one takes nothing
more of its topic. As everybody goes in that order, nobody waits in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NamedTuple, cast

from rainengine.core.abc import DeadLetter, OutboxEntry, OutboxReport
from rainengine.store_sql import _decoding as decoding
from rainengine.store_sql._dialect import Connection
from rainengine.store_sql._rows import Key, Value
from rainengine.store_sql._work_statements import WorkStatements

POSTPONED = 256
"""How many rows behind a failed one are not looked at before its time."""

_LARGEST = 2**63 - 1


class _Waiting(NamedTuple):
    """A row that is neither delivered nor dead."""

    sequence: int
    ordinal: int
    topic: str
    payload: str
    attempts: int
    claims: int
    due_at_ms: int
    claimed_until_ms: int | None

    def is_free(self, now_ms: int) -> bool:
        """Whether it may be claimed, as far as it goes."""
        claimed = self.claimed_until_ms is not None and self.claimed_until_ms > now_ms
        return self.due_at_ms <= now_ms and not claimed


def claim(
    connection: Connection, *, sql: WorkStatements, key: Key, now_ms: int, until_ms: int, limit: int
) -> list[OutboxEntry]:
    """Claim rows of a session; see `Outbox.claim`."""
    lost: set[str] = set()
    claimed: list[OutboxEntry] = []
    for row in _free(connection, sql, key, now_ms, limit):
        if row.topic in lost:
            continue
        parameters = (until_ms, *key, row.sequence, row.ordinal, row.claims, now_ms, now_ms)
        if connection.execute(sql.claim, parameters).fetchall():
            claimed.append(_entry(key, row))
        else:
            lost.add(row.topic)
    return claimed


def _free(
    connection: Connection, sql: WorkStatements, key: Key, now_ms: int, limit: int
) -> list[_Waiting]:
    """The oldest rows that may be claimed, in order."""
    found: list[_Waiting] = []
    limit = min(max(limit, 0), _LARGEST)
    for (topic,) in connection.execute(sql.topics, key).fetchall():
        rows = connection.execute(sql.rows, (*key, topic, limit)).fetchall()
        waiting = [_Waiting._make(decoding.waiting(key, row)) for row in rows]
        found += takewhile(lambda row: row.is_free(now_ms), waiting)
    return sorted(found)[:limit]


def _entry(key: Key, row: _Waiting) -> OutboxEntry:
    taken = row._replace(attempts=row.attempts + 1, claims=row.claims + 1)
    return decoding.outbox_entry(key, taken[:6])


def settle(
    connection: Connection, *, sql: WorkStatements, reports: Sequence[OutboxReport], now_ms: int
) -> None:
    """Record what became of rows, which are in order; see `Outbox.settle`."""
    for report in reports:
        entry, statement, sets = report.entry, *_change(sql, report, now_ms)
        parameters = (*sets, *_place(entry), entry.claim)
        settled = connection.execute(statement, parameters).fetchall()
        if settled and report.outcome == "failed":
            _postpone(connection, sql, entry, now_ms + report.retry_in_ms)


def _change(
    sql: WorkStatements, report: OutboxReport, now_ms: int
) -> tuple[str, tuple[Value, ...]]:
    changes: dict[str, tuple[str, tuple[Value, ...]]] = {
        "delivered": (sql.deliver, (now_ms,)),
        "failed": (sql.fail, (now_ms + report.retry_in_ms, report.error)),
        "dead": (sql.kill, (now_ms, report.error)),
        "returned": (sql.give_back, ()),
    }
    return changes[report.outcome]


def _postpone(
    connection: Connection, sql: WorkStatements, entry: OutboxEntry, until_ms: int
) -> None:
    """Have rows that wait for a failed one look due no earlier than it.

    They could not be claimed anyway; this keeps them from being looked at in vain.
    """
    key = (entry.tenant, entry.session_id)
    behind = (entry.topic, entry.sequence, entry.ordinal, POSTPONED)
    connection.execute(sql.postpone, (until_ms, *key, until_ms, *key, *behind))


def dead_letters(
    connection: Connection,
    *,
    sql: WorkStatements,
    tenant: str,
    after: OutboxEntry | None,
    limit: int,
) -> list[DeadLetter]:
    """Return a page of a tenant's dead rows."""
    start = ("", 0, 0) if after is None else _place(after)[1:]
    parameters = (tenant, *start, min(max(limit, 0), _LARGEST))
    rows = connection.execute(sql.dead_letters, parameters).fetchall()
    return [
        DeadLetter(
            entry=decoding.outbox_entry((tenant, session_id), row), died_at_ms=died, error=error
        )
        for session_id, *row, died, error in cast("Sequence[Any]", rows)
    ]


def redrive(
    connection: Connection, *, sql: WorkStatements, entry: OutboxEntry, now_ms: int
) -> bool:
    """Have a dead row tried again. Whether it was dead."""
    return bool(connection.execute(sql.redrive, (now_ms, *_place(entry))).fetchall())


def discard(connection: Connection, *, sql: WorkStatements, before_ms: int, limit: int) -> int:
    """Delete rows that were delivered before that time, and return how many."""
    parameters = (before_ms, min(max(limit, 0), _LARGEST))
    return len(connection.execute(sql.discard, parameters).fetchall())


def _place(entry: OutboxEntry) -> tuple[str, str, int, int]:
    return entry.tenant, entry.session_id, entry.sequence, entry.ordinal
