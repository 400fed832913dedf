"""Names of models: in the titles of pages, and as the names of folders."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

_GGUF = ".gguf"
_MAX_BYTES = 120
_OTHER_KINDS = {"-", "_", ".", "+", "=", ",", " "}


def model_title(name: str) -> str:
    """Name of a model as a title: that of its folder or file, or the last part of a hub id.

    Args:
        name: The folder, file or hub id, as it was given.

    Returns:
        The last part of the path; for a path such as `.` or `a/..`, the name of the folder that it means.
    """
    path = Path(name)
    if path.name.strip(".") or not os.path.exists(name):
        return path.name or name
    return path.resolve().name or "root"


def folder_name(models: Sequence[str], parts: Sequence[str] = ()) -> str:
    """Name of a folder for the results of models, which is one part of a path on every system.

    Args:
        models: The folder, file or hub id of each model, as it was given.
        parts: What else tells the results apart, such as an objective.

    Returns:
        The titles of the models and the parts with hyphens between them; letters, digits and `-_.+=, ` are
        kept, and anything else becomes a hyphen. It begins with neither a dot nor a hyphen, and is shortened
        if it is long.
    """
    text = "-".join((*map(_file_title, models), *parts))
    name = "".join(c if _is_kept(c) else "-" for c in unicodedata.normalize("NFC", text))
    name = re.sub(r"-{2,}", "-", name).strip("-. ") or "model"
    if len(name.encode()) <= _MAX_BYTES:
        return name
    start = name.encode()[:_MAX_BYTES].decode(errors="ignore")
    return f"{start}-{_digest(text)}"


def models_digest(models: Sequence[str]) -> str:
    """Digest of where models are: of the resolved paths of folders and files, and of hub ids as they are."""
    places = [os.path.realpath(name) if os.path.exists(name) else name for name in models]
    return _digest("\0".join(places))


def _digest(text: str) -> str:
    """First digits of a SHA-256; a path may hold bytes that are no text."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]


def _file_title(name: str) -> str:
    """Title of a model without the ending of a GGUF file."""
    title = model_title(name)
    return title.removesuffix(_GGUF) if title != _GGUF and not os.path.isdir(name) else title


def _is_kept(character: str) -> bool:
    """Whether a character may be in the name of a folder: a letter, a mark, a digit or a few others."""
    return character in _OTHER_KINDS or unicodedata.category(character)[0] in "LMN"
