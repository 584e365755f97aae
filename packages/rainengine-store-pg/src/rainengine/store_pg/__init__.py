"""A durable ledger in PostgreSQL, shared by as many processes as you like.

What `append` has acknowledged survives a crash of the process and of the server.
"""

from __future__ import annotations

from rainengine.store_pg._dialect import PostgresDialect as PostgresDialect
from rainengine.store_pg._open import PostgresSettings as PostgresSettings
from rainengine.store_pg._open import open_postgres_ledger as open_postgres_ledger
from rainengine.store_pg._open import open_postgres_url as open_postgres_url
from rainengine.store_pg._schema import check_schema as check_schema
from rainengine.store_pg._schema import migrate as migrate
