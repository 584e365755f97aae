"""Lending a connection to code that is not ours, in a transaction that is.

Postgres cannot forbid code to end a transaction. psycopg's own ways to do so are refused here;
against SQL that says COMMIT there is a savepoint: if it is gone, so is the transaction, and what
was written up to then may be stored.
"""

from __future__ import annotations

from typing import Any, NoReturn

import attrs
import psycopg
from psycopg import Connection, Cursor
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from rainengine.core.errors import TransactionMisused
from rainengine.store_pg._errors import told

_OPEN = frozenset({TransactionStatus.INTRANS, TransactionStatus.INERROR})


class LentConnection(Connection[tuple[Any, ...]]):
    """A connection whose transactions are not its user's to end."""

    _misused: str | None = None
    reclaim: bytes = b""
    """What undoes the settings of a transaction that its user may have changed."""

    def commit(self) -> None:
        """Refuse: what is to be stored is stored with the call's result."""
        self._refuse("tried to commit")

    def rollback(self) -> None:
        """Refuse: a function that is to have no effect raises."""
        self._refuse("tried to roll back")

    def _refuse(self, what: str) -> NoReturn:
        self._misused = self._misused or what
        raise TransactionMisused(what)

    def take_misuse(self) -> str | None:
        """Return what was refused since this was asked last, if anything."""
        misused, self._misused = self._misused, None
        return misused

    def renew(self) -> None:
        """Undo the driver's settings that its user may have changed."""
        self.row_factory = tuple_row
        self.cursor_factory = Cursor
        self.prepare_threshold = None


@attrs.frozen
class PostgresLoan:
    """A connection on loan. Implements `rainengine.store_sql.Loan`."""

    _connection: LentConnection

    def __attrs_post_init__(self) -> None:
        self._connection.execute(b"SAVEPOINT rainengine_loan")

    def end(self, *, returned: bool) -> None:
        """Take the connection back. Raises `TransactionMisused`."""
        connection, misused = self._connection, self._connection.take_misuse()
        connection.renew()
        if connection.broken:
            return  # nothing was stored, and the next statement says so
        if connection.closed:
            raise TransactionMisused("closed the connection")
        status = connection.info.transaction_status
        if status not in _OPEN or not self._found(status):
            raise TransactionMisused("ended the transaction", undone=False)
        if misused is not None:
            raise TransactionMisused(misused)
        if returned and status == TransactionStatus.INERROR:
            raise TransactionMisused("returned although a failed statement had ended it all")
        if returned:
            self._reclaim()
            self._check_constraints()

    def _reclaim(self) -> None:
        """Undo settings: the ledger's own append comes next, durably and in its place."""
        try:
            self._connection.execute(self._connection.reclaim)
        except psycopg.Error as error:
            raise TransactionMisused(
                f"left settings that cannot be undone: {told(error)}"
            ) from error

    def _check_constraints(self) -> None:
        """Check what was put off now, and not at the commit, where it would look like our fault."""
        try:
            self._connection.execute(b"SET CONSTRAINTS ALL IMMEDIATE")
        except psycopg.IntegrityError as error:
            raise TransactionMisused(f"left rows that break a constraint: {told(error)}") from error

    def _found(self, status: TransactionStatus) -> bool:
        how = b"RELEASE" if status == TransactionStatus.INTRANS else b"ROLLBACK TO"
        try:
            self._connection.execute(how + b" SAVEPOINT rainengine_loan")
        except psycopg.errors.InvalidSavepointSpecification:
            return False
        return True
