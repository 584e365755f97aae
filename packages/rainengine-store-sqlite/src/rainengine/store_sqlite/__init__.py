"""A durable ledger in one SQLite file: the embedded default.

Several processes may share the file. What `append` has acknowledged survives a crash.
"""

from __future__ import annotations

from rainengine.store_sqlite._dialect import SqliteDialect as SqliteDialect
from rainengine.store_sqlite._open import open_sqlite_ledger as open_sqlite_ledger
from rainengine.store_sqlite._open import open_sqlite_url as open_sqlite_url
