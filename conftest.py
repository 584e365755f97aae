"""Runs the Python code blocks of every page of the documentation as tests, and loads fixtures.

The blocks of a page share one namespace and run in order, in an empty folder of their own.
"""

import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from types import ModuleType

import pytest
from sybil import Document, Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

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


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["*.md"],
    fixtures=["page_folder"],
    document_types={".md": Page},
).pytest()
