"""Postgres' errors as the ledger's, each with what to do about it."""

from __future__ import annotations

import psycopg

from rainengine.core.errors import (
    LedgerAccessDenied,
    LedgerBusy,
    LedgerCorrupt,
    LedgerError,
    LedgerFull,
    LedgerIOError,
    LedgerReadOnly,
    LedgerUnavailable,
    TransactionTimeout,
)

TRY_AGAIN = frozenset({"40001", "40P01"})
"""Serialization failure, deadlock: rolled back for others' sake."""

LOCKED = "55P03"
"""The lock timeout: somebody else is busy with the row."""

_OF_ALL = ("08", "25", "28", "42", "53", "57P", "58")
"""How the states begin that any other statement would have met with as well."""

_UNREACHABLE = (
    LedgerUnavailable,
    (
        "the database server cannot be reached, or has closed the connection: check that it runs"
        " and that host, port and TLS settings are right"
    ),
)
_BUSY = (
    LedgerBusy,
    (
        "others kept the rows locked for too long: try again, or look in pg_stat_activity for what"
        " holds them"
    ),
)
_SLOW = (
    TransactionTimeout,
    (
        "the statement was cancelled, by statement_timeout or by an operator: try again, or raise"
        " statement_timeout_ms"
    ),
)
_DENIED = (
    LedgerAccessDenied,
    "the role lacks rights on the ledger's tables: grant it SELECT, INSERT, UPDATE and DELETE",
)
_BAD_LOGIN = (
    LedgerAccessDenied,
    "the server refused the login: check user, password and pg_hba.conf",
)
_NO_DATABASE = (
    LedgerAccessDenied,
    "there is no such database, schema or role: create it, or correct the URL",
)
_NO_TABLES = (
    LedgerUnavailable,
    (
        "the ledger's tables are not there, or not as this release knows them: create or upgrade"
        " them with migrate(), and check the search_path"
    ),
)
_FULL = (
    LedgerFull,
    "the database server has run out of disk or memory: free some, then try again",
)
_READ_ONLY = (
    LedgerReadOnly,
    "the server takes no writes: it is a standby, or set to read-only transactions",
)
_POOLED = (
    LedgerAccessDenied,
    "a pooler stands before the server and takes no settings: open the ledger with pooler=True",
)
_STARTING = (LedgerUnavailable, "the server is starting up or shutting down: try again")
_CROWDED = (
    LedgerUnavailable,
    "the server takes no more connections: close some, or raise max_connections",
)
_IO = (LedgerIOError, "the database server failed to read or write its disk: look into its log")
_DAMAGED = (
    LedgerCorrupt,
    "the database is damaged: look into the server's log, and restore it from a backup",
)
_DISAGREEING = (
    LedgerCorrupt,
    (
        "the session's row does not agree with its records: rebuild the index, or restore the"
        " database from a backup"
    ),
)

_BY_STATE = {
    "40001": _BUSY,
    "40P01": _BUSY,
    "55P03": _BUSY,
    "57014": _SLOW,
    "42501": _DENIED,
    "28P01": _BAD_LOGIN,
    "28000": _BAD_LOGIN,
    "3D000": _NO_DATABASE,
    "3F000": _NO_DATABASE,
    "42P01": _NO_TABLES,
    "42703": _NO_TABLES,
    "25006": _READ_ONLY,
    "57P01": _STARTING,
    "57P02": _STARTING,
    "57P03": _STARTING,
    "53300": _CROWDED,
    "58030": _IO,
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
}
_BY_CLASS = {"08": _UNREACHABLE, "23": _DISAGREEING, "53": _FULL, "28": _BAD_LOGIN, "58": _IO}
"""By the first two characters of the SQLSTATE, where the whole says nothing."""

_AT_LOGIN = {
    "no password supplied": _BAD_LOGIN,
    "authentication failed": _BAD_LOGIN,
    "no pg_hba.conf entry": _BAD_LOGIN,
    "does not exist": _NO_DATABASE,
    "unsupported startup parameter": _POOLED,
    "starting up": _STARTING,
    "shutting down": _STARTING,
    "too many clients": _CROWDED,
    "too many connections": _CROWDED,
    "remaining connection slots": _CROWDED,
    "permission denied for database": _BAD_LOGIN,
}
"""What the server says before a session begins, where libpq keeps the SQLSTATE to itself."""


def concerns_all(error: psycopg.Error) -> bool:
    """Whether an error has nothing to do with what was to be stored."""
    return error.sqlstate is None or error.sqlstate.startswith(_OF_ALL)


def told(error: psycopg.Error) -> str:
    """Return what the server said, in one line and without the rows that it quotes in details."""
    said = error.diag.message_primary or str(error)
    state = f"SQLSTATE {error.sqlstate}: " if error.sqlstate else ""
    return state + "; ".join(line.strip() for line in said.splitlines() if line.strip())[:500]


def translate_error(error: Exception) -> LedgerError | None:
    """Return the ledger's error for one that psycopg raised, None for any other."""
    if not isinstance(error, psycopg.Error):
        return None
    kind, advice = _meaning(error)
    return kind(f"{advice} ({told(error)})")


def _meaning(error: psycopg.Error) -> tuple[type[LedgerError], str]:
    state = error.sqlstate
    if state is not None:
        known = _BY_STATE.get(state) or _BY_CLASS.get(state[:2])
        return known or (LedgerUnavailable, "nothing was stored")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        text = str(error)
        return next((known for part, known in _AT_LOGIN.items() if part in text), _UNREACHABLE)
    return LedgerUnavailable, "nothing was stored"
