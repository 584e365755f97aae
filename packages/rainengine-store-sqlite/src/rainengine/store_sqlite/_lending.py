"""Keeping somebody else's code within the transaction in which it was lent a connection.

SQLite asks an authorizer about every statement when it is prepared, and a connection that is to
be lent keeps no prepared statements, so that it is asked each time. It refuses what would end the
transaction, what lasts beyond it, and whatever would change the ledger's own tables, by triggers
and views too.

Some errors roll a whole transaction back: a write that is interrupted, a disk that is full.
Code that goes on after one would be in no transaction at all, and each of its statements would
be stored by itself. So outside of the transaction everything is refused.
"""

from __future__ import annotations

import sqlite3

import attrs

from rainengine.core.errors import TransactionMisused

OWN = "rainengine_"
_READING = frozenset(
    {
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
    }
)
_LASTING = {
    sqlite3.SQLITE_TRANSACTION: "",
    sqlite3.SQLITE_ATTACH: "ATTACH ",
    sqlite3.SQLITE_DETACH: "DETACH ",
    sqlite3.SQLITE_PRAGMA: "PRAGMA ",
}
_PRAGMAS = frozenset(
    {
        "defer_foreign_keys",
        "foreign_key_check",
        "foreign_key_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "table_info",
        "table_list",
        "table_xinfo",
    }
)
"""What may be asked or set: it tells of the schema, or ends with the transaction."""


@attrs.define(eq=False)
class SqliteLoan:
    """A connection on loan. Implements `rainengine.store_sql.Loan`."""

    _connection: sqlite3.Connection
    _refused: str | None = None

    def __attrs_post_init__(self) -> None:
        self._connection.set_authorizer(self._judge)

    def _judge(
        self, action: int, one: str | None, two: str | None, database: str | None, by: str | None
    ) -> int:
        refused = self._refusal(action, one, two)
        if refused is None:
            return sqlite3.SQLITE_OK
        self._refused = self._refused or refused
        return sqlite3.SQLITE_DENY

    def _refusal(self, action: int, one: str | None, two: str | None) -> str | None:
        if not self._connection.in_transaction:
            return "went on after an error had rolled the transaction back"
        if action == sqlite3.SQLITE_PRAGMA and (one or "").lower() in _PRAGMAS:
            return None
        if action in _LASTING:
            return f"tried {_LASTING[action]}{one or ''}".rstrip()
        changed = [name for name in _changed(action, one, two) if name.lower().startswith(OWN)]
        return f"tried to change {changed[0]}" if changed else None

    def end(self, *, returned: bool) -> None:
        """Take the connection back. Raises `TransactionMisused`."""
        if self._refused is not None:
            raise TransactionMisused(self._refused)
        try:
            if returned and not self._connection.in_transaction:
                raise TransactionMisused("returned although an error had rolled back everything")
            self._connection.set_authorizer(None)
        except sqlite3.ProgrammingError as closed:
            raise TransactionMisused("closed the connection") from closed
        self._connection.row_factory = None
        self._connection.text_factory = str


def _changed(action: int, one: str | None, two: str | None) -> list[str]:
    """Name what a statement is about to change: a table, or an index or trigger and its table."""
    if action in _READING:
        return []
    columns = action == sqlite3.SQLITE_UPDATE
    return [name for name in (one, None if columns else two) if name is not None]
