"""Generates docs/reference/cli.md: the help of every command, as `--help` prints it.

Run `make cli` after a change of a command or of an option; a test holds the page to the code.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

from experiments.command import main as experiments
from makebreak.cli import main as makebreak
from makebreak.cli.commands import COMMANDS

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"
HEADER = """# Command line

This page is generated from the help of the commands by `make cli`; do not edit it.

[Your model in five minutes](../your_model.md) explains the commands on language models,
[Studies](../studies.md) the command that runs studies. Exit status: 0 is success, 2 is invalid input (one
line on standard error says which), 3 is a run that `--budget` stopped before its end.
"""
WIDTH = 92
_TITLE = re.compile(r"^ (\S.*?) *\n -{9,} *$", flags=re.M)
_RULE = re.compile(r"^ *-{9,} *\n", flags=re.M)


def help_text(run: Callable[[Sequence[str]], object], *words: str) -> str:
    """What a command line prints with `--help`.

    A stream without an encoding gets neither frames nor colours.
    """
    output = io.StringIO()
    with (
        patch.dict(os.environ, {"COLUMNS": str(WIDTH), "NO_COLOR": "1"}),
        contextlib.redirect_stdout(output),
        contextlib.suppress(SystemExit),
    ):
        run([*words, "--help"])
    text = _RULE.sub("", _TITLE.sub(r"\1:", output.getvalue()))
    return "\n".join(part for line in text.splitlines() for part in wrap(line)).strip()


def wrap(line: str) -> list[str]:
    """The lines of a description, which are as long as the docstring that they come from."""
    return textwrap.wrap(line, WIDTH, break_on_hyphens=False) if len(line) > WIDTH else [line.rstrip()]


def page() -> str:
    """The whole page: one section per command."""
    parts = [HEADER]
    for name in COMMANDS:
        parts.append(f"## makebreak {name}\n\n```text\n{help_text(makebreak, name)}\n```\n")
    parts.append(f"## python -m experiments\n\n```text\n{help_text(experiments)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
