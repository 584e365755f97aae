"""The reference of core, and of what providers need, names every public name, and no other."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = ROOT / "packages/rainengine-core/src/rainengine/core"
PAGES = ROOT / "docs/reference"

MODULES = {
    "core.md": "",
    "records.md": "records",
    "abc.md": "abc",
    "errors.md": "errors",
    "inmemory.md": "inmemory",
    "plugins.md": "plugins",
    "settings.md": "settings",
    "tool-calling.md": "tool_calling",
    "prices.md": "prices",
    "testing.md": "testing",
    "codec.md": "codec",
    "judging.md": "judging",
    "projection.md": "projection",
    "kernel.md": "kernel",
    "subagents.md": "subagents",
}

OTHERS = {
    "model-servers.md": "rainengine-model-servers/src/rainengine/model_servers",
    "provider-gemini.md": "rainengine-provider-gemini/src/rainengine/provider_gemini",
    "provider-openai.md": "rainengine-provider-openai/src/rainengine/provider_openai",
}

NAMED = re.compile(
    r"^\.\. (?:auto\w+|py:data):: (rainengine\.[\w.]+)|{py:\w+}`~(rainengine\.[\w.]+)`",
    re.MULTILINE,
)


def _public(module: str) -> set[str]:
    """What a module defines, or exports as `Name as Name`."""
    return _names_in(
        CORE / module / "__init__.py" if (CORE / module).is_dir() else CORE / f"{module}.py"
    )


def _names_in(file: Path) -> set[str]:
    names: set[str] = set()
    for statement in ast.parse(file.read_text()).body:
        if isinstance(statement, ast.ImportFrom):
            names |= {alias.name for alias in statement.names if alias.asname == alias.name}
        elif isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Assign):
            names |= {target.id for target in statement.targets if isinstance(target, ast.Name)}
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            names.add(statement.target.id)
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("page", MODULES)
def test_reference_names_what_is_public(page: str) -> None:
    """The page of a module has an entry or a link for each public name, and for nothing else."""
    _check(page, _public(MODULES[page]))


@pytest.mark.parametrize("page", OTHERS)
def test_reference_of_other_distributions(page: str) -> None:
    """So does the page of a distribution."""
    _check(page, _names_in(ROOT / "packages" / OTHERS[page] / "__init__.py"))


def _check(page: str, public: set[str]) -> None:
    found = [entry or link for entry, link in NAMED.findall((PAGES / page).read_text())]
    named = [name.rpartition(".")[2] for name in found]
    assert public - set(named) == set(), f"to be added to docs/reference/{page}"
    assert set(named) - public == set(), f"to be taken out of docs/reference/{page}"
    assert len(set(named)) == len(named)


def test_every_page_is_checked() -> None:
    """A page with entries of core that is not in the table above would not be checked."""
    pages = {
        page.name
        for page in PAGES.glob("*.md")
        if ".. py:module:: rainengine.core" in page.read_text()
    }
    assert pages == MODULES.keys()
