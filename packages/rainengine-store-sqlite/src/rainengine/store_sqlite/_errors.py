"""SQLite's errors as the ledger's, each with what to do about it."""

from __future__ import annotations

import sqlite3

from rainengine.core.errors import (
    LedgerBusy,
    LedgerCorrupt,
    LedgerError,
    LedgerFull,
    LedgerIOError,
    LedgerReadOnly,
    LedgerUnavailable,
    TransactionTimeout,
)

_MEANINGS: dict[int, tuple[type[LedgerError], str]] = {
    sqlite3.SQLITE_BUSY: (
        LedgerBusy,
        (
            "another process kept the database locked for longer than busy_timeout_ms:"
            " try again, or find out what holds it"
        ),
    ),
    sqlite3.SQLITE_LOCKED: (LedgerBusy, "another connection has the database locked: try again"),
    sqlite3.SQLITE_INTERRUPT: (
        TransactionTimeout,
        "the transaction took longer than it may and was rolled back: have it do less",
    ),
    sqlite3.SQLITE_FULL: (
        LedgerFull,
        "no room is left on the disk, or under max_page_count: free some, then try again",
    ),
    sqlite3.SQLITE_READONLY: (
        LedgerReadOnly,
        (
            "the database cannot be written: check the permissions of the file and its folder"
            " and the mount options"
        ),
    ),
    sqlite3.SQLITE_PERM: (LedgerReadOnly, "access was denied: check the permissions of the file"),
    sqlite3.SQLITE_CANTOPEN: (
        LedgerIOError,
        "the database cannot be opened: check that its folder exists and is accessible",
    ),
    sqlite3.SQLITE_IOERR: (
        LedgerIOError,
        "the operating system failed to read or write the database: check the disk",
    ),
    sqlite3.SQLITE_PROTOCOL: (LedgerBusy, "the locks of the database are contended: try again"),
    sqlite3.SQLITE_CORRUPT: (
        LedgerCorrupt,
        "the database is damaged: restore it from a backup, or save what `.recover` can read",
    ),
    sqlite3.SQLITE_NOTADB: (
        LedgerCorrupt,
        "the file is no SQLite database: check the path, or restore the file from a backup",
    ),
    sqlite3.SQLITE_CONSTRAINT: (
        LedgerCorrupt,
        (
            "the session's row does not agree with its records: rebuild the index, or restore"
            " the database from a backup"
        ),
    ),
}


def translate_error(error: Exception) -> LedgerError | None:
    """Return the ledger's error for one that sqlite3 raised, None for any other."""
    if isinstance(error, UnicodeDecodeError):  # in a message that quotes a damaged schema
        return _damaged_text(error)
    if not isinstance(error, sqlite3.Error):
        return None
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return _without_code(error)
    primary: int = code & 0xFF
    kind, advice = _MEANINGS.get(primary, (LedgerUnavailable, "nothing was stored"))
    return kind(f"{advice} ({error.sqlite_errorname}: {error})")


def _without_code(error: sqlite3.Error) -> LedgerError:
    """Errors of Python's sqlite3 module itself."""
    if "UTF-8" in str(error):
        return _damaged_text(error)
    return LedgerUnavailable(f"nothing was stored ({error})")


def _damaged_text(error: Exception) -> LedgerCorrupt:
    return LedgerCorrupt(f"stored text is damaged: restore the database from a backup ({error})")


def no_database(path: object) -> LedgerCorrupt:
    """Return the error for a file that is something else."""
    _, advice = _MEANINGS[sqlite3.SQLITE_NOTADB]
    return LedgerCorrupt(f"{advice} ({path})")
