"""Command line of makebreak: invalid input ends in one line on standard error and status 2."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from makebreak.cli.commands import COMMANDS, Report, log
from makebreak.cli.overview import overview
from makebreak.cli.running import debug_requested, run_command
from makebreak.model_sources import check_model_name
from makebreak.provenance import command_words

_SIZES = {
    "inspect": "--requests or --max-new-tokens",
    "compare": "--requests",
    "attack": "--requests, --candidates, --attack-tokens, --soft-tokens or --max-new-tokens",
    "landscape": "--requests or --max-new-tokens",
    "align": "--batch-size, --lora-rank, --requests or --max-new-tokens",
    "tune": "--batch-size, --examples, --lora-rank, --requests or --max-new-tokens",
}
"""Options of each command that decide how much memory it needs."""
_MODELS = ("model", "base", "aligned")
"""Parameters of the commands that name a model."""
_CONFIG = (tyro.conf.OmitArgPrefixes,)
_CHECKED_VALUE = r"Value error Error parsing (?!-)\S+: (.*) For full helptext, see .*"
_BOX = r"\x1b\[[0-9;]*m|[╭╮╰╯─│]|(?<=\s)-{5,}(?=\s)|^-{5,}"  # colours and frames of tyro's messages


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs makebreak; without a command it says what it can do.

    Args:
        arguments: The words of the command line after the program; None for those of this process.

    Returns:
        The exit status of `run_command`.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    with command_words(["makebreak", *words]):
        return run_command(
            lambda: _run_words(words),
            debug=debug_requested(words),
            sizes=_SIZES.get(words[0] if words else "", "options"),
        )


def parse_arguments(commands: Any, arguments: Sequence[str], program: str) -> Any:
    """Parses a command line with tyro.

    Args:
        commands: A dataclass or function whose fields or parameters are options, or several by the name of
            their command. The options of a nested dataclass have no prefix.
        arguments: The words of the command line after the program.
        program: Name of the program in messages.

    Returns:
        The instance of the dataclass, or what the function returns.

    Raises:
        ValueError: If the command line is invalid; tyro's boxed message is reduced to one line. An empty
            word, as of a variable of the shell that is not set, is invalid: `--out ''` would be the working
            folder.
    """
    if "" in arguments:
        place = f"after {arguments[arguments.index('') - 1]!r}" if arguments[0] else "at the beginning"
        raise ValueError(f"the argument {place} is empty: give a value, or leave it out")
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            if isinstance(commands, dict):
                return tyro.extras.subcommand_cli_from_dict(
                    commands, args=arguments, prog=program, config=_CONFIG
                )
            return tyro.cli(commands, args=arguments, prog=program, config=_CONFIG)
    except SystemExit as stop:
        if not stop.code:
            raise
        line = " ".join(re.sub(_BOX, " ", messages.getvalue()).split())
        refusal = re.fullmatch(_CHECKED_VALUE, line)  # by the settings, whose own message says enough
        raise ValueError(refusal[1] if refusal else line) from None


def _deferred(command: Callable[..., Report]) -> Callable[..., functools.partial[Report]]:
    """A function with the parameters of a command that returns the call instead of making it."""

    @functools.wraps(command)
    def bind(*arguments: Any, **options: Any) -> functools.partial[Report]:
        return functools.partial(command, *arguments, **options)

    return bind


def _run_words(words: Sequence[str]) -> None:
    """Runs the command that the words of a command line name; without words, prints what there is."""
    if not words:
        print(overview(COMMANDS))
        return
    commands = {name: _deferred(command) for name, command in COMMANDS.items()}
    _run(parse_arguments(commands, words, "makebreak"), loads_models=words[0] != "doctor")


def _run(command: functools.partial[Report], *, loads_models: bool) -> None:
    """Runs a command, and prints its summary and the path of its page."""
    for name in _MODELS:
        if name in command.keywords:
            check_model_name(command.keywords[name])  # before the imports, which take seconds
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # for libraries; our own bars check the terminal
    if loads_models:
        from transformers.utils import logging  # which takes a second

        logging.disable_progress_bar()
    lines, path = command()
    for line in lines if path is None else [*lines, f"page: {path}"]:
        log(line)
