"""Folders that a user gives for output: checked before anything is computed, and named in errors."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from makebreak.errors import InvalidInput, describe_error, shorten

REPORT, CLAIMS, PROVENANCE = "report.html", "claims.json", "provenance.json"
"""Files of an output folder, of which a command or a study writes some."""
OUTPUT_FILES = (REPORT, CLAIMS, PROVENANCE)
"""All of them."""
FIGURES, TABLES, LOGS = "figures", "tables", "logs"
"""Folders below an output folder."""
SUFFIXES = {FIGURES: (".png", ".pdf"), TABLES: (".csv",), LOGS: (".json",)}
"""Endings of the files that are written in these folders."""
RECORD = ".makebreak.json"
"""Record of what this program wrote into an output folder; see `makebreak.output_record`."""


def check_output_folder(folder: Path, option: str = "--out") -> None:
    """Checks that a folder can be written, with what belongs into it; creates nothing.

    Args:
        folder: The folder, which need not exist; it may be a symbolic link to one.
        option: The option that it was given by.

    Raises:
        InvalidInput: If it cannot be written, a file is in its place or in that of a folder above it, or
            something else is in the place of a folder or a file that will be in it. The folders in it must
            not be symbolic links: what they point to is not the user's choice for this output.
    """
    _check(folder, option, may_be_read_only=False)
    for name in SUFFIXES:
        check_no_link(folder / name, option)
        if (folder / name).exists() and not (folder / name).is_dir():
            raise InvalidInput(
                f"{option}: {folder / name} is a file, expected a folder: remove it, or choose another "
                f"{option}"
            )
    for name in (*OUTPUT_FILES, RECORD):
        if (folder / name).is_dir() and not (folder / name).is_symlink():
            raise InvalidInput(
                f"{option}: {folder / name} is a folder, expected a file: remove it, or choose another "
                f"{option}"
            )


def check_inputs_apart(out: Path, *inputs: Path | None, option: str = "--out") -> None:
    """Checks that no file that is read lies where an output folder is written.

    Args:
        out: The output folder.
        *inputs: Files that are read; None and what does not exist are left out.
        option: The option that the folder was given by.

    Raises:
        InvalidInput: If one is among the tables, the figures or the files of the folder.
    """
    folders = {(out / name).resolve() for name in SUFFIXES}
    files = {(out / name).resolve() for name in (*OUTPUT_FILES, RECORD)}
    for path in inputs:
        if path is not None and path.exists():
            place = path.resolve()
            if place.parent in folders or place in files:
                raise InvalidInput(
                    f"{option}: {path} is read, and lies where the results are written: copy it elsewhere, "
                    f"or choose another {option}"
                )


def check_store_folder(folder: Path, option: str = "--store") -> None:
    """Checks that a folder exists or can be created; creates nothing.

    A folder that cannot be written passes: what is complete in it can be read.

    Args:
        folder: The folder of a store.
        option: The option that it was given by.

    Raises:
        InvalidInput: If it does not exist and cannot be created, or is no folder.
    """
    _check(folder, option, may_be_read_only=True)


def check_no_link(folder: Path, option: str = "--out") -> None:
    """Raises InvalidInput if a folder of an output folder is a symbolic link."""
    if folder.is_symlink():
        raise InvalidInput(
            f"{option}: {folder} is a symbolic link, which is not followed: remove it, or choose another "
            f"{option}"
        )


@contextmanager
def name_option(option: str, folder: Path) -> Iterator[None]:
    """Turns an error of the system about a folder, such as a full disk, into one that names its option.

    Args:
        option: The option that the folder was given by.
        folder: The folder.

    Yields:
        Nothing.

    Raises:
        InvalidInput: For an OSError about the folder or a path in it, or about a file without a name, and for
            what safetensors raises when it cannot write.
    """
    try:
        yield
    except Exception as error:
        path = getattr(error, "filename", None)
        if isinstance(error, OSError):
            if path is not None and not _is_within(path, folder):
                raise
            problem = error.strerror or describe_error(error)
        elif type(error).__name__ == "SafetensorError" and "I/O error" in str(error):
            problem = describe_error(error)
        else:
            raise
        place = folder if path is None else path
        raise InvalidInput(
            f"{option}: {place} cannot be used ({problem}): make room or give the right to write there, and "
            f"run the same command again, or choose another {option}"
        ) from None


def _is_within(path: object, folder: Path) -> bool:
    """Whether a path of an error is a folder or in it."""
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    return Path(os.fsdecode(path)).absolute().is_relative_to(folder.absolute())


def _check(folder: Path, option: str, *, may_be_read_only: bool) -> None:
    """Raises InvalidInput unless a folder, or the nearest existing one above it, can be written."""
    try:
        existing = _nearest_existing(folder)
        if not existing.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{existing} is no folder")
        if existing == folder and may_be_read_only:
            return
        os.rmdir(tempfile.mkdtemp(prefix=".makebreak-", dir=existing))
    except (OSError, ValueError) as error:  # ValueError for a null byte and for what has no encoding
        problem = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidInput(
            f"{option}: {shorten(str(folder))} cannot be written ({problem}): choose another {option}"
        ) from None


def _nearest_existing(folder: Path) -> Path:
    """A path, or the nearest one above it that exists; OSError for a broken link or a long name."""
    for path in (folder, *folder.absolute().parents):
        try:
            os.stat(path)
        except FileNotFoundError:
            if path.is_symlink():
                raise OSError(errno.ENOENT, f"{path} is a symbolic link to nothing") from None
            continue
        return path
    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
