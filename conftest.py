"""Runs the Python code blocks of every page of the documentation as tests, and loads fixtures.

The blocks of a page share one namespace and run in order, in an empty folder of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from sybil import Document, Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

if TYPE_CHECKING:
    from testbed.databases import Databases

pytest_plugins = ["testbed.fixtures"]


class Page(Document):
    """A page whose classes and functions find their names again, as those of a module do."""

    def __init__(self, text: str, path: str) -> None:
        super().__init__(text, path)
        module = sys.modules[path] = ModuleType(path)
        self.namespace = vars(module)


@pytest.fixture(scope="module")
def page_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep what a page writes out of the repository."""
    folder = tmp_path_factory.mktemp("page")
    with chdir(folder):
        yield folder


@pytest.fixture(scope="module")
def page_database(postgres_databases: Databases) -> Iterator[None]:
    """Give the page an empty database, which the environment names."""
    name = postgres_databases.create()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", postgres_databases.url(name))
        yield
    postgres_databases.drop(name)


ON_POSTGRES = ["docs/how-to/run-on-postgres.md"]


def pages(fixtures: list[str], patterns: list[str], excludes: list[str]) -> Sybil:
    """Collect the code blocks of pages."""
    return Sybil(
        parsers=[PythonCodeBlockParser(), SkipParser()],
        patterns=patterns,
        excludes=excludes,
        fixtures=fixtures,
        document_types={".md": Page},
    )


pytest_collect_file = (
    pages(["page_folder"], ["*.md"], ON_POSTGRES)
    + pages(["page_folder", "page_database"], ON_POSTGRES, [])
).pytest()
