"""Running of a command: a failure is one line on standard error and an exit status."""

from __future__ import annotations

import contextlib
import dis
import errno
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from makebreak.characters import escape_hidden
from makebreak.errors import InvalidInput, is_out_of_memory, write_traceback
from makebreak.interruption import report_interruption

DEBUG_OPTION = "--debug"
"""Option that shows the traceback of an error."""
DEBUG_VARIABLE = "MAKEBREAK_DEBUG"
"""Environment variable that does the same unless it is empty or 0."""

_TOO_MANY_FILES = os.strerror(errno.EMFILE)
_PACKAGES = ("makebreak", "synthetic", "experiments")


def debug_requested(arguments: Sequence[str]) -> bool:
    """Whether `--debug` or the environment variable MAKEBREAK_DEBUG asks for tracebacks."""
    return DEBUG_OPTION in arguments or os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")


def run_command(work: Callable[[], None], *, debug: bool = False, sizes: str = "its sizes") -> int:
    """Runs the work of a command and reports a failure as one line on standard error.

    Args:
        work: What the command does. Every exception that it raises is reported; the traceback of one that
            no `raise` statement of this project explains goes to a file that the line names.
        debug: Whether the traceback of a reported error is printed before its line.
        sizes: The options that decide how much memory the command needs, for the line about a lack of it.

    Returns:
        The exit status: 0 for success, 2 for a reported error, 130 for an interruption, 143 for SIGTERM.
    """
    _write_any_character()
    try:
        with contextlib.redirect_stdout(_Output(sys.stdout)):
            try:
                work()
            except SystemExit:  # of a help text
                sys.stdout.flush()
                raise
            sys.stdout.flush()
    except KeyboardInterrupt as stop:
        return report_interruption(stop) or 0
    except Exception as error:
        status = report_interruption(error)  # a library may have caught the interruption
        if status is not None:
            return status
        if debug:
            with contextlib.suppress(OSError, ValueError):
                traceback.print_exception(error)
        _print_error(_describe_failure(error, debug=debug, sizes=sizes))
        return 2
    return 0


def _describe_failure(error: Exception, *, debug: bool, sizes: str) -> str:
    """One line about an error; its traceback goes to a file if no `raise` of this project explains it."""
    line = escape_hidden(" ".join(str(error).split())) or type(error).__name__
    if _TOO_MANY_FILES in line:
        return "too many files are open: raise the limit of this shell (ulimit -n 1024) and run again"
    if is_out_of_memory(error):
        line = f"the memory is too small ({line}): choose smaller {sizes}"
    if debug:
        return line
    if not _is_bad_input(error):
        line += f" [{type(error).__name__}; {DEBUG_OPTION} or {DEBUG_VARIABLE}=1 shows the traceback"
        return line + f", which is in {write_traceback(error)}]"
    if error.__cause__ is not None:  # of a library: see makebreak.errors.name_errors
        line += f" [traceback: {write_traceback(error)}]"
    return line


def _print_error(line: str) -> None:
    """Prints a line on standard error, unless that is closed or full."""
    with contextlib.suppress(OSError, ValueError):
        print(f"error: {line}", file=sys.stderr, flush=True)


class _Output:
    """Standard output, with an error of its own where it is full, or its reader has ended.

    Args:
        stream: The stream.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes a text."""
        with self._name_errors():
            return self._stream.write(text)

    def flush(self) -> None:
        """Writes what is left."""
        with self._name_errors():
            self._stream.flush()

    @contextlib.contextmanager
    def _name_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as null:
                os.dup2(null.fileno(), self._stream.fileno())  # else Python reports it again as it exits
            raise InvalidInput(
                f"standard output cannot be written ({error.strerror}): give it a place, such as > FILE; the "
                "same command continues where it stopped"
            ) from None


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
