"""What is wrong with a PostgreSQL database, or with how it is reached, is told, and no secret is.

Needs a server of its own, with roles and rules of login.
"""

from __future__ import annotations

import logging
import re
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote

import attrs
import psycopg
import pytest
import trio

from rainengine.core.abc import OutboxItem
from rainengine.core.errors import (
    InvalidConfiguration,
    LedgerAccessDenied,
    LedgerBusy,
    LedgerFull,
    LedgerReadOnly,
    LedgerUnavailable,
    RainEngineError,
    SchemaMismatch,
    TransactionTimeout,
)
from rainengine.core.records import KernelEventRecord, MemoryArchived, NewRecord
from rainengine.store_pg import PostgresSettings, check_schema, migrate, open_postgres_ledger
from testbed.postgres import PostgresServer, run_postgres

SECRET = "hünter/2@s3cr€t"
QUOTED = quote(SECRET, safe="")
LOGIN = """
local all postgres trust
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
"""
DISORDER = {
    "older": "UPDATE rainengine_schema SET version_num = '0001'",
    "newer": "UPDATE rainengine_schema SET version_num = '9999'",
    "versionless": "DROP TABLE rainengine_schema",
    "incomplete": "DROP TABLE rainengine_records CASCADE",
    "hidden": "REVOKE SELECT ON ALL TABLES IN SCHEMA public FROM app",
    "unwritable": "REVOKE INSERT ON ALL TABLES IN SCHEMA public FROM app",
    "slow": """
        CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN PERFORM pg_sleep(1); RETURN NEW; END';
        CREATE TRIGGER dawdle BEFORE INSERT ON rainengine_records
        FOR EACH ROW EXECUTE FUNCTION dawdle()
    """,
    "standby": "ALTER DATABASE standby SET default_transaction_read_only = on",
}
TIMEOUT_S = 2
SLACK_S = 3
ITEM = OutboxItem(topic="t", payload=1)


def _note(content: str = "note") -> NewRecord:
    return NewRecord(KernelEventRecord(MemoryArchived(note_id="n", content=content)), 0)


@attrs.frozen
class Guarded:
    """A server that asks for passwords."""

    server: PostgresServer

    def url(self, database: str = "ready", user: str = "app", password: str = QUOTED) -> str:
        url = self.server.url(database, user=user, password=password)
        return f"{url}?connect_timeout={TIMEOUT_S}"

    def ask(self, database: str, *statements: str) -> None:
        """Do something as the administrator."""
        url = self.server.databases.url(database)
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    """A server with a ledger `ready` for the role `app`, and some others that are in disorder."""
    with run_postgres(tcp=True) as server:
        guarded = Guarded(server)
        guarded.ask(
            "postgres",
            f"CREATE ROLE app LOGIN PASSWORD '{SECRET}'",
            "CREATE DATABASE ready",
            "CREATE DATABASE bare",
        )
        trio.run(migrate, server.databases.url("ready"))
        guarded.ask("ready", "GRANT ALL ON ALL TABLES IN SCHEMA public TO app")
        for name, change in DISORDER.items():
            guarded.ask("postgres", f"CREATE DATABASE {name} TEMPLATE ready")
            guarded.ask(name, change)
        (server.folder / "data" / "pg_hba.conf").write_text(LOGIN)
        guarded.ask("postgres", "SELECT pg_reload_conf()")
        yield guarded


