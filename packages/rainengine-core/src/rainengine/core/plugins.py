"""Plugins, found through entry points; ledgers, opened by URL; providers, opened by name.

A distribution offers a plugin by naming it in one of the groups of `PluginGroup`.
Looking up a name imports that plugin only. Nothing registers itself by being imported.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Literal, TypeAlias, cast, get_args

from rainengine.core.abc import LedgerStore, LlmProvider
from rainengine.core.errors import (
    DuplicatePlugin,
    InvalidConfiguration,
    UnknownPlugin,
    UsageError,
)

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

PluginGroup: TypeAlias = Literal[
    "rainengine.stores",
    "rainengine.coordination",
    "rainengine.blobs",
    "rainengine.providers",
    "rainengine.skills",
    "rainengine.channels",
    "rainengine.planners",
]
"""The entry-point groups. Names in `rainengine.stores` and `rainengine.blobs` are URL schemes."""

StoreOpener: TypeAlias = Callable[[str], AbstractAsyncContextManager[LedgerStore]]
"""What a plugin in `rainengine.stores` is: called with the URL, it opens the store."""


ProviderOpener: TypeAlias = Callable[
    [Mapping[str, object]], AbstractAsyncContextManager[LlmProvider]
]
"""What a plugin in `rainengine.providers` is: called with plain settings, it opens a provider."""


class PluginNotLoadable(UsageError):
    """A plugin is installed, but importing it fails; the cause is attached."""

    def __init__(self, group: str, name: str, target: str, cause: Exception) -> None:
        super().__init__(
            f"{name!r} in {group!r} is installed, but loading {target} fails with"
            f" {type(cause).__name__}: {cause}: repair or reinstall its distribution"
        )
        self.group = group
        self.name = name
        self.target = target


_MAX_SCHEME = 32


def plugin_names(group: PluginGroup) -> tuple[str, ...]:
    """The names that installed distributions offer in a group, in order."""
    return tuple(sorted({entry.name for entry in _entries(group)}))


def find_plugin(group: PluginGroup, name: str) -> object:
    """Import and return what is offered under `name`.

    Raises `UnknownPlugin`, `DuplicatePlugin` where two distributions claim the name, and
    `PluginNotLoadable` where its import fails.
    """
    claims = [entry for entry in _entries(group) if entry.name == name]
    if not claims:
        raise UnknownPlugin(group, name, plugin_names(group))
    distributions = sorted({_distribution(entry) for entry in claims})
    if len(distributions) > 1 or len({entry.value for entry in claims}) > 1:
        raise DuplicatePlugin(group, name, tuple(distributions))
    return _load(group, claims[0])


def _entries(group: str) -> list[EntryPoint]:
    if group not in get_args(PluginGroup):
        known = ", ".join(get_args(PluginGroup))
        raise InvalidConfiguration("group", f"{group!r} is no plugin group: use one of {known}")
    # It takes a tenth of this package's time to import, and only openers by URL need it.
    from importlib.metadata import entry_points

    return list(entry_points(group=group))


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else f"unknown ({entry.value})"


def _load(group: str, entry: EntryPoint) -> object:
    try:
        loaded: object = entry.load()
    except Exception as error:  # a plugin's module may raise anything
        raise PluginNotLoadable(group, entry.name, entry.value, error) from error
    return loaded


@asynccontextmanager
async def open_ledger(url: str) -> AsyncGenerator[LedgerStore]:
    """Open the ledger store that a URL names, such as `memory:` or `sqlite:///rain.db`.

    The scheme chooses the plugin in `rainengine.stores`; `postgresql+psycopg://` finds
    `postgresql+psycopg` or, where nothing offers that, `postgresql`.
    Raises a `UsageError` that says what to change. No message holds more of the URL than its
    scheme, as there may be a password in it.
    """
    opener = cast(StoreOpener, find_plugin("rainengine.stores", _store_name(url)))
    if not callable(opener):
        raise InvalidConfiguration("url", "the store's plugin cannot be called with a URL")
    async with opener(url) as store:
        yield store


@asynccontextmanager
async def open_provider(name: str, settings: Mapping[str, object]) -> AsyncGenerator[LlmProvider]:
    """Open the model provider that a plugin in `rainengine.providers` offers under this name.

    The settings are plain values, as a file of configuration holds them, and its secrets are
    references: `{"model": "gpt-5", "api_key": "env:OPENAI_API_KEY"}`.
    Raises a `UsageError` that says what to change, `InvalidConfiguration` for a setting.
    """
    opener = cast(ProviderOpener, find_plugin("rainengine.providers", name))
    if not callable(opener):
        raise InvalidConfiguration("name", "the provider's plugin cannot be called with settings")
    async with opener(settings) as provider:
        yield provider


def _store_name(url: str) -> str:
    scheme = _scheme(url)
    offered = plugin_names("rainengine.stores")
    short = scheme.partition("+")[0]
    if scheme not in offered and short not in offered:
        raise UnknownPlugin("rainengine.stores", scheme, offered)
    return scheme if scheme in offered else short


def _scheme(url: object) -> str:
    scheme, colon, _ = url.partition(":") if isinstance(url, str) else ("", "", "")
    scheme = scheme.lower()
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789+.-")
    if (
        not colon
        or not scheme[:1].isalpha()
        or not set(scheme) <= allowed
        or len(scheme) > _MAX_SCHEME
    ):
        raise InvalidConfiguration(
            "url",
            "a ledger is named by a URL that begins with its scheme, such as memory: for tests,"
            " sqlite:///rain.db for a file or postgresql://user:password@host/database",
        )
    return scheme
