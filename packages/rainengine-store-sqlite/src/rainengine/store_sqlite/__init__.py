"""A durable ledger in one SQLite file."""

from __future__ import annotations

from rainengine.store_sqlite._open import open_sqlite_ledger as open_sqlite_ledger
