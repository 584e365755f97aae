"""What workers ask for: indexes for what is due, and a number for each claim of an outbox row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SESSION = ("tenant", "session_id")
LIVE = "delivered_at_ms IS NULL AND dead_at_ms IS NULL"


def upgrade() -> None:
    """Add the column and the indexes; nobody asked for leased sessions."""
    op.add_column(
        "rainengine_outbox",
        sa.Column("claims", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
    )
    op.drop_index("rainengine_sessions_leased", "rainengine_sessions")
    _index("sessions", "running", SESSION, "state = 'running'")
    _index("sessions", "waking", (*SESSION, "wake_due_at_ms"), "wake_due_at_ms IS NOT NULL")
    _index("outbox", "topic", (*SESSION, "topic", "sequence", "ordinal"), LIVE)
    _index("outbox", "dead", (*SESSION, "sequence", "ordinal"), "dead_at_ms IS NOT NULL")
    _index("outbox", "delivered", ("delivered_at_ms",), "delivered_at_ms IS NOT NULL")


def _index(table: str, name: str, columns: tuple[str, ...], where: str) -> None:
    op.create_index(
        f"rainengine_{table}_{name}",
        f"rainengine_{table}",
        list(columns),
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )
