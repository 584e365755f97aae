"""What a URL may say, and that no error repeats it."""

from __future__ import annotations

import pytest

from rainengine.core.errors import InvalidConfiguration
from rainengine.store_pg import PostgresSettings, migrate, open_postgres_ledger, open_postgres_url
from rainengine.store_pg._connect import Server, parse_url
from rainengine.store_pg._open import _split

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "rest", "own"),
    [
        ("postgresql://u:p@h:1/d", "postgresql://u:p@h:1/d", {}),
        ("postgresql+psycopg://h/d", "postgresql://h/d", {}),
        ("postgresql:///d?host=/run/pg", "postgresql:///d?host=/run/pg", {}),
        (
            "postgres://h/d?create=true&sslmode=require&readers=8&options=-c%20a%3Db",
            "postgres://h/d?sslmode=require&options=-c%20a%3Db",
            {"create": "true", "readers": "8"},
        ),
        ("postgresql://u:p%3Fcreate%3Dx@h/d", "postgresql://u:p%3Fcreate%3Dx@h/d", {}),
    ],
)
def test_our_settings_are_taken_out_of_the_query(url: str, rest: str, own: dict[str, str]) -> None:
    """What libpq understands is left to it, untouched; what is ours is not shown to it."""
    assert (rest, own) == _split(url)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("readers=0", "readers"),
        ("readers=many", "readers"),
        ("notify=perhaps", "notify"),
        ("create=1", "create"),
        ("partitions=0", "partitions"),
        ("partitions=100000", "partitions"),
        ("colour=blue", "url"),
        ("sslmode", "url"),
    ],
)
async def test_a_wrong_setting_is_named(query: str, field: str) -> None:
    """A setting that is unknown or out of its range is refused before anything is connected to."""
    with pytest.raises(InvalidConfiguration) as refused:
        async with open_postgres_url(f"postgresql://u:{SECRET}@127.0.0.1:1/d?{query}"):
            pass
    assert field == refused.value.field
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{SECRET}@h:port/d",
        f"postgresql://u:{SECRET}@[::1/d",
        f"postgresql://u:{SECRET}%zz@h/d",
        f"postgresql://u:p@{SECRET}@h/d",
        f"u:{SECRET}@h/d",
        f"host=h password='{SECRET}",
        "postgresql://h/d\x00",
    ],
)
async def test_no_error_repeats_the_url(url: str) -> None:
    """A URL that cannot be read is refused without a word of it, in the causes too."""
    with pytest.raises(InvalidConfiguration) as refused:
        async with open_postgres_ledger(url):
            pass
    assert SECRET not in repr(refused.value)
    assert (None, None) == (refused.value.__cause__, refused.value.__context__)


async def test_partitions_have_a_limit() -> None:
    """A number of partitions that makes no sense is refused before anything is connected to."""
    with pytest.raises(InvalidConfiguration, match="partitions"):
        await migrate("postgresql://127.0.0.1:1/d", partitions=-1)


@pytest.mark.parametrize("name", ["statement_timeout_ms", "lock_timeout_ms"])
def test_a_limit_of_nothing_is_refused(name: str) -> None:
    """A time limit of 0 would mean none at all to Postgres."""
    with pytest.raises(InvalidConfiguration, match=name):
        PostgresSettings(**{name: 0})


def test_a_server_does_not_show_its_password() -> None:
    """The parameters of a connection are in no repr."""
    server = Server(
        parameters=parse_url(f"postgresql://u:{SECRET}@h/d"),
        statement_timeout_ms=1,
        lock_timeout_ms=1,
        pooler=False,
    )
    assert SECRET not in repr(server)
