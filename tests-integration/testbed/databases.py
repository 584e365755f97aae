"""The databases of a server: a fresh one for each test."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import attrs
import psycopg
from psycopg.sql import SQL, Identifier


@attrs.frozen
class Databases:
    """Makes databases by an administrator's URL."""

    admin_url: str

    def url(self, name: str) -> str:
        """The administrator's URL of another database."""
        return urlunsplit(urlsplit(self.admin_url)._replace(path=f"/{name}"))

    def create(self, *, template: str | None = None) -> str:
        """Make a database with a name of its own, a copy of `template`; return its name."""
        name = f"rain_{uuid4().hex}"
        statement = SQL("CREATE DATABASE {}").format(Identifier(name))
        if template is not None:
            statement += SQL(" TEMPLATE {}").format(Identifier(template))
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(statement)
        return name

    def drop(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        statement = SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name))
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(statement)
