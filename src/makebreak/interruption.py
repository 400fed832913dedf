"""Interruption of a program by Ctrl-C or SIGTERM: one line on standard error, and no traceback.

Only the standard library is imported, so that a program can call `handle_interruptions` before anything that
takes long to import.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, NoReturn

MESSAGES = {
    signal.SIGINT: "interrupted: the same command continues where it stopped",
    signal.SIGTERM: "terminated: the same command continues where it stopped",
}
"""Line on standard error, by signal."""
_IMPORT_SYSTEM = "<frozen importlib"


class Interruption(KeyboardInterrupt):
    """A signal that ends the program.

    Args:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _State:
    """The first signal of this process, and whether it has been reported."""

    first: int | None = None
    is_reported = False


def handle_interruptions() -> None:
    """Lets Ctrl-C and SIGTERM raise an `Interruption` in the main thread, once.

    A second signal ends the process at once, and so does one during an import: libraries catch exceptions of
    their own imports, and nothing is computed then. A signal that is ignored, as under `nohup`, stays so.
    Processes that are forked from this one keep the behaviour of the system. Standard streams that are closed
    are opened as `/dev/null`: the next file that is opened would take their place, and be written to.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    sys.stdout, sys.stderr = (
        open(os.devnull, "w") if stream is None else stream  # noqa: SIM115  open as long as the program
        for stream in (sys.stdout, sys.stderr)
    )
    if threading.current_thread() is not threading.main_thread():
        return
    owner = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if _State.first is not None or _is_importing(frame):
            _end(number)
        _State.first = number
        raise Interruption(number)

    for number in MESSAGES:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)
    sys.unraisablehook = _end_if_interrupted


def report_interruption(error: BaseException) -> int | None:
    """Prints the line about an interruption.

    Args:
        error: What ended the work. A library may have turned an interruption into another exception.

    Returns:
        The exit status, 128 and the number of the signal; None if the work was not interrupted.
    """
    number = error.number if isinstance(error, Interruption) else _State.first
    if number is None and isinstance(error, KeyboardInterrupt):
        number = signal.SIGINT
    if number is None:
        return None
    _State.is_reported = True
    with contextlib.suppress(OSError, ValueError):  # standard error is closed or full
        sys.stderr.write(f"{MESSAGES[signal.Signals(number)]}\n")
        sys.stderr.flush()
    return 128 + number


def leave(status: int) -> NoReturn:
    """Exits with a status, which a signal during the exit does not change."""
    for number in MESSAGES:
        if callable(signal.getsignal(number)):
            signal.signal(number, lambda *_: os._exit(status))
    sys.exit(status)


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported in a stack of frames."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORT_SYSTEM):
            return True
        frame = frame.f_back
    return False


def _end(number: int) -> NoReturn:
    """Ends the process at once."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    if not _State.is_reported:
        _State.is_reported = True
        with contextlib.suppress(OSError):
            os.write(2, f"{MESSAGES[signal.Signals(number)]}\n".encode())
    os._exit(128 + number)


def _end_if_interrupted(unraisable: Any) -> None:
    """Ends the process if a signal was raised where Python drops exceptions, as in a finaliser."""
    if isinstance(unraisable.exc_value, Interruption):
        _end(unraisable.exc_value.number)
    sys.__unraisablehook__(unraisable)
