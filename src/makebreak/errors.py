"""Errors of other libraries as one line that names the input, and files for their tracebacks."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

_ALLOCATION = re.compile(r"can't allocate memory|not enough memory|out of memory", re.IGNORECASE)
_PANIC = "PanicException"  # of pyo3, which gives it no module to import it from
_LENGTH = 200
"""Characters of another library's error that are shown."""


class InvalidInput(ValueError):
    """Something that a user gave cannot be used; the message names it, what was expected and the remedy."""


def shorten(text: str, length: int = 200) -> str:
    """Returns the beginning of a text for an error message, with an ellipsis if something follows."""
    return text if len(text) <= length else text[:length] + "…"


@contextmanager
def name_errors(subject: object, problem: str, remedy: str) -> Iterator[None]:
    """Turns every exception of a block into an `InvalidInput` that says whose input caused it.

    The exception of the library stays as the cause, whose traceback `write_traceback` keeps.

    Args:
        subject: The folder, file, hub id or option that the block works on.
        problem: What failed, in words that follow the subject.
        remedy: What was expected, and what to do.

    Yields:
        Nothing.

    Raises:
        InvalidInput: For any exception but an `InvalidInput`, which passes as it is; running out of memory
            is among them, and so is a panic of a library in Rust, which is no `Exception`.
    """
    try:
        yield
    except InvalidInput:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
            raise
        raise InvalidInput(f"{subject}: {problem} ({describe_error(error)}); {remedy}") from error


@contextmanager
def silence_loggers(*names: str) -> Iterator[None]:
    """Silences the warnings of libraries: an error that ends in one line says what they would.

    Args:
        *names: Names of the loggers, with those below them that have no level of their own.

    Yields:
        Nothing.
    """
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def silence_native_code() -> Iterator[None]:
    """Discards what libraries in other languages write to standard error, such as the stack of a panic.

    Yields:
        Nothing.
    """
    try:
        sys.stderr.flush()
        standard_error = os.dup(2)
    except (AttributeError, OSError, ValueError):  # there is no standard error
        yield
        return
    try:
        with open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(standard_error, 2)
        os.close(standard_error)


def describe_error(error: BaseException) -> str:
    """Type and message of an exception in one line, shortened."""
    message = " ".join(str(error).split())
    if len(message) > _LENGTH:
        message = message[:_LENGTH].rstrip() + "…"
    kind = type(error).__name__
    return f"{kind}: {message}" if message else kind


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be allocated, by Python, NumPy or PyTorch."""
    names = {cls.__name__ for cls in type(error).__mro__}  # torch is not imported to ask for its class
    if names & {"MemoryError", "OutOfMemoryError"}:
        return True
    return isinstance(error, RuntimeError) and _ALLOCATION.search(str(error)) is not None


def write_traceback(error: BaseException) -> str:
    """Writes the traceback of an error, with those of its causes, into a new file for temporary files.

    Args:
        error: The error.

    Returns:
        Path of the file; "no file could be written" where that is so.
    """
    lines = traceback.format_exception(error)
    try:
        with tempfile.NamedTemporaryFile(
            "w",
            prefix="makebreak-traceback-",
            suffix=".txt",
            delete=False,
            encoding="utf-8",
            errors="backslashreplace",
        ) as file:
            file.writelines(lines)
        return file.name
    except OSError:
        return "no file could be written"
