"""How Sphinx builds the documentation: `hatch run docs`."""

import re
from importlib.metadata import version as version_of
from typing import Any

project = "RainEngine for Python"
author = "The RainEngine authors"
project_copyright = author
release = version = version_of("rainengine-core")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
default_role = "literal"

# A reference to a name of ours must lead somewhere.
# Names of other projects are left alone: to look them up, each build would need the network.
nitpick_ignore_regex = [
    ("py:.*", r"(?!rainengine\.).*"),
    ("py:.*", r".*\.(P|R|_?[A-Za-z]*T)(_co|_contra)?"),  # type variables
    ("py:.*", r"rainengine\.core\.testing\._differential\..*"),  # a driver's inner workings
]


# `Any`: where the types are checked, Sphinx is not installed.
def _lead_to_public_name(app: Any, env: Any, reference: Any, shown: Any) -> Any:  # noqa: ANN401
    """Resolve `rainengine.core.records._runs.OutcomeRecord`, as annotations have it.

    The names of private modules are no part of the reference; the facade's name is.
    """
    target = str(reference.get("reftarget", ""))
    if not target.startswith("rainengine.") or "._" not in target:
        return None
    names = [name for name in env.domains.python_domain.objects if _is_facade_of(name, target)]
    if not names:
        return None
    return env.domains.python_domain.resolve_xref(
        env, reference["refdoc"], app.builder, "obj", max(names, key=len), reference, shown
    )


def _is_facade_of(name: str, private: str) -> bool:
    module, _, last = name.rpartition(".")
    return private.endswith(f".{last}") and private.startswith(f"{module}.")


def _write_code_as_rst(*event: Any) -> None:  # noqa: ANN401
    """Turn `code` as these pages have it into that of reStructuredText, `code`s as well."""
    lines: list[str] = event[-1]
    lines[:] = [re.sub(r"(?<!`)`([^`]+)`(?!`)(?=(\w?))", _literal, line) for line in lines]


def _literal(found: re.Match[str]) -> str:
    return f"``{found[1]}``" + ("\\ " if found[2] else "")


def _shorten_defaults(*event: Any) -> tuple[str | None, str | None]:  # noqa: ANN401
    """Write `policy = EnginePolicy()` where the value would fill five lines."""
    signature, returned = event[-2:]
    shortened = re.sub(r"<function (\w+)>|<class '[\w.]*\.(\w+)'>", r"\1\2", signature or "")
    shortened = re.sub(r"<function \S*<lambda>>|(_Nothing\.)?NOTHING", "...", shortened)
    start = 0
    while found := re.compile(r" ?= ?[A-Z]\w*\(").search(shortened, start):
        end, depth = found.end(), 1
        while depth:
            depth += {"(": 1, ")": -1}.get(shortened[end], 0)
            end += 1
        shortened = f"{shortened[: found.end()]}){shortened[end:]}"
        start = found.end()
    return (shortened if signature else signature), returned


def setup(app: Any) -> None:  # noqa: ANN401
    """Connect what is above."""
    app.connect("autodoc-process-docstring", _write_code_as_rst)
    app.connect("autodoc-process-signature", _shorten_defaults)
    app.connect("missing-reference", _lead_to_public_name)
