"""The fixed SQL of the shared read path, written by hand: SQLAlchemy is too slow to start.

A test holds it against the metadata.
"""

from __future__ import annotations

import attrs

from rainengine.store_sql._rows import RecordRow, SnapshotRow

_SESSION = "tenant = ? AND session_id = ?"
_ENTRY = ", ".join(RecordRow._fields[2:])


@attrs.frozen
class Statements:
    """SQL text with the driver's placeholders."""

    placeholder: str
    read: str
    head: str
    lease: str
    trigger: str
    outcome: str
    hash_at: str
    snapshot: str


def statements(placeholder: str = "?") -> Statements:
    """Return the statements for a driver whose parameters are written like this."""
    return Statements(placeholder, *[text.replace("?", placeholder) for text in _TEXTS])


_TEXTS = (
    f"SELECT {_ENTRY} FROM rainengine_records"
    f" WHERE {_SESSION} AND sequence > ? ORDER BY sequence LIMIT ?",
    f"SELECT head, hash FROM rainengine_sessions WHERE {_SESSION}",
    "SELECT lease_owner, lease_expires_at_ms, fence, head, hash FROM rainengine_sessions"
    f" WHERE {_SESSION}",
    "SELECT sequence, version, payload FROM rainengine_records"
    f" WHERE {_SESSION} AND idempotency_key = ? AND kind = 'trigger'",
    "SELECT sequence, version, payload FROM rainengine_records"
    f" WHERE {_SESSION} AND trigger_id = ? AND kind = 'outcome' ORDER BY sequence DESC LIMIT 1",
    f"SELECT hash FROM rainengine_records WHERE {_SESSION} AND sequence = ?",
    f"SELECT {', '.join(SnapshotRow._fields[2:])} FROM rainengine_snapshots"
    f" WHERE {_SESSION} AND projection_version = ?",
)
