"""Where the database is, and connections to it."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

import attrs
import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict

from rainengine.core.errors import InvalidConfiguration
from rainengine.store_pg import _arrays as arrays
from rainengine.store_pg._lending import LentConnection

PgConnection: TypeAlias = Connection[tuple[Any, ...]]

_DEFAULTS = {
    "connect_timeout": "10",
    "application_name": "rainengine",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
"""libpq's parameters, where neither the URL nor the environment says otherwise."""

_ISOLATION = ("default_transaction_isolation", "read committed")
_PLANNING = (
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
)
"""A plan is made once, on what may still be an empty table, and has to be good for a full one."""

_FROM_ENVIRONMENT = {"connect_timeout": "PGCONNECT_TIMEOUT", "application_name": "PGAPPNAME"}


def parse_url(url: str) -> dict[str, Any]:
    """Return libpq's parameters of a `postgresql://` URL or a conninfo string.

    Raises `InvalidConfiguration`, which quotes nothing of it: there may be a password in it.
    """
    try:
        parameters: dict[str, Any] = conninfo_to_dict(url)
    except (psycopg.Error, UnicodeError, ValueError):
        parameters = {}
    if not parameters or "\0" in url or _is_misread(parameters):
        raise InvalidConfiguration(
            "url",
            "it cannot be read: write postgresql://user:password@host:port/database, with special"
            " characters percent-encoded and only libpq's parameters behind a question mark",
        )
    return parameters


def _is_misread(parameters: dict[str, Any]) -> bool:
    """Whether libpq takes for something else what may be part of a password."""
    hosts = str(parameters.get("host", "")).split(",")
    ports = str(parameters.get("port", "")).split(",")
    return (
        any("@" in host[1:] for host in hosts)
        or "@" in str(parameters.get("dbname", ""))
        or not all(port.isdecimal() for port in ports if port)
    )


@attrs.frozen(kw_only=True)
class Server:
    """A database and how its connections behave. The parameters may hold a password.

    `durability` is the value of `synchronous_commit` that all commits have, and `search_path`
    where the tables are: both were looked at once, and hold whatever is set later.
    """

    parameters: dict[str, Any] = attrs.field(repr=False)
    statement_timeout_ms: int
    lock_timeout_ms: int
    pooler: bool
    durability: str = "on"
    search_path: str | None = None

    @property
    def preamble(self) -> str:
        """What each transaction begins with.

        Behind a pooler the next transaction may run on another connection of the server's, which
        others have used, so that whatever is to hold is set in each.
        """
        begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
        return f"{begin}; {self._set_all}" if self.pooler else begin

    @property
    def preamble_to_read(self) -> str:
        """What a transaction that only reads begins with, behind a pooler."""
        return f"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; {self._set_all}"

    @property
    def reclaim(self) -> str:
        """What takes a transaction back from code that may have changed its settings."""
        return f"RESET SESSION AUTHORIZATION; RESET ROLE; {self._set_all}"

    @property
    def _set_all(self) -> str:
        return "; ".join([f"SET LOCAL {name} = {value}" for name, value in self._limits])

    @property
    def _limits(self) -> tuple[tuple[str, object], ...]:
        where = () if self.search_path is None else (("search_path", self.search_path),)
        return (
            ("statement_timeout", self.statement_timeout_ms),
            ("lock_timeout", self.lock_timeout_ms),
            ("idle_in_transaction_session_timeout", self.statement_timeout_ms),
            ("synchronous_commit", self.durability),
            *where,
        )

    def connect_writer(self) -> PgConnection:
        """Open a connection that writes, durably whatever the database's own settings are.

        Its statements reach every row by its key, however large the tables are by now.
        """
        return self._connect(*self._limits, _ISOLATION, *_PLANNING)

    def connect_reader(self) -> PgConnection:
        """Open a connection that refuses to write."""
        return self._connect(*self._limits, _ISOLATION, ("default_transaction_read_only", "on"))

    def connect_lent(self) -> LentConnection:
        """Open a connection that writes, and is to be lent to code that is not ours.

        Its statements are planned as on any other connection, and none is prepared.
        """
        connection = LentConnection.connect(**self._parameters(*self._limits, _ISOLATION))
        connection.reclaim = self.reclaim.encode()
        arrays.register(connection)
        connection.renew()
        return connection

    def renew_lent(self, connection: PgConnection) -> None:
        """Undo what code that is not ours may have left on a connection."""
        if not self.pooler:
            connection.execute(b"DISCARD ALL")

    def connect_plainly(self) -> PgConnection:
        """Open a connection with the server's own settings."""
        return self._connect()

    def _connect(self, *settings: tuple[str, object]) -> PgConnection:
        connection = psycopg.connect(**self._parameters(*settings))
        arrays.register(connection)
        connection.prepare_threshold = None if self.pooler else 5
        return connection

    def _parameters(self, *settings: tuple[str, object]) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            **_defaults(),
            **self.parameters,
            "client_encoding": "UTF8",
            "autocommit": True,
        }
        if settings and not self.pooler:
            parameters["options"] = " ".join(
                [self._own_options(), *(_option(name, value) for name, value in settings)]
            )
        return parameters

    def _own_options(self) -> str:
        return str(self.parameters.get("options") or os.environ.get("PGOPTIONS", ""))


def _option(name: str, value: object) -> str:
    """Write a setting as libpq takes it, where a backslash keeps a blank from ending it."""
    text = "".join(f"\\{c}" if c in "\\ " else c for c in str(value))
    return f"-c {name}={text}"


def _defaults() -> dict[str, str]:
    given = {name for name, variable in _FROM_ENVIRONMENT.items() if variable in os.environ}
    return {name: value for name, value in _DEFAULTS.items() if name not in given}
