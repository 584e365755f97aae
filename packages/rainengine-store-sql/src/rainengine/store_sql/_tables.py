"""The schema as SQLAlchemy metadata. Importing this costs half a second: the hot path does not.

All keys begin with tenant and session id, so that the tables can be partitioned by them.
Text that is compared sorts by code points everywhere.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData()


def _key() -> TypeEngine[str]:
    return Text().with_variant(Text(collation="C"), "postgresql")


def _column(name: str, kind: type[TypeEngine[object]] | TypeEngine[object]) -> Column[object]:
    return Column(name, kind, nullable=False)


def _table(name: str, key: tuple[str, ...], *columns: Column[object]) -> Table:
    return Table(
        f"rainengine_{name}",
        metadata,
        Column("tenant", _key(), nullable=False),
        *columns,
        PrimaryKeyConstraint(*key, name=f"rainengine_{name}_pk"),
        sqlite_with_rowid=False,
    )


def _index(table: Table, name: str, columns: tuple[str, ...], where: str, **kw: bool) -> None:
    condition = text(where)
    Index(
        f"{table.name}_{name}",
        *[table.c[column] for column in columns],
        sqlite_where=condition,
        postgresql_where=condition,
        **kw,
    )


_SESSION = ("tenant", "session_id")

records = _table(
    "records",
    (*_SESSION, "sequence"),
    _column("session_id", _key()),
    _column("sequence", BigInteger),
    _column("kind", Text),
    _column("version", Integer),
    _column("occurred_at_ms", BigInteger),
    Column("trigger_id", _key()),
    Column("idempotency_key", _key()),
    _column("payload", Text),
    _column("hash", LargeBinary),
)
_index(
    records,
    "trigger_key",
    (*_SESSION, "idempotency_key"),
    "kind = 'trigger' AND idempotency_key IS NOT NULL",
    unique=True,
)
_index(records, "outcome", (*_SESSION, "trigger_id", "sequence"), "kind = 'outcome'")

sessions = _table(
    "sessions",
    _SESSION,
    _column("session_id", _key()),
    _column("head", BigInteger),
    _column("hash", LargeBinary),
    _column("fence", BigInteger),
    Column("lease_owner", Text),
    _column("lease_expires_at_ms", BigInteger),
    _column("state", Text),
    Column("agent", Text),
    Column("wake_due_at_ms", BigInteger),
    _column("first_recorded_at_ms", BigInteger),
    _column("last_recorded_at_ms", BigInteger),
)
_index(sessions, "leased", _SESSION, "lease_owner IS NOT NULL")
_index(sessions, "wake", ("wake_due_at_ms", *_SESSION), "wake_due_at_ms IS NOT NULL")

snapshots = _table(
    "snapshots",
    (*_SESSION, "projection_version"),
    _column("session_id", _key()),
    _column("projection_version", BigInteger),
    _column("sequence", BigInteger),
    _column("hash", LargeBinary),
    _column("payload", Text),
)

outbox = _table(
    "outbox",
    (*_SESSION, "sequence", "ordinal"),
    _column("session_id", _key()),
    _column("sequence", BigInteger),
    _column("ordinal", Integer),
    _column("topic", Text),
    _column("payload", Text),
    _column("attempts", Integer),
    _column("due_at_ms", BigInteger),
    Column("claimed_until_ms", BigInteger),
    Column("delivered_at_ms", BigInteger),
    Column("dead_at_ms", BigInteger),
    Column("last_error", Text),
)
_index(
    outbox,
    "due",
    ("due_at_ms", *_SESSION, "sequence", "ordinal"),
    "delivered_at_ms IS NULL AND dead_at_ms IS NULL",
)

skills = _table(
    "skills",
    ("tenant", "name", "digest"),
    _column("name", _key()),
    _column("digest", _key()),
    _column("manifest", Text),
    _column("wasm", LargeBinary),
    _column("active", Boolean),
)
