"""How Alembic reaches the database: by the connection that `migrate` hands over."""

from __future__ import annotations

from alembic import context

from rainengine.store_sql._versions import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
