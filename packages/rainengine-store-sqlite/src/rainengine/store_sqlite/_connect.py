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
        settings = [f"synchronous = {self.synchronous}", f"cache_size = -{CACHE_KIB}"]
        if self.max_page_count is not None:
            settings.append(f"max_page_count = {self.max_page_count:d}")
        return self._connect(settings)

    def connect_reader(self) -> sqlite3.Connection:
        """Open a connection that refuses to write."""
        return self._connect(["query_only = ON"])

    def _connect(self, settings: Sequence[str]) -> sqlite3.Connection:
        # Autocommit mode: transactions begin and end where this package says so.
        # Used by one thread at a time, but not always by the one that opened it.
        connection = sqlite3.connect(
            self.path,
            timeout=self.busy_timeout_ms / 1000,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
        )
        try:
            for setting in settings:
                connection.execute(f"PRAGMA {setting}")
        except BaseException:
            connection.close()
            raise
        return connection
