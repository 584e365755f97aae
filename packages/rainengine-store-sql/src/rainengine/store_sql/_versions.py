"""Versions of the schema, without SQLAlchemy: opening a database compares two strings."""

from __future__ import annotations

from collections.abc import Sequence

from rainengine.core.errors import SchemaMismatch

VERSIONS: Sequence[str] = ("0001", "0002")
"""All versions that migrations lead through, oldest first."""

SCHEMA_VERSION = VERSIONS[-1]
"""The version that this release reads and writes."""

VERSION_TABLE = "rainengine_schema"
SELECT_VERSION = "SELECT version_num FROM rainengine_schema"


def is_older(found: str | None) -> bool:
    """Whether migrations lead from this version to ours; `None` is an empty database."""
    return found is None or found in VERSIONS[:-1]


def check_version(found: str | None) -> None:
    """Raise `SchemaMismatch` unless the database holds the version that this release speaks."""
    if found == SCHEMA_VERSION:
        return
    if found is None:
        remedy = "the database holds no ledger yet: create it with migrate()"
    elif is_older(found):
        remedy = "the database is older than this release: bring it up to date with migrate()"
    else:
        remedy = (
            "the database was written by a newer release, or by something else:"
            " upgrade rainengine-store-sql, or open another database"
        )
    raise SchemaMismatch(found, SCHEMA_VERSION, remedy)


def check_unclaimed(tables: Sequence[str]) -> None:
    """Raise `SchemaMismatch` where there are tables of ours but nothing says of which version."""
    if tables:
        raise SchemaMismatch(
            None,
            SCHEMA_VERSION,
            f"there are tables {', '.join(sorted(tables))} but no {VERSION_TABLE}:"
            " restore the database from a backup, or open another one",
        )
