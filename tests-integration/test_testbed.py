"""The servers that other tests stand on are themselves what they are taken for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from testbed.databases import Databases
from testbed.postgres import run_postgres
from testbed.processes import environment

HOLDER = """
import sys
from testbed.postgres import run_postgres

with run_postgres() as server:
    print(server.folder, server.url("postgres"), flush=True)
    sys.stdin.read()
"""


def _ask(url: str, statement: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(statement).fetchone()
    assert row is not None
    return row[0]


def test_a_test_has_a_database_of_its_own(postgres_url: str, postgres_databases: Databases) -> None:
    """Two databases of one server know nothing of each other, and a copy has what was copied."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE only_here (n int)")
        here = connection.info.dbname
    looked_for = "SELECT to_regclass('only_here')::text"
    for template, expected in ((None, None), (here, "only_here")):
        name = postgres_databases.create(template=template)
        assert _ask(postgres_databases.url(name), looked_for) == expected
        postgres_databases.drop(name)


@pytest.mark.parametrize("fsync", ["on", "off"])
def test_commits_are_durable_on_request(fsync: str) -> None:
    """A server for benchmarks syncs what it commits, one for tests does not wait for the disk."""
    with run_postgres(fsync=fsync == "on") as server:
        assert _ask(server.url("postgres"), "SHOW fsync") == fsync


def test_a_server_comes_back_with_what_was_committed() -> None:
    """After a crash of the server, or of its first process, the same URL finds the same data."""
    with run_postgres(tcp=True) as server:
        url = server.url("postgres")
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
        for again in (server.restart, lambda: (server.kill(), server.start())):
            again()
            assert _ask(url, "SELECT n FROM kept") == 7


def test_a_stopped_server_takes_no_connections() -> None:
    """Between `stop` and `start` there is nobody to talk to."""
    with run_postgres() as server:
        server.stop("immediate")
        with pytest.raises(psycopg.OperationalError, match=r"No such file|refused"):
            psycopg.connect(server.url("postgres"))


def test_a_server_does_not_outlive_a_killed_test_run() -> None:
    """Where the process that started it is killed, the server ends and its folder goes."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with holder:
        assert holder.stdout is not None
        folder, url = holder.stdout.readline().split()
        with psycopg.connect(url) as connection:
            holder.send_signal(signal.SIGKILL)
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT pg_sleep(30)")
    assert _gone(Path(folder))


def _gone(folder: Path) -> bool:
    until = time.monotonic() + 10
    while folder.exists() and time.monotonic() < until:
        os.sched_yield()
    return not folder.exists()


def test_a_full_disk_is_met_and_emptied_again() -> None:
    """A table that there is no room for takes no row until there is; all else goes on."""
    with run_postgres() as server:
        url = server.url("postgres")
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE full_one (n int); CREATE TABLE other (n int)")
        file = str(_ask(url, "SELECT pg_relation_filepath('full_one')"))
        with server.no_room_for(file):
            with pytest.raises(psycopg.errors.DiskFull):
                _ask(url, "INSERT INTO full_one VALUES (1) RETURNING n")
            assert _ask(url, "INSERT INTO other VALUES (1) RETURNING n") == 1
        assert _ask(url, "INSERT INTO full_one VALUES (1) RETURNING n") == 1
