"""Command line of makebreak: invalid input ends in one line on standard error and status 2."""

from __future__ import annotations

import contextlib
import dis
import functools
import io
import logging as standard_logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from makebreak.characters import escape_hidden
from makebreak.cli.commands import COMMANDS, Report, log
from makebreak.errors import write_traceback

DEBUG_OPTION = "--debug"
"""Option that shows the traceback of an error."""
DEBUG_VARIABLE = "MAKEBREAK_DEBUG"
"""Environment variable that does the same unless it is empty or 0."""

_PACKAGES = ("makebreak", "synthetic", "experiments")
_REMINDERS = ("transformers.generation.stopping_criteria",)  # advice that is not on what a user asked for
_CONFIG = (tyro.conf.OmitArgPrefixes,)
_CHECKED_VALUE = r"Value error Error parsing (?!-)\S+: (.*) For full helptext, see .*"
_BOX = r"\x1b\[[0-9;]*m|[╭╮╰╯─│]|(?<=\s)-{5,}(?=\s)|^-{5,}"  # colours and frames of tyro's messages


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs makebreak.

    Args:
        arguments: The words of the command line after the program; None for those of this process.

    Returns:
        The exit status: 0 for success, 2 for a reported error, 130 for an interruption.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    commands = {name: _deferred(command) for name, command in COMMANDS.items()}
    return run_command(
        lambda: _run(parse_arguments(commands, words, "makebreak")), debug=debug_requested(words)
    )


def debug_requested(arguments: Sequence[str]) -> bool:
    """Whether `--debug` or the environment variable MAKEBREAK_DEBUG asks for tracebacks."""
    return DEBUG_OPTION in arguments or os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")


def run_command(work: Callable[[], None], *, debug: bool = False) -> int:
    """Runs the work of a command and reports a failure as one line on standard error.

    Args:
        work: What the command does. Every exception that it raises is reported; the traceback of one that
            no `raise` statement of this project explains goes to a file that the line names.
        debug: Whether the traceback of a reported error is printed before its line.

    Returns:
        The exit status: 0 for success, 2 for a reported error, 130 for an interruption.
    """
    _write_any_character()
    try:
        work()
    except KeyboardInterrupt:
        print("interrupted: the same command continues where it stopped", file=sys.stderr)
        return 130
    except Exception as error:
        line = f"error: {escape_hidden(' '.join(str(error).split())) or type(error).__name__}"
        if debug:
            traceback.print_exception(error)
        elif not _is_bad_input(error):
            line += f" [{type(error).__name__}; {DEBUG_OPTION} or {DEBUG_VARIABLE}=1 shows the traceback"
            line += f", which is in {write_traceback(error)}]"
        elif error.__cause__ is not None:  # of a library: see makebreak.errors.name_errors
            line += f" [traceback: {write_traceback(error)}]"
        print(line, file=sys.stderr)
        return 2
    return 0


def _write_any_character() -> None:
    """Lets standard output and error show what their encoding lacks as an escape, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_bad_input(error: Exception) -> bool:
    """Whether the operating system refused a file, or a `raise` statement of this project names the fault.

    Errors from libraries, and from expressions such as `zip(strict=True)`, may be faults of this program.
    """
    if isinstance(error, OSError):
        return True
    origin = error.__traceback__
    assert origin is not None  # the error was raised
    while origin.tb_next is not None:
        origin = origin.tb_next
    package = str(origin.tb_frame.f_globals.get("__name__", "")).split(".")[0]
    instruction = dis.opname[origin.tb_frame.f_code.co_code[origin.tb_lasti]]
    return package in _PACKAGES and instruction == "RAISE_VARARGS"


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
        ValueError: If the command line is invalid; tyro's boxed message is reduced to one line.
    """
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


def _deferred(command: Callable[..., Report]) -> Callable[..., Callable[[], Report]]:
    """A function with the parameters of a command that returns the call instead of making it."""

    @functools.wraps(command)
    def bind(*arguments: Any, **options: Any) -> Callable[[], Report]:
        return functools.partial(command, *arguments, **options)

    return bind


def _run(command: Callable[[], Report]) -> None:
    """Runs a command, and prints its summary and the path of its page."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # for libraries; our own bars check the terminal
    from transformers.utils import logging

    logging.disable_progress_bar()
    for name in _REMINDERS:
        logging.get_logger(name).setLevel(standard_logging.ERROR)
    lines, path = command()
    for line in [*lines, f"page: {path}"]:
        log(line)
