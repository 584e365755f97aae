"""How Sphinx builds the documentation: `hatch run docs`."""

from importlib.metadata import version as version_of

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

# A reference to a name of ours must lead somewhere.
# Names of other projects are left alone: to look them up, each build would need the network.
nitpick_ignore_regex = [("py:.*", r"(?!rainengine\.).*")]
