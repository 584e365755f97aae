"""What Postgres' errors mean to a ledger."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

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
from rainengine.store_pg._errors import translate_error

MEANINGS: list[tuple[type[psycopg.Error], type[LedgerError]]] = [
    (errors.SerializationFailure, LedgerBusy),
    (errors.DeadlockDetected, LedgerBusy),
    (errors.LockNotAvailable, LedgerBusy),
    (errors.QueryCanceled, TransactionTimeout),
    (errors.InsufficientPrivilege, LedgerAccessDenied),
    (errors.InvalidPassword, LedgerAccessDenied),
    (errors.InvalidAuthorizationSpecification, LedgerAccessDenied),
    (errors.InvalidCatalogName, LedgerAccessDenied),
    (errors.UndefinedTable, LedgerUnavailable),
    (errors.UndefinedColumn, LedgerUnavailable),
    (errors.ReadOnlySqlTransaction, LedgerReadOnly),
    (errors.AdminShutdown, LedgerUnavailable),
    (errors.CannotConnectNow, LedgerUnavailable),
    (errors.TooManyConnections, LedgerUnavailable),
    (errors.DiskFull, LedgerFull),
    (errors.OutOfMemory, LedgerFull),
    (errors.IoError, LedgerIOError),
    (errors.DataCorrupted, LedgerCorrupt),
    (errors.UniqueViolation, LedgerCorrupt),
    (errors.ConnectionFailure, LedgerUnavailable),
    (errors.SyntaxError, LedgerUnavailable),
]


@pytest.mark.parametrize(("error", "meaning"), MEANINGS, ids=lambda kind: kind.__name__)
def test_each_state_has_a_meaning(error: type[psycopg.Error], meaning: type[LedgerError]) -> None:
    """An SQLSTATE becomes the ledger's error, which quotes it and what the server said."""
    translated = translate_error(error("what the server said"))
    assert meaning is type(translated)
    assert "what the server said" in str(translated)
    assert f"SQLSTATE {error.sqlstate}" in str(translated)


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ('FATAL:  password authentication failed for user "u"', LedgerAccessDenied),
        ("fe_sendauth: no password supplied", LedgerAccessDenied),
        ('FATAL:  database "d" does not exist', LedgerAccessDenied),
        ('FATAL:  role "u" does not exist', LedgerAccessDenied),
        ("FATAL:  unsupported startup parameter: options", LedgerAccessDenied),
        ("FATAL:  the database system is starting up", LedgerUnavailable),
        ("FATAL:  sorry, too many clients already", LedgerUnavailable),
        ("Connection refused", LedgerUnavailable),
        ("connection timeout expired", LedgerUnavailable),
    ],
)
def test_a_failed_login_has_a_meaning(said: str, meaning: type[LedgerError]) -> None:
    """Before a session begins only the text tells what is wrong."""
    translated = translate_error(psycopg.OperationalError(said))
    assert meaning is type(translated)
    assert said in str(translated)


def test_what_is_not_the_drivers_is_left_alone() -> None:
    """An error that psycopg did not raise has no meaning here."""
    assert None is translate_error(ValueError("x"))
