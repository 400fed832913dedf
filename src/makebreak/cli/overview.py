"""What `makebreak` prints when it is called without a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from makebreak import __version__

_EXAMPLES = """\
Examples:
  makebreak demo
  makebreak inspect HuggingFaceTB/SmolLM2-135M-Instruct
  makebreak compare BASE ALIGNED --out runs/what-changed

A model is a folder of transformers, a .gguf file or a Hub id. makebreak COMMAND --help lists all options.
In Python: import makebreak as mb; mb.compare(mb.organism("mini-base"), mb.organism("mini-ssft"))"""


def overview(commands: Mapping[str, Callable[..., Any]]) -> str:
    """What the program can do, in less than 25 lines.

    Args:
        commands: Commands by name; the first line of each docstring says what it does.

    Returns:
        One line per command, and three examples.
    """
    width = max(map(len, commands))
    lines = [
        f"  {name:{width}}  {str(inspect.getdoc(command)).splitlines()[0]}"
        for name, command in commands.items()
    ]
    head = f"makebreak {__version__}: what makes safety fine-tuning work inside a model, and what breaks it"
    return "\n".join([head, "", *lines, "", _EXAMPLES])
