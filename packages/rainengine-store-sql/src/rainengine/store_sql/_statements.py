"""The fixed SQL of the shared read path, written by hand: SQLAlchemy is too slow to start.

A test holds it against the metadata.
"""

from __future__ import annotations

import attrs


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
    """SELECT sequence, kind, version, occurred_at_ms, trigger_id, idempotency_key, payload, hash
    FROM rainengine_records WHERE tenant = ? AND session_id = ? AND sequence > ?
    ORDER BY sequence LIMIT ?""",
    """SELECT head, hash FROM rainengine_sessions WHERE tenant = ? AND session_id = ?""",
    """SELECT lease_owner, lease_expires_at_ms, fence, head, hash FROM rainengine_sessions
    WHERE tenant = ? AND session_id = ?""",
    """SELECT sequence, version, payload FROM rainengine_records
    WHERE tenant = ? AND session_id = ? AND idempotency_key = ? AND kind = 'trigger'""",
    """SELECT sequence, version, payload FROM rainengine_records
    WHERE tenant = ? AND session_id = ? AND trigger_id = ? AND kind = 'outcome'
    ORDER BY sequence DESC LIMIT 1""",
    """SELECT hash FROM rainengine_records
    WHERE tenant = ? AND session_id = ? AND sequence = ?""",
    """SELECT projection_version, sequence, hash, payload FROM rainengine_snapshots
    WHERE tenant = ? AND session_id = ? AND projection_version = ?""",
)
