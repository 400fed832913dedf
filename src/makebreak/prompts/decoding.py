"""Text of a file of prompts: UTF-8, the encoding of a byte order mark, or one that the user names."""

from __future__ import annotations

import codecs
from pathlib import Path

MAX_BYTES = 2**30
"""Largest number of bytes of a file, which is read as a whole."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before that of UTF-16, which is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BYTE_ORDER_MARK = "\ufeff"


def read_text(path: Path, name: str, encoding: str = "utf-8") -> str:
    """Reads a file as text.

    Args:
        path: The file.
        name: Its name in messages.
        encoding: `utf-8`, which a byte order mark overrules, or a one-byte encoding such as `cp1252`. Every
            sequence of bytes is text of some kind in those, so none is tried unless it is asked for.

    Returns:
        The text without a byte order mark.

    Raises:
        ValueError: If the file is too large, is not in the encoding, or a one-byte encoding is asked for and
            the file is in UTF-8 or has a byte order mark.
        OSError: If the file cannot be read.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{name} has {size:,} bytes: expected at most {MAX_BYTES:,}")
    content = path.read_bytes()
    mark = next((code for mark, code in _MARKS if content.startswith(mark)), None)
    if encoding != "utf-8":
        _check_one_byte(content, name, encoding, mark)
    actual = mark or encoding
    try:
        return content.decode(actual).removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{name}: line {line} is not {actual.upper()}: save the file in UTF-8, or name the encoding of "
            "--prompts by --encoding"
        ) from None


def _check_one_byte(content: bytes, name: str, encoding: str, mark: str | None) -> None:
    """Raises ValueError if a file is in a Unicode encoding, which would be read as other letters."""
    actual = mark
    if mark is None and not content.isascii():
        try:
            content.decode()
            actual = "utf-8"
        except UnicodeDecodeError:
            return
    if actual is not None:
        raise ValueError(f"{name} is in {actual.upper()}, not in {encoding}: leave out --encoding")
