"""Settings of the documentation site; `make docs` builds it into runs/docs."""

import dataclasses
import importlib.metadata
import shutil
from pathlib import Path
from typing import Any

from sphinx.ext.napoleon import GoogleDocstring

project = "makebreak"
author = "The makebreak developers"
release = importlib.metadata.version("makebreak")
html_title = f"makebreak {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4

default_role = "py:obj"  # docstrings write code between single backquotes
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "imported-members": True}
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
add_module_names = False
python_maximum_signature_line_length = 80
suppress_warnings = ["ref.python"]  # a name that several packages export

html_theme = "furo"
html_extra_path = ["llms.txt"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]
copybutton_exclude = ".linenos, .gp, .go"


# napoleon takes what precedes a colon in the docstring of a field for its type; here types are annotations
GoogleDocstring._parse_attribute_docstring = lambda self: self._consume_to_end()  # pyright: ignore


def copy_markdown(app: Any, exception: Exception | None) -> None:
    """Puts the Markdown of every page beside its HTML, where llms.txt links to it."""
    if exception is None and app.builder.format == "html":
        for page in app.env.found_docs:
            shutil.copy(app.env.doc2path(page), Path(app.outdir) / f"{page}.md")


def escape_bars(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Lets `|a|` in a docstring be an absolute value, which it is here, rather than a substitution."""
    lines[:] = [line.replace("|", r"\|") for line in lines]


def leave_out_fields(app: Any, what: str, name: str, obj: Any, options: Any, *signature: Any) -> Any:
    """Leaves out the signature of a class whose fields follow it one by one."""
    has_fields = hasattr(obj, "_fields") or dataclasses.is_dataclass(obj)
    return ("", "") if what == "class" and has_fields else None


def setup(app: Any) -> None:
    """Connects the handlers of events."""
    app.connect("autodoc-process-docstring", escape_bars)
    app.connect("autodoc-process-signature", leave_out_fields)
    app.connect("build-finished", copy_markdown)