@contextmanager
def _told(
    kind: type[RainEngineError], words: str, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """An error of this kind is raised in time and says this; the password is shown nowhere."""
    caplog.set_level(logging.DEBUG)
    began = time.monotonic()
    with pytest.raises(kind, match=words) as caught:
        yield
    assert time.monotonic() - began < TIMEOUT_S + SLACK_S
    shown = [*traceback.format_exception(caught.value), repr(caught.value), caplog.text]
    _check_no_secret("\n".join(shown))


def _check_no_secret(text: str) -> None:
    for secret in (SECRET, QUOTED, SECRET.encode().decode("latin-1")):
        assert secret not in text


UNREACHABLE = "cannot be reached"
UrlOf = Callable[[Guarded], str]
MISTAKES: dict[str, tuple[UrlOf, type[RainEngineError], str]] = {
    "no URL": (lambda _: f"hello {QUOTED}", InvalidConfiguration, "write postgresql://"),
    "half an address": (
        lambda _: f"postgresql://app:{QUOTED}@[::1/ready",
        InvalidConfiguration,
        "write postgresql://",
    ),
    "no port": (
        lambda _: f"postgresql://app:{QUOTED}@127.0.0.1:fifty/ready",
        InvalidConfiguration,
        "write postgresql://",
    ),
    "no such option": (lambda g: f"{g.url()}&colour=blue", InvalidConfiguration, "libpq's"),
    "no server": (
        lambda _: f"postgresql://app:{QUOTED}@127.0.0.1:1/ready",
        LedgerUnavailable,
        UNREACHABLE,
    ),
    "no socket": (
        lambda _: f"postgresql://app:{QUOTED}@/ready?host=/nowhere",
        LedgerUnavailable,
        UNREACHABLE,
    ),
    "no such host": (
        lambda _: f"postgresql://app:{QUOTED}@nowhere.invalid/ready",
        LedgerUnavailable,
        UNREACHABLE,
    ),
    "wrong password": (
        lambda g: g.url(password=f"{QUOTED}1"),
        LedgerAccessDenied,
        "check user, password",
    ),
    "no password": (
        lambda g: g.server.url("ready", user="app"),
        LedgerAccessDenied,
        "check user, password",
    ),
    "no such user": (lambda g: g.url(user="nobody"), LedgerAccessDenied, "check user, password"),
    "no such database": (lambda g: g.url("nothing"), LedgerAccessDenied, "create it, or correct"),
    "no schema": (lambda g: g.url("bare"), SchemaMismatch, r"create it with migrate\(\)"),
    "older schema": (lambda g: g.url("older"), SchemaMismatch, r"up to date with migrate\(\)"),
    "newer schema": (lambda g: g.url("newer"), SchemaMismatch, "newer release"),
    "schema of no version": (lambda g: g.url("versionless"), SchemaMismatch, "no rainengine_sch"),
    "no right to read": (lambda g: g.url("hidden"), LedgerAccessDenied, "grant it SELECT"),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=list(MISTAKES))
async def test_a_mistake_is_told_when_the_ledger_is_opened(
    mistake: tuple[UrlOf, type[RainEngineError], str],
    guarded: Guarded,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Opening and checking name what is wrong and what to do, and no password."""
    url_of, kind, words = mistake
    with _told(kind, words, caplog):
        await check_schema(url_of(guarded))
    with _told(kind, words, caplog):
        async with open_postgres_ledger(url_of(guarded)):
            pass


async def test_a_server_that_does_not_answer_is_not_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where the connection is taken and nothing follows, `connect_timeout` ends the wait."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = f"postgresql://app:{QUOTED}@127.0.0.1:{port}/ready?connect_timeout={TIMEOUT_S}"
        with _told(LedgerUnavailable, UNREACHABLE, caplog):
            async with open_postgres_ledger(url):
                pass


async def test_creating_a_schema_takes_the_right_to(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    """A role that may not create tables is told so, and nothing is left behind."""
    with _told(LedgerAccessDenied, "permission denied for schema public", caplog):
        await migrate(guarded.url("bare"))
    with _told(SchemaMismatch, r"create it with migrate\(\)", caplog):
        await check_schema(guarded.url("bare"))


async def test_what_may_not_be_written_is_told_and_not_stored(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    """A role without INSERT reads; its appends fail until it is granted, and then succeed."""
    async with open_postgres_ledger(guarded.url("unwritable")) as ledger:
        empty = await ledger.head("s")
        for expected in (empty, None):
            with _told(LedgerAccessDenied, "SELECT, INSERT, UPDATE and DELETE", caplog):
                await ledger.append("s", [_note()], expected=expected)
        assert await ledger.head("s") == empty
        guarded.ask("unwritable", "GRANT INSERT ON ALL TABLES IN SCHEMA public TO app")
        done = await ledger.append("s", [_note()], expected=empty)
        assert done.head.sequence == 1


async def test_a_missing_table_is_told(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    """Tables that are not there are missed at the first use, with the way to get them."""
    async with open_postgres_ledger(guarded.url("incomplete")) as ledger:
        with _told(LedgerUnavailable, r"migrate\(\)", caplog):
            await ledger.read("s")
        with _told(LedgerUnavailable, r"migrate\(\)", caplog):
            await ledger.append("s", [_note()], expected=None)


async def test_a_server_that_only_reads_is_told(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    """A database whose transactions only read, as a standby's do, takes no appends and says so."""
    async with open_postgres_ledger(guarded.url("standby")) as ledger:
        assert (await ledger.head("s")).sequence == 0
        with _told(LedgerReadOnly, "takes no writes", caplog):
            await ledger.append("s", [_note()], expected=await ledger.head("s"))


async def test_a_statement_that_takes_too_long_is_cancelled(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is slower than `statement_timeout_ms` is told, and nothing is stored."""
    settings = PostgresSettings(statement_timeout_ms=100)
    async with open_postgres_ledger(guarded.url("slow"), settings=settings) as ledger:
        empty = await ledger.head("s")
        with _told(TransactionTimeout, "raise statement_timeout_ms", caplog):
            await ledger.append("s", [_note()], expected=empty)
        assert await ledger.head("s") == empty


async def test_a_lock_that_others_keep_is_not_waited_for(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond `lock_timeout_ms` a table that somebody keeps locked is told; nothing is stored."""
    settings = PostgresSettings(lock_timeout_ms=100)
    async with open_postgres_ledger(guarded.url(), settings=settings) as ledger:
        first = await ledger.append("locked", [_note()], expected=None)
        with psycopg.connect(guarded.url()) as connection:
            connection.execute("LOCK TABLE rainengine_records IN ACCESS EXCLUSIVE MODE")
            with _told(LedgerBusy, "kept the rows locked", caplog):
                await ledger.append("locked", [_note()], expected=first.head)
        assert await ledger.head("locked") == first.head


async def test_a_full_disk_is_told_and_survived(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    """Where there is no room for records, nothing is stored; once there is, all goes on."""
    guarded.ask("postgres", "CREATE DATABASE small TEMPLATE ready")
    file = _file_of(guarded, "small", "rainengine_outbox")
    async with open_postgres_ledger(guarded.url("small")) as ledger:
        before = await ledger.append("s", [_note("1")], expected=None)
        with guarded.server.no_room_for(file):
            await ledger.append("another", [_note()], expected=None)
            with _told(LedgerFull, "free some", caplog):
                await ledger.append("s", [_note("2")], expected=before.head, outbox=[ITEM])
            assert await ledger.head("s") == before.head
            after = await ledger.append("s", [_note("3")], expected=before.head)
        await ledger.append("s", [_note("4")], expected=after.head, outbox=[ITEM])
        contents = [stored.record.event.content for stored in await ledger.read("s")]
        assert contents == ["1", "3", "4"]


def _file_of(guarded: Guarded, database: str, table: str) -> str:
    with psycopg.connect(guarded.server.databases.url(database)) as connection:
        row = connection.execute("SELECT pg_relation_filepath(%s)", (table,)).fetchone()
    assert row is not None
    return row[0]


async def test_nothing_that_is_kept_shows_the_password(guarded: Guarded) -> None:
    """A store and its parts, printed, show no password."""
    async with open_postgres_ledger(guarded.url()) as ledger:
        await ledger.append("s", [_note()], expected=None)
        shown = [repr(ledger), *map(repr, _reachable(ledger))]
        assert len(shown) > 10
        assert re.search("Committer", "\n".join(shown))
        _check_no_secret("\n".join(shown))


def _reachable(root: object) -> list[object]:
    """Whatever of ours can be reached from an object by its attributes."""
    found: dict[int, object] = {}
    waiting = [root]
    while waiting:
        thing = waiting.pop()
        if id(thing) in found or not type(thing).__module__.startswith("rainengine"):
            continue
        found[id(thing)] = thing
        names = [*getattr(thing, "__slots__", ()), *getattr(thing, "__dict__", ())]
        waiting += [getattr(thing, name, None) for name in names]
    return list(found.values())
