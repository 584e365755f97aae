"""The ledger: records, sessions, snapshots, outbox, skills."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.config import Config

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SESSION = ("tenant", "session_id")
ROOM = 70
"""Percent of a page that Postgres fills with sessions: what is left takes their next versions."""


def upgrade() -> None:
    """Create all tables."""
    _create_records()
    _create_sessions()
    _create_snapshots()
    _create_outbox()
    _create_skills()


def _create_records() -> None:
    _create(
        "records",
        (*SESSION, "sequence"),
        _required("session_id", _key()),
        _required("sequence", sa.BigInteger()),
        _required("kind", sa.Text()),
        _required("version", sa.Integer()),
        _required("occurred_at_ms", sa.BigInteger()),
        sa.Column("trigger_id", _key()),
        sa.Column("idempotency_key", _key()),
        _required("payload", sa.Text()),
        _required("hash", sa.LargeBinary()),
        clustered=False,
        divided=True,
    )
    keyed = "kind = 'trigger' AND idempotency_key IS NOT NULL"
    _index("records", "trigger_key", (*SESSION, "idempotency_key"), keyed, unique=True)
    _index("records", "outcome", (*SESSION, "trigger_id", "sequence"), "kind = 'outcome'")


def _create_sessions() -> None:
    _create(
        "sessions",
        SESSION,
        _required("session_id", _key()),
        _required("head", sa.BigInteger()),
        _required("hash", sa.LargeBinary()),
        _required("fence", sa.BigInteger()),
        sa.Column("lease_owner", sa.Text()),
        _required("lease_expires_at_ms", sa.BigInteger()),
        _required("state", sa.Text()),
        sa.Column("agent", sa.Text()),
        sa.Column("wake_due_at_ms", sa.BigInteger()),
        _required("first_recorded_at_ms", sa.BigInteger()),
        _required("last_recorded_at_ms", sa.BigInteger()),
        divided=True,
        filled=ROOM,
    )
    _index("sessions", "leased", SESSION, "lease_owner IS NOT NULL")
    _index("sessions", "wake", ("wake_due_at_ms", *SESSION), "wake_due_at_ms IS NOT NULL")


def _create_snapshots() -> None:
    _create(
        "snapshots",
        (*SESSION, "projection_version"),
        _required("session_id", _key()),
        _required("projection_version", sa.BigInteger()),
        _required("sequence", sa.BigInteger()),
        _required("hash", sa.LargeBinary()),
        _required("payload", sa.Text()),
        divided=True,
    )


def _create_outbox() -> None:
    _create(
        "outbox",
        (*SESSION, "sequence", "ordinal"),
        _required("session_id", _key()),
        _required("sequence", sa.BigInteger()),
        _required("ordinal", sa.Integer()),
        _required("topic", sa.Text()),
        _required("payload", sa.Text()),
        _required("attempts", sa.Integer()),
        _required("due_at_ms", sa.BigInteger()),
        sa.Column("claimed_until_ms", sa.BigInteger()),
        sa.Column("delivered_at_ms", sa.BigInteger()),
        sa.Column("dead_at_ms", sa.BigInteger()),
        sa.Column("last_error", sa.Text()),
        divided=True,
    )
    _index(
        "outbox",
        "due",
        ("due_at_ms", *SESSION, "sequence", "ordinal"),
        "delivered_at_ms IS NULL AND dead_at_ms IS NULL",
    )


def _create_skills() -> None:
    _create(
        "skills",
        ("tenant", "name", "digest"),
        _required("name", _key()),
        _required("digest", _key()),
        _required("manifest", sa.Text()),
        _required("wasm", sa.LargeBinary()),
        _required("active", sa.Boolean()),
    )


def _key() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _required(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _create(
    name: str,
    key: tuple[str, ...],
    *columns: sa.Column[Any],
    clustered: bool = True,
    divided: bool = False,
    filled: int | None = None,
) -> None:
    partitions = _partitions() if divided else None
    storage = {} if filled is None else {"fillfactor": filled}
    op.create_table(
        f"rainengine_{name}",
        _required("tenant", _key()),
        *columns,
        sa.PrimaryKeyConstraint(*key, name=f"rainengine_{name}_pk"),
        sqlite_with_rowid=not clustered,
        postgresql_partition_by=partitions and f"HASH ({', '.join(SESSION)})",
        postgresql_with={} if partitions else storage,
    )
    for number in range(partitions or 0):
        _create_partition(f"rainengine_{name}", number, partitions or 0, storage)


def _partitions() -> int | None:
    """Return into how many parts the tables are to be divided, where the database can do that."""
    context = op.get_context()
    wanted: int | None = (context.config or Config()).attributes.get("partitions")
    return wanted if context.dialect.name == "postgresql" else None


def _create_partition(table: str, number: int, partitions: int, storage: dict[str, int]) -> None:
    options = ", ".join(f"{option} = {value}" for option, value in storage.items())
    op.execute(
        f"CREATE TABLE {table}_p{number} PARTITION OF {table}"
        f" FOR VALUES WITH (MODULUS {partitions}, REMAINDER {number})"
        f"{f' WITH ({options})' if options else ''}"
    )


def _index(
    table: str, name: str, columns: tuple[str, ...], where: str, *, unique: bool = False
) -> None:
    op.create_index(
        f"rainengine_{table}_{name}",
        f"rainengine_{table}",
        list(columns),
        unique=unique,
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )
