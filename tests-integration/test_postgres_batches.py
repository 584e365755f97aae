"""How appends of several handles share one PostgreSQL database, whatever its settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from tempfile import TemporaryFile

import psycopg
import pytest
import trio

from rainengine.core import (
    AgentEngine,
    CallSkills,
    InMemoryLedger,
    Message,
    PlannedSkillCall,
    ProcessRequest,
    Respond,
    ScriptedProvider,
    run_until_terminal,
    skill,
    verify_session,
)
from rainengine.core.abc import LeaseChange
from rainengine.core.errors import (
    DuplicateTrigger,
    FenceLost,
    InvalidConfiguration,
    LeaseHeld,
    LedgerBusy,
    LedgerUnavailable,
    SequenceConflict,
)
from rainengine.core.records import (
    KernelEventRecord,
    MemoryArchived,
    NewRecord,
    TriggerRecord,
)
from rainengine.store_pg import PostgresSettings, check_schema, open_postgres_ledger
from rainengine.store_sql import SqlLedgerStore
from testbed.databases import Databases

IMPATIENT = PostgresSettings(lock_timeout_ms=200)
DEAF = PostgresSettings(poll_s=3600)


def _note(content: str = "note") -> NewRecord:
    return NewRecord(KernelEventRecord(MemoryArchived(note_id="n", content=content)), 0)


def _trigger(key: str) -> NewRecord:
    message = Message(user_id="u", content="hello")
    return NewRecord(TriggerRecord(trigger_id=key, trigger=message, body_hash=""), 0, key, key)


@contextmanager
def _locked(url: str, session_id: str) -> Iterator[None]:
    """Keep a session's row locked, as a process does that died with its transaction open."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "SELECT 1 FROM rainengine_sessions WHERE session_id = %s FOR UPDATE", (session_id,)
        )
        yield
        connection.rollback()


async def _on_writer(ledger: SqlLedgerStore, statement: str) -> object:
    """Ask the database on a connection that writes."""
    run = ledger._parts.transactor.run
    return await run(lambda connection: connection.execute(statement).fetchone()[0], timeout_s=5)


async def test_appends_of_one_moment_share_a_commit(ledger_url: str) -> None:
    """What 64 sessions append in one pass of the scheduler is one statement."""
    async with open_postgres_ledger(ledger_url) as ledger:
        for number in (1, 2):
            async with trio.open_nursery() as nursery:
                for n in range(64):
                    nursery.start_soon(
                        partial(ledger.append, f"s{n}", [_note(), _note()], expected=None)
                    )
            stats = ledger.stats()
            assert (number, number, number * 64) == (stats.commits, stats.batches, stats.appends)


async def test_a_turn_is_four_commits(ledger_url: str) -> None:
    """Two model calls and three tools that finish in one pass, leases included, commit 4 times."""

    @skill(effects="idempotent")
    async def look_up(query: str) -> str:
        """Look something up."""
        return query

    calls = [PlannedSkillCall(call_id=c, name="look_up", args={"query": c}) for c in "abc"]
    async with open_postgres_ledger(ledger_url) as ledger:
        provider = ScriptedProvider([CallSkills(calls), Respond("done")])
        engine = AgentEngine(ledger=ledger, provider=provider, skills=[look_up])
        request = ProcessRequest(session_id="s", trigger=Message(user_id="u", content="go"))
        assert "done" == (await run_until_terminal(engine, request)).response
        assert 4 == ledger.stats().commits
        assert (await verify_session(ledger, "s")).ok


async def test_a_row_that_others_changed_is_judged_anew(ledger_url: str) -> None:
    """What a handle remembers of a session decides nothing once another handle has written."""
    async with open_postgres_ledger(ledger_url) as one, open_postgres_ledger(ledger_url) as other:
        first = await one.append("s", [_trigger("a")], expected=None)
        second = await other.append("s", [_trigger("b")], expected=first.head)
        with pytest.raises(SequenceConflict):
            await one.append("s", [_note()], expected=first.head)
        with pytest.raises(DuplicateTrigger) as duplicate:
            await one.append("s", [_trigger("b")], expected=None)
        assert 2 == duplicate.value.sequence
        third = await one.append("s", [_trigger("c")], expected=None)
        assert (2, 3) == (second.head.sequence, third.head.sequence)
        taken = await other.append("s", [], expected=None, lease=LeaseChange("take", "o", 60_000))
        with pytest.raises(LeaseHeld):
            await one.append("s", [_note()], expected=third.head)
        await other.release("s", owner="o", fence=taken.fence)
        with pytest.raises(FenceLost):
            await one.append("s", [_note()], expected=third.head, fence=7)
        await one.append("s", [_note()], expected=third.head)
        assert (await verify_session(one, "s")).ok


async def test_two_handles_make_one_session_once(ledger_url: str) -> None:
    """Of two handles that begin the same session at once, both intakes are stored, in a row."""
    async with open_postgres_ledger(ledger_url) as one, open_postgres_ledger(ledger_url) as other:
        for n in range(30):
            async with trio.open_nursery() as nursery:
                for ledger, key in ((one, "a"), (other, "b")):
                    nursery.start_soon(
                        partial(ledger.append, f"s{n}", [_trigger(key)], expected=None)
                    )
            keys = [record.idempotency_key for record in await one.read(f"s{n}")]
            assert ["a", "b"] == sorted(str(key) for key in keys)


async def test_a_locked_session_holds_up_no_other(ledger_url: str) -> None:
    """While one session's row is locked the others are stored; its own append fails in time."""
    async with open_postgres_ledger(ledger_url, settings=IMPATIENT) as ledger:
        for session in ("a", "locked", "z"):
            await ledger.append(session, [_note()], expected=None)
        failed = trio.Event()
        stored = 0

        async def append_to_the_locked() -> None:
            with pytest.raises(LedgerBusy):
                await ledger.append("locked", [_note()], expected=None)
            failed.set()

        with _locked(ledger_url, "locked"), trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(append_to_the_locked)
                while not failed.is_set():
                    for session in ("a", f"new{stored}", "z"):
                        await ledger.append(session, [_note()], expected=None)
                    stored += 1
        assert stored > 1
        assert 1 == (await ledger.head("locked")).sequence
        assert 2 == (await ledger.append("locked", [_note()], expected=None)).head.sequence


async def test_a_row_that_is_let_go_of_is_taken(ledger_url: str) -> None:
    """An append waits for a row that somebody else has locked for a moment."""
    async with open_postgres_ledger(ledger_url) as ledger:
        await ledger.append("s", [_note()], expected=None)
        async with trio.open_nursery() as nursery:
            with _locked(ledger_url, "s"):
                nursery.start_soon(partial(ledger.append, "s", [_note()], expected=None))
                await ledger.append("other", [_note()], expected=None)
                await ledger.append("other", [_note()], expected=None)
        assert 2 == (await ledger.head("s")).sequence


async def test_what_one_append_raises_is_its_own(ledger_url: str) -> None:
    """Where the database refuses one session's rows, the others of the batch are stored."""
    with psycopg.connect(ledger_url, autocommit=True) as connection:
        connection.execute(
            """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'not this one'; END $$"""
        )
        connection.execute(
            """CREATE TRIGGER refuse BEFORE INSERT ON rainengine_records FOR EACH ROW
            WHEN (NEW.session_id = 'bad') EXECUTE FUNCTION refuse()"""
        )
    results: dict[str, str] = {}
    async with open_postgres_ledger(ledger_url) as ledger:

        async def append(session: str) -> None:
            try:
                await ledger.append(session, [_note()], expected=None)
            except LedgerUnavailable as error:
                results[session] = str(error)
            else:
                results[session] = "stored"

        async with trio.open_nursery() as nursery:
            for session in ("a", "bad", "z"):
                nursery.start_soon(append, session)
    assert "not this one" in results.pop("bad")
    assert {"a": "stored", "z": "stored"} == results


@pytest.mark.parametrize("pooler", [False, True])
async def test_nobody_keeps_a_row_locked_for_ever(pooler: bool, ledger_url: str) -> None:  # noqa: FBT001
    """The server ends the transaction of a process that is not heard of any more."""
    settings = PostgresSettings(statement_timeout_ms=7_000, pooler=pooler)
    async with open_postgres_ledger(ledger_url, settings=settings) as ledger:
        show = "SELECT current_setting('idle_in_transaction_session_timeout')"
        assert "10s" == await _on_writer(ledger, show)


async def test_later_settings_of_the_database_change_nothing(ledger_url: str) -> None:
    """What an operator sets while the ledger is open does not make its commits less durable."""
    async with open_postgres_ledger(ledger_url) as ledger:
        with psycopg.connect(ledger_url, autocommit=True) as connection:
            name = connection.info.dbname
            connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
            connection.execute(f'ALTER DATABASE "{name}" SET search_path = nowhere')
            connection.execute(
                """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()"""
            )
        await ledger.append("s", [_note()], expected=None)
        assert "on" == await _on_writer(ledger, "SHOW synchronous_commit")


@pytest.mark.parametrize("isolation", ["serializable", "repeatable read"])
async def test_settings_of_the_database_change_nothing(isolation: str, ledger_url: str) -> None:
    """Appends are durable and conflict-free whatever the database's defaults are."""
    with psycopg.connect(ledger_url, autocommit=True) as connection:
        for setting in (
            f"default_transaction_isolation = '{isolation}'",
            "synchronous_commit = off",
        ):
            name = connection.info.dbname
            connection.execute(f'ALTER DATABASE "{name}" SET {setting}')
    for settings in (PostgresSettings(), PostgresSettings(pooler=True)):
        async with open_postgres_ledger(ledger_url, settings=settings) as ledger:
            await ledger.append("s", [_note()], expected=None)
            assert "on" == await _on_writer(ledger, "SHOW synchronous_commit")
            assert "read committed" == await _on_writer(ledger, "SHOW transaction_isolation")


async def test_a_signal_wakes_who_waits_elsewhere(ledger_url: str) -> None:
    """A waiting handle hears of another's append without polling."""
    async with (
        open_postgres_ledger(ledger_url) as one,
        open_postgres_ledger(ledger_url, settings=DEAF) as other,
    ):
        await one.append("s", [_note()], expected=None)
        heads: list[int] = []

        async def wait() -> None:
            heads.append((await other.wait_past("s", 1)).sequence)

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await _heard(other)
                await one.append("s", [_note()], expected=None)
        assert [2] == heads


async def _heard(ledger: SqlLedgerStore) -> None:
    """Return once the ledger's process listens; others' signals before that are lost to it."""
    signals = ledger._parts.watchers._signals
    listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN %'"
    while signals is None or await _on_writer(ledger, listening) != 1:
        await trio.lowlevel.checkpoint()


@pytest.fixture(params=[0, 1100], ids=["few files", "many files"])
def open_files(request: pytest.FixtureRequest) -> Iterator[None]:
    """So many files are open that `select` would not take another one."""
    with TemporaryFile() as file, ExitStack() as stack:
        for _ in range(request.param):
            stack.callback(os.close, os.dup(file.fileno()))
        yield


