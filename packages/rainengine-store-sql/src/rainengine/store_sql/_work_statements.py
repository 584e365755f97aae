"""The fixed SQL of what workers ask: what is due, and the outbox. A test holds it against plans.

SQLite knows nothing of how many rows are delivered, and would rather walk a session's whole
history by its key than find the few live rows by their index, so it is told; others choose well.
"""

from __future__ import annotations

import re

import attrs


@attrs.frozen
class WorkStatements:
    """SQL text with the driver's placeholders.

    `wakes_early` and `outbox_early` find what is due by time, `wakes` and `outbox` by key.
    """

    runs: str
    wakes_early: str
    wakes: str
    outbox_early: str
    outbox: str
    topics: str
    rows: str
    claim: str
    deliver: str
    fail: str
    kill: str
    give_back: str
    postpone: str
    dead_letters: str
    redrive: str
    discard: str


def work_statements(placeholder: str = "?") -> WorkStatements:
    """Return the statements for a driver whose parameters are written like this."""
    texts = _TEXTS if placeholder == "?" else [_HINT.sub("", text) for text in _TEXTS]
    return WorkStatements(*[text.replace("?", placeholder) for text in texts])


_HINT = re.compile(r" INDEXED BY \w+")
_LIVE = "{0}.delivered_at_ms IS NULL AND {0}.dead_at_ms IS NULL"
_BY_TOPIC = "INDEXED BY rainengine_outbox_topic"

_FIRST = f"""NOT EXISTS (SELECT 1 FROM rainengine_outbox AS e {_BY_TOPIC}
    WHERE e.tenant = o.tenant AND e.session_id = o.session_id AND e.topic = o.topic
    AND {_LIVE.format("e")} AND (e.sequence, e.ordinal) < (o.sequence, o.ordinal))"""
"""That no live row of its topic comes before a row."""

_AGENT = """(SELECT s.agent FROM rainengine_sessions AS s
    WHERE s.tenant = o.tenant AND s.session_id = o.session_id)"""

_ROW = "WHERE tenant = ? AND session_id = ? AND sequence = ? AND ordinal = ?"
_MINE = f"""{_ROW} AND claims = ? AND claimed_until_ms IS NOT NULL
    AND delivered_at_ms IS NULL AND dead_at_ms IS NULL RETURNING 1"""


def _settle(sets: str) -> str:
    return f"UPDATE rainengine_outbox SET claimed_until_ms = NULL, {sets} {_MINE}"


_TEXTS = (
    """SELECT tenant, session_id, agent FROM rainengine_sessions
    INDEXED BY rainengine_sessions_running
    WHERE state = 'running' AND (lease_owner IS NULL OR lease_expires_at_ms <= ?)
    AND (tenant, session_id) > (?, ?) ORDER BY tenant, session_id LIMIT ?""",
    """SELECT tenant, session_id, agent, 1 FROM rainengine_sessions
    WHERE wake_due_at_ms <= ? ORDER BY wake_due_at_ms LIMIT ?""",
    """SELECT tenant, session_id, agent FROM rainengine_sessions
    INDEXED BY rainengine_sessions_waking
    WHERE wake_due_at_ms <= ? AND (tenant, session_id) > (?, ?)
    ORDER BY tenant, session_id LIMIT ?""",
    f"""SELECT o.tenant, o.session_id, {_AGENT},
    CASE WHEN (o.claimed_until_ms IS NULL OR o.claimed_until_ms <= ?) AND {_FIRST}
    THEN 1 ELSE 0 END
    FROM (SELECT tenant, session_id, topic, sequence, ordinal, claimed_until_ms
    FROM rainengine_outbox AS d WHERE {_LIVE.format("d")} AND due_at_ms <= ?
    ORDER BY due_at_ms LIMIT ?) AS o""",
    f"""SELECT o.tenant, o.session_id, {_AGENT} FROM
    (SELECT DISTINCT o.tenant, o.session_id FROM rainengine_outbox AS o {_BY_TOPIC}
    WHERE {_LIVE.format("o")} AND o.due_at_ms <= ?
    AND (o.claimed_until_ms IS NULL OR o.claimed_until_ms <= ?)
    AND (o.tenant, o.session_id) > (?, ?) AND {_FIRST}
    ORDER BY o.tenant, o.session_id LIMIT ?) AS o ORDER BY o.tenant, o.session_id""",
    f"""SELECT DISTINCT o.topic FROM rainengine_outbox AS o {_BY_TOPIC}
    WHERE o.tenant = ? AND o.session_id = ? AND {_LIVE.format("o")}""",
    f"""SELECT sequence, ordinal, topic, payload, attempts, claims, due_at_ms, claimed_until_ms
    FROM rainengine_outbox AS o {_BY_TOPIC}
    WHERE tenant = ? AND session_id = ? AND topic = ? AND {_LIVE.format("o")}
    ORDER BY sequence, ordinal LIMIT ?""",
    f"""UPDATE rainengine_outbox
    SET attempts = attempts + 1, claims = claims + 1, claimed_until_ms = ?
    {_ROW} AND claims = ? AND due_at_ms <= ?
    AND (claimed_until_ms IS NULL OR claimed_until_ms <= ?)
    AND delivered_at_ms IS NULL AND dead_at_ms IS NULL RETURNING 1""",
    _settle("delivered_at_ms = ?"),
    _settle("due_at_ms = ?, last_error = ?"),
    _settle("dead_at_ms = ?, last_error = ?"),
    _settle("attempts = attempts - 1"),
    f"""UPDATE rainengine_outbox SET due_at_ms = ? WHERE tenant = ? AND session_id = ?
    AND due_at_ms < ? AND (sequence, ordinal) IN
    (SELECT o.sequence, o.ordinal FROM rainengine_outbox AS o {_BY_TOPIC}
    WHERE o.tenant = ? AND o.session_id = ? AND o.topic = ? AND {_LIVE.format("o")}
    AND (o.sequence, o.ordinal) > (?, ?) ORDER BY o.sequence, o.ordinal LIMIT ?)""",
    """SELECT session_id, sequence, ordinal, topic, payload, attempts, claims, dead_at_ms,
    last_error FROM rainengine_outbox INDEXED BY rainengine_outbox_dead
    WHERE tenant = ? AND dead_at_ms IS NOT NULL AND (session_id, sequence, ordinal) > (?, ?, ?)
    ORDER BY session_id, sequence, ordinal LIMIT ?""",
    f"""UPDATE rainengine_outbox
    SET dead_at_ms = NULL, due_at_ms = ?, attempts = 0, last_error = NULL
    {_ROW} AND dead_at_ms IS NOT NULL RETURNING 1""",
    """DELETE FROM rainengine_outbox WHERE (tenant, session_id, sequence, ordinal) IN
    (SELECT d.tenant, d.session_id, d.sequence, d.ordinal FROM rainengine_outbox AS d
    WHERE d.delivered_at_ms < ? ORDER BY d.delivered_at_ms LIMIT ?) RETURNING 1""",
)
