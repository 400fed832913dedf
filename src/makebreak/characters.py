"""Characters that no output shows as they are: control characters, marks of direction, lone surrogates."""

from __future__ import annotations

import re

_HIDDEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, which move a terminal's cursor; not tab and line feed
    "\u2028\u2029"  # line and paragraph separators
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks of direction, which reorder a line
    "\ud800-\udfff"  # lone surrogates, which have no encoding
    "]"
)


def escape_hidden(text: str) -> str:
    r"""Text with an escape for each character that would change what stands around it.

    Args:
        text: Any text, such as the name of a model or its answer.

    Returns:
        The text with `\x1b`, `\u202e` and so on as Python writes them; tabs and line feeds stay.
    """
    return _HIDDEN.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
