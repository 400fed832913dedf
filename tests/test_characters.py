"""Escapes of characters that would change what stands around them."""

from __future__ import annotations

import pytest

from makebreak.characters import escape_hidden


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\rb", r"a\rb"),
        ("a\x00b\x07", r"a\x00b\x07"),
        ("a\x9bb", r"a\x9bb"),
        ("\u202etxt.exe", r"\u202etxt.exe"),
        ("\u2066a\u2069", r"\u2066a\u2069"),
        ("a\u2028b", r"a\u2028b"),
        ("\udcff", r"\udcff"),
        ("\ud83d", r"\ud83d"),
    ],
)
def test_hidden_characters_are_shown(text: str, shown: str) -> None:
    assert escape_hidden(text) == shown


@pytest.mark.parametrize("text", ["", "plain", "tab\tline\n", "é τ ‖ 漢字 עברית 🙂", r"\u202e", "<b>&amp;$"])
def test_other_text_stays(text: str) -> None:
    assert escape_hidden(text) == text
