"""Opening by path and by URL."""

from __future__ import annotations

import sqlite3
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rainengine.core.errors import InvalidConfiguration
from rainengine.core.records import CancelRequest, NewRecord
from rainengine.store_sqlite import open_sqlite_ledger, open_sqlite_url
from rainengine.store_sqlite._connect import Database

RECORD = NewRecord(CancelRequest(reason="enough"), 0)


def _files(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


@pytest.mark.parametrize("path", [":memory:", "", "file:x.db?mode=memory"])
async def test_memory_is_refused(path: str) -> None:
    """What names no file is refused, and the error says what to use instead."""
    with pytest.raises(InvalidConfiguration, match="InMemoryLedger"):
        async with open_sqlite_ledger(path):
            pass


async def test_a_url_names_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes begin a path relative to the working directory, percent-encoding undone."""
    monkeypatch.chdir(tmp_path)
    async with open_sqlite_url("sqlite:///my%20rain.db") as ledger:
        await ledger.append("s", [RECORD], expected=None)
    assert (tmp_path / "my rain.db").exists()


async def test_a_url_names_an_absolute_path(tmp_path: Path) -> None:
    """Four slashes begin an absolute path; settings follow in the query."""
    url = f"sqlite:///{tmp_path}/x.db?busy_timeout_ms=10&readers=1&append_timeout_s=2.5"
    async with open_sqlite_url(f"{url}&synchronous=extra&max_page_count=5000") as ledger:
        await ledger.append("s", [RECORD], expected=None)
    async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
        assert (await ledger.head("s")).sequence == 1


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("sqlite://host/x.db", "sqlite:///path"),
        ("postgresql:///x.db", "sqlite:///path"),
        ("sqlite:///x.db#part", "sqlite:///path"),
        ("sqlite:///:memory:", "InMemoryLedger"),
        ("sqlite://", "InMemoryLedger"),
        ("sqlite:///x.db?colour=red", "colour"),
        ("sqlite:///x.db?readers=many", "readers"),
        ("sqlite:///x.db?readers=0", "readers"),
        ("sqlite:///x.db?busy_timeout_ms=nan", "busy_timeout_ms"),
        ("sqlite:///x.db?append_timeout_s=nan", "append_timeout_s"),
        ("sqlite:///x.db?synchronous=sometimes", "synchronous"),
        ("sqlite:///x.db?readers", "readers"),
    ],
)
async def test_a_url_that_makes_no_sense_is_refused(
    url: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong URL or setting is `InvalidConfiguration` and names the culprit; no file is made."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidConfiguration, match=named):
        async with open_sqlite_url(url):
            pass
    assert _files(tmp_path) == []


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://user:secret@host/x.db",
        "postgresql://user:secret@host/x",
        "sqlite://user:secret@[host/x.db",
        "sqlite://user:secret@\u2100host/x.db",
        "sqlite:///x.db?colour=secret",
        "sqlite:///x.db#secret",
    ],
)
async def test_a_url_is_not_repeated(url: str) -> None:
    """What is said of a wrong URL does not repeat it: it may hold a password."""
    with pytest.raises(InvalidConfiguration) as caught:
        async with open_sqlite_url(url):
            pass
    assert "secret" not in "".join(traceback.format_exception(caught.value))


MODES: dict[str, tuple[dict[str, Any], int]] = {
    "by default": ({}, 2),
    "extra": ({"synchronous": "extra"}, 3),
    "full": ({"synchronous": "full"}, 2),
    "normal": ({"synchronous": "normal"}, 1),
    "off": ({"synchronous": "off"}, 0),
}


@pytest.mark.parametrize(("options", "level"), MODES.values(), ids=MODES)
async def test_what_is_written_is_synchronised(
    tmp_path: Path, options: dict[str, Any], level: int
) -> None:
    """The connection that writes has the mode that was asked for, `full` by default."""
    path = tmp_path / "x.db"
    query = "".join(f"?{name}={value}" for name, value in options.items())
    for opened in (
        open_sqlite_ledger(path, **options),
        open_sqlite_url(f"sqlite:///{path}{query}"),
    ):
        async with opened as ledger:
            await ledger.append("s", [RECORD], expected=None)
            writer = ledger._committer._connection
            assert writer is not None
            assert writer.execute("PRAGMA synchronous").fetchone() == (level,)
            assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("role", ["connect_reader", "connect_writer"])
def test_a_connection_that_cannot_be_set_up_is_closed(
    tmp_path: Path, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection whose settings fail is not left open."""
    closed: list[str] = []

    class Stubborn(sqlite3.Connection):
        def execute(self, sql: str, *_: Any) -> sqlite3.Cursor:
            raise sqlite3.OperationalError(sql)

        def close(self) -> None:
            closed.append(role)
            super().close()

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Stubborn))
    database = Database(
        path=tmp_path / "x.db", busy_timeout_ms=1, synchronous="full", max_page_count=None
    )
    with pytest.raises(sqlite3.OperationalError, match="PRAGMA"):
        getattr(database, role)()
    assert closed == [role]


async def test_errors_of_the_block_come_out_as_they_are(tmp_path: Path) -> None:
    """What the user's block raises is not wrapped, and the ledger is closed."""

    async def fail() -> None:
        async with open_sqlite_ledger(tmp_path / "x.db") as ledger:
            await ledger.append("s", [RECORD], expected=None)
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert _files(tmp_path) == ["x.db"]


async def test_tenants_have_one_handle_each(tmp_path: Path) -> None:
    """`for_tenant` returns the same handle again, and the store is the default tenant's."""
    async with open_sqlite_ledger(tmp_path / "x.db") as store:
        acme = store.for_tenant("acme")
        assert (acme.tenant, store.tenant) == ("acme", "default")
        assert store.for_tenant("acme") is acme
        assert store.for_tenant("default") is store
        await acme.append("s", [RECORD], expected=None)
        assert (await store.head("s")).sequence == 0
