"""Ledgers by name, for as long as the process lives: the smallest store that can be published."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from rainengine.core.abc import LedgerStore
from rainengine.core.errors import InvalidConfiguration
from rainengine.core.inmemory import InMemoryLedger

_BACKING: dict[str, InMemoryLedger] = {}


@asynccontextmanager
async def open_acme_url(url: str) -> AsyncGenerator[LedgerStore]:
    """Open the ledger that a URL such as `acme:bakery` names.

    Raises `InvalidConfiguration` where it names none.
    """
    name = url.partition(":")[2]
    if not name:
        raise InvalidConfiguration("url", "name a ledger after the colon, such as acme:bakery")
    yield InMemoryLedger(backing=_BACKING.setdefault(name, InMemoryLedger()))
