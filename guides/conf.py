"""How Sphinx builds the guides and the reference: ``sphinx-build -n -W guides OUT``."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import slipstream

project = "Slipstream"
author = "The Slipstream developers"
release = version = slipstream.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "reference/index"
exclude_patterns = ["_build", "examples"]
html_theme = "furo"
html_title = f"Slipstream {release}"
html_copy_source = False
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_inherit_docstrings = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# Intersphinx is off: a build needs no network. So what is somebody else's has no page here, nor has
# what is private; a name of ours that is public and not found is a mistake.
_THEIRS = (
    "abc asyncio collections contextlib enum json logging os socket ssl types typing "
    "attr attrs click hypothesis msgspec outcome trio trio_websocket"
)
nitpick_ignore_regex = [
    (r"py:.*", rf"({_THEIRS.replace(' ', '|')})\..*"),
    # In signatures of the parts that a user gets, but does not make: their modules are private.
    (r"py:.*", r"slipstream(\.\w+)*\._\w+(\.\w+)?"),
    # ... where the annotation is a string.
    (r"py:class", r"ClientServer|Name|Shell|Tree"),
    # Type variables, which Sphinx takes for classes.
    (r"py:(obj|class)", r"slipstream\.(interfaces|protocol\.messages)\.T"),
    (r"py:class", r"Ts"),
]


def keep_colons(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep Napoleon from reading ``Why it ended: a reason`` in an attribute's docstring as a type."""
    if what in {"attribute", "data", "property"}:
        lines[:0] = ["..", ""]


def setup(app: Any) -> None:
    """Look at docstrings before Napoleon does."""
    app.connect("autodoc-process-docstring", keep_colons, priority=400)
