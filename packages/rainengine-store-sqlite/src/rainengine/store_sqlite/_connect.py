"""Opening connections to a database file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import attrs

Synchronous: TypeAlias = Literal["extra", "full", "normal", "off"]

CACHE_KIB = 16 * 1024
"""The writer's page cache: the newest pages of all sessions in flight."""


@attrs.frozen(kw_only=True)
class Database:
    """A database file and how it is opened."""

    path: Path
    busy_timeout_ms: int
    synchronous: Synchronous
    max_page_count: int | None

    def connect_writer(self) -> sqlite3.Connection:
        """Open a connection that writes."""
        return self._connect([*self._durably(), f"cache_size = -{CACHE_KIB}"])

    def connect_lent(self) -> sqlite3.Connection:
        """Open a connection that writes, and is to be lent to code that is not ours.

        Declared foreign keys are enforced. It keeps no prepared statements: see `_lending`.
        """
        return self._connect([*self._durably(), "foreign_keys = ON"], cached_statements=0)

    def _durably(self) -> Sequence[str]:
        settings = [f"synchronous = {self.synchronous}"]
        if self.max_page_count is not None:
            settings.append(f"max_page_count = {self.max_page_count:d}")
        return settings

    def connect_reader(self) -> sqlite3.Connection:
        """Open a connection that refuses to write."""
        return self._connect(["query_only = ON"])

    def _connect(
        self, settings: Sequence[str], *, cached_statements: int = 512
    ) -> sqlite3.Connection:
        # Autocommit mode: transactions begin and end where this package says so.
        # Used by one thread at a time, but not always by the one that opened it.
        connection = sqlite3.connect(
            self.path,
            timeout=self.busy_timeout_ms / 1000,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=cached_statements,
        )
        try:
            for setting in settings:
                connection.execute(f"PRAGMA {setting}")
        except BaseException:
            connection.close()
            raise
        return connection