@pytest.mark.usefixtures("open_files")
async def test_a_listener_survives_the_loss_of_its_connection(ledger_url: str) -> None:
    """Once its connection was cut, a listening handle listens again on another one."""
    async with open_postgres_ledger(ledger_url, settings=DEAF) as ledger:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ledger.wait_past, "s", 0)
                await _heard(ledger)
                cut = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE query LIKE 'LISTEN %'"""
                assert 1 == await _on_writer(ledger, cut)
                await _heard(ledger)
                nursery.cancel_scope.cancel()


async def test_leases_run_out_by_the_clock_of_the_database(ledger_url: str) -> None:
    """A lease is held, and then anybody's, as the database's clock says, not the process's."""
    async with open_postgres_ledger(ledger_url) as one, open_postgres_ledger(ledger_url) as other:
        take = LeaseChange("take", "one", 400)
        await one.append("s", [_note()], expected=None, lease=take)
        lease = await other.lease_of("s")
        now_ms = await _on_writer(other, "SELECT (extract(epoch FROM now()) * 1000)::bigint")
        assert 0 < lease.left_ms <= 400
        assert abs(lease.now_ms - int(str(now_ms))) < 5_000
        with pytest.raises(LeaseHeld):
            await other.append("s", [], expected=None, lease=LeaseChange("take", "other", 400))
        await _on_writer(other, "SELECT pg_sleep(0.5)::text")
        taken = await other.append("s", [], expected=None, lease=LeaseChange("take", "other", 400))
        assert 2 == taken.fence


async def test_nothing_is_prepared_behind_a_pooler(ledger_url: str) -> None:
    """Through a pooler no prepared statement is left on a connection that others may get next."""
    count = "SELECT count(*) FROM pg_prepared_statements"
    for pooler, expected in ((True, 0), (False, 1)):
        settings = PostgresSettings(pooler=pooler)
        async with open_postgres_ledger(ledger_url, settings=settings) as ledger:
            for _ in range(20):
                await ledger.append("s", [_note()], expected=None)
            writer = ledger._committer._connection
            assert writer is not None
            (prepared,) = writer.execute(count).fetchone() or (None,)
            assert expected == prepared


async def test_another_encoding_is_refused(postgres_databases: Databases) -> None:
    """A database that cannot hold every text is refused when it is opened."""
    name = "latin1_only"
    with psycopg.connect(postgres_databases.admin_url, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
            " TEMPLATE template0"
        )
    try:
        with pytest.raises(InvalidConfiguration, match="LATIN1"):
            async with open_postgres_ledger(postgres_databases.url(name), create=True):
                pass
    finally:
        postgres_databases.drop(name)


async def test_many_may_create_the_schema_at_once(postgres_url: str) -> None:
    """Of several processes that open an empty database one creates the schema, the others wait."""
    opened: list[str] = []

    async def open_it(n: int) -> None:
        async with open_postgres_ledger(postgres_url, create=True) as ledger:
            await ledger.append(f"s{n}", [_note()], expected=None)
            opened.append(f"s{n}")

    async with trio.open_nursery() as nursery:
        for n in range(4):
            nursery.start_soon(open_it, n)
    assert ["s0", "s1", "s2", "s3"] == sorted(opened)
    await check_schema(postgres_url)


async def test_sessions_spread_over_partitions(postgres_url: str) -> None:
    """With partitions the tables of sessions are divided, and every session is found in them."""
    async with open_postgres_ledger(postgres_url, create=True, partitions=4) as ledger:
        for n in range(32):
            await ledger.append(f"s{n}", [_note()], expected=None)
        assert [1] * 32 == [(await ledger.head(f"s{n}")).sequence for n in range(32)]
    parts = "SELECT count(DISTINCT tableoid) FROM rainengine_{}"
    with psycopg.connect(postgres_url) as connection:
        for table in ("records", "sessions"):
            assert (4,) == connection.execute(parts.format(table)).fetchone()


async def test_what_it_stores_is_what_memory_stores(ledger_url: str) -> None:
    """The same appends end in the same hashes on Postgres as in memory."""
    async with open_postgres_ledger(ledger_url) as ledger:
        for store in (ledger, memory := InMemoryLedger()):
            for n in range(5):
                await store.append(
                    "s", [_trigger(f"k{n}"), _note("ä\U0001f327 \\ \" '")], expected=None
                )
        assert await memory.head("s") == await ledger.head("s")
        assert list(await memory.read("s")) == list(await ledger.read("s"))
