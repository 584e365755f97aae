"""Entry-point look-up, and ledgers by URL, with real distributions on the path."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rainengine.core.abc import LedgerStore
from rainengine.core.errors import (
    DuplicatePlugin,
    InvalidConfiguration,
    UnknownPlugin,
    UsageError,
)
from rainengine.core.plugins import (
    PluginNotLoadable,
    find_plugin,
    open_ledger,
    open_provider,
    plugin_names,
)

STORE = """
from contextlib import asynccontextmanager
opened = []

@asynccontextmanager
async def open_store(url):
    opened.append(url)
    yield opened
    opened.append("closed")
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return a function that puts a distribution with a module and entry points on the path."""
    before = set(sys.modules)

    def put(distribution: str, group: str, code: str = "", **names: str) -> None:
        place = tmp_path / distribution
        info = place / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
        )
        lines = [f"{name} = {target}" for name, target in names.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        (place / f"{distribution.replace('-', '_')}_module.py").write_text(code)
        monkeypatch.syspath_prepend(place)

    yield put
    for name in set(sys.modules) - before:
        if name.endswith("_module"):
            del sys.modules[name]


def test_a_plugin_is_found_and_loaded(install: Install) -> None:
    """A name in a group gives the object that its distribution names."""
    install("acme-skills", "rainengine.skills", "thing = 42", acme="acme_skills_module:thing")
    assert "acme" in plugin_names("rainengine.skills")
    assert 42 == find_plugin("rainengine.skills", "acme")


def test_looking_up_imports_nothing_else(install: Install) -> None:
    """Listing names and loading one plugin leave the others unimported."""
    install("acme-one", "rainengine.planners", "x = 1", one="acme_one_module:x")
    install("acme-two", "rainengine.planners", "x = 2", two="acme_two_module:x")
    assert ("one", "two") == plugin_names("rainengine.planners")
    assert 1 == find_plugin("rainengine.planners", "one")
    assert "acme_two_module" not in sys.modules


def test_an_unknown_name_lists_what_is_offered(install: Install) -> None:
    """An unknown name is an error that lists the names there are."""
    install("acme-blob", "rainengine.blobs", s3="acme_blob_module:x")
    with pytest.raises(UnknownPlugin, match="s3") as raised:
        find_plugin("rainengine.blobs", "gcs")
    assert "s3" in raised.value.available


def test_two_claims_are_an_error_that_names_both(install: Install) -> None:
    """Two distributions with one name are refused, whichever comes first on the path."""
    install("acme-one", "rainengine.channels", "x = 1", mail="acme_one_module:x")
    install("acme-two", "rainengine.channels", "x = 2", mail="acme_two_module:x")
    with pytest.raises(DuplicatePlugin) as raised:
        find_plugin("rainengine.channels", "mail")
    assert ("acme-one 1.0", "acme-two 1.0") == raised.value.distributions
    assert ("mail",) == plugin_names("rainengine.channels")
    assert "acme_one_module" not in sys.modules


@pytest.mark.parametrize(
    ("code", "target", "cause"),
    [
        ("import a_driver_that_is_not_there", "acme_broken_module:x", ModuleNotFoundError),
        ("", "acme_broken_module:x", AttributeError),
        ("raise RuntimeError('no licence')", "acme_broken_module:x", RuntimeError),
    ],
)
def test_a_plugin_that_fails_to_load(
    install: Install, code: str, target: str, cause: type[Exception]
) -> None:
    """A failing import is an error that names the plugin and carries the cause."""
    install("acme-broken", "rainengine.providers", code, broken=target)
    with pytest.raises(
        PluginNotLoadable, match=rf"acme_broken_module:x.*{cause.__name__}"
    ) as raised:
        find_plugin("rainengine.providers", "broken")
    assert isinstance(raised.value.__cause__, cause)
    assert isinstance(raised.value, UsageError)


def test_an_unknown_group_is_an_error() -> None:
    """A group that does not exist is not the same as an empty one."""
    group: Any = "rainengine.sotres"
    with pytest.raises(InvalidConfiguration, match=r"rainengine\.stores"):
        plugin_names(group)
    with pytest.raises(InvalidConfiguration, match=r"rainengine\.stores"):
        find_plugin(group, "memory")


@pytest.mark.parametrize("url", ["acme:", "ACME://host/x", "acme+driver://host/x"])
async def test_the_scheme_chooses_the_store(install: Install, url: str) -> None:
    """The store of the URL's scheme is opened with the URL, and closed at the end."""
    install("acme-store", "rainengine.stores", STORE, acme="acme_store_module:open_store")
    async with open_ledger(url) as store:
        opened: Any = store
        assert [url] == opened
    assert [url, "closed"] == opened


async def test_a_longer_scheme_comes_first(install: Install) -> None:
    """A store that claims the scheme with its driver goes before the one without."""
    names = {"acme": "acme_store_module:absent", "acme+driver": "acme_store_module:open_store"}
    install("acme-store", "rainengine.stores", STORE, **names)
    async with open_ledger("acme+driver://host") as store:
        assert ["acme+driver://host"] == store  # type: ignore[comparison-overlap]


async def test_the_in_memory_ledger_opens(install: Install) -> None:
    """`memory:` opens core's own store, as its distribution's metadata name it."""
    target = "rainengine.core.inmemory:open_memory_url"
    if "memory" not in plugin_names("rainengine.stores"):  # run from the source tree
        install("acme-memory", "rainengine.stores", memory=target)
    async with open_ledger("memory:") as store:
        assert isinstance(store, LedgerStore)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "rain.db",
        "/var/lib/rain.db",
        "user:hunter2@host/db",
        "://user:hunter2@host",
        "9p://user:hunter2@host",
        "post gres://user:hunter2@host/db",
        "postgresq1://user:hunter2@host/db",
        "hunter2@host:5432",
        None,
        7,
    ],
)
async def test_a_wrong_url_names_the_remedy_and_no_secret(url: Any) -> None:
    """A URL that opens nothing is a usage error without the URL's secrets."""
    with pytest.raises(UsageError) as raised:
        async with open_ledger(url):
            pytest.fail("opened")
    message = str(raised.value)
    assert "hunter2" not in message
    assert "install the distribution" in message or "sqlite:///rain.db" in message


async def test_errors_inside_pass_through(install: Install) -> None:
    """What is raised while the ledger is open is not taken for a wrong URL."""
    install("acme-store", "rainengine.stores", STORE, acme="acme_store_module:open_store")
    with pytest.raises(ZeroDivisionError):
        async with open_ledger("acme:"):
            raise ZeroDivisionError


async def test_a_provider_by_name(install: Install) -> None:
    """The name chooses the provider, which is opened with the settings and closed after."""
    install("acme-minds", "rainengine.providers", STORE, acme="acme_minds_module:open_store")
    async with open_provider("acme", {"model": "m"}) as provider:
        opened: Any = provider
        assert opened == [{"model": "m"}]
    assert opened == [{"model": "m"}, "closed"]


async def test_a_provider_that_is_not_there() -> None:
    """An unknown name is an error that says so."""
    with pytest.raises(UnknownPlugin, match=r"'nobody' in 'rainengine\.providers'"):
        async with open_provider("nobody", {}):
            pytest.fail("opened")


async def test_a_provider_that_opens_nothing(install: Install) -> None:
    """A plugin that cannot be called is a wrong name."""
    install("acme-minds", "rainengine.providers", "thing = 42", acme="acme_minds_module:thing")
    with pytest.raises(InvalidConfiguration, match="cannot be called"):
        async with open_provider("acme", {}):
            pytest.fail("opened")
