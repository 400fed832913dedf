"""Record of the files that this program wrote into an output folder: only these are replaced or removed.

It is written before any other file of the folder. It names the command or the study, the models that the
results are about, and every file, so that a run is continued or repeated in the folder, while files of the
user and the results of other commands, studies and models are refused.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from makebreak.errors import InvalidInput, shorten
from makebreak.model_names import models_digest
from makebreak.output_folders import OUTPUT_FILES, RECORD, REPORT, SUFFIXES, check_no_link
from makebreak.provenance import public_path
from makebreak.store import remove_temporary_files, write_json

_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


class _Record(NamedTuple):
    """Content of the record of an output folder."""

    program: str
    models: tuple[str, ...]
    models_digest: str
    files: frozenset[str]


@dataclass(frozen=True)
class OutputOwner:
    """Whose results an output folder holds."""

    program: str
    """Command or study, such as `makebreak inspect`."""
    models: tuple[str, ...] = ()
    """The models that the results are about, as they were given."""
    files: tuple[str, ...] = (REPORT,)
    """Files that the program writes directly in the folder."""

    def record(self, files: Iterable[str]) -> _Record:
        """Record of a folder with the owner's results in some files."""
        return _Record(
            self.program, tuple(map(public_path, self.models)), models_digest(self.models), frozenset(files)
        )

    def owns(self, content: _Record) -> bool:
        """Whether a record is that of the owner's results; the same models may be named differently."""
        own = self.record(())
        return (content.program, content.models_digest) == (own.program, own.models_digest)


def holds_other_results(out: Path, owner: OutputOwner) -> bool:
    """Whether an output folder has the record of another command, of another study or of other models.

    Args:
        out: The folder, which need not exist.
        owner: Whose results are to be written.

    Returns:
        False for a folder without a record.

    Raises:
        InvalidInput: If the record cannot be read.
    """
    content = _read(out)
    return content is not None and not owner.owns(content)


def check_output_files(out: Path, owner: OutputOwner, option: str = "--out") -> None:
    """Checks that an output folder holds nothing that a report would replace, besides an earlier one of it.

    Args:
        out: The folder, which need not exist.
        owner: Whose results are to be written.
        option: The option that the folder was given by.

    Raises:
        InvalidInput: If the folder holds the results of another command or study, or of other models; or
            something with the name of a file of a report that is not on its record.
    """
    names = _report_files(out, owner.files)  # before the record is read: another process may add to both
    content = _read(out, option)
    if content is not None and not owner.owns(content):
        about = f" on {', '.join(content.models)}" if content.models else ""
        raise InvalidInput(
            f"{option}: {out} holds the results of {shorten(content.program + about)}: remove it, or choose "
            f"another {option}"
        )
    _check_own(out, names, frozenset() if content is None else content.files, option)


@contextmanager
def record_output(out: Path, owner: OutputOwner) -> Iterator[None]:
    """A context in which results are written into an output folder, and its record is kept.

    One process at a time is in it for a folder; another one waits. The record is written first. At the end,
    tables and figures of earlier runs that were not written again are removed; after an exception or a kill
    they stay on record.

    Args:
        out: The folder, which is created if it does not exist.
        owner: Whose results are written.

    Yields:
        Nothing.

    Raises:
        InvalidInput: What `check_output_files` raises.
    """
    out.mkdir(parents=True, exist_ok=True)
    with _lock(out):
        check_output_files(out, owner)
        _remove_torn_files(out)
        before = {name: _state(out / name) for name in recorded_files(out)}
        _write(out, owner.record({*before, *owner.files}))
        yield
        names = set(owner.files)
        for name in recorded_files(out):
            state = _state(out / name)
            if state is None or "/" not in name:
                continue
            if state == before.get(name):
                (out / name).unlink(missing_ok=True)
            else:
                names.add(name)
        _write(out, owner.record(names))


def recorded_files(out: Path) -> list[str]:
    """Paths of the files of an output folder that are on its record, relative to the folder.

    Args:
        out: The folder.

    Returns:
        The paths in alphabetical order, also of files that were not written yet; none without a record that
        can be read.
    """
    with suppress(InvalidInput):
        content = _read(out)
        return sorted(content.files) if content is not None else []
    return []


def create_output_subfolder(folder: Path, files: Sequence[str]) -> Path:
    """Creates a folder within an output folder, and adds files to the record if there is one.

    Args:
        folder: The folder.
        files: Names of the files that are going to be written there.

    Returns:
        The same folder.

    Raises:
        InvalidInput: If the folder is a symbolic link.
    """
    check_no_link(folder)
    folder.mkdir(parents=True, exist_ok=True)
    out, names = folder.parent, {f"{folder.name}/{name}" for name in files}
    content = _read(out)
    if content is not None:
        _check_own(out, sorted(names), content.files, "--out")
        _write(out, content._replace(files=content.files | names))
    return folder


def remove_torn_files(out: Path) -> None:
    """Deletes the temporary files that a killed process of this program left in an output folder.

    Only regular files named `.NAME.PID.new` are deleted, where NAME is the record or on record. Other folders
    and symbolic links are not touched.

    Args:
        out: The folder; it may be a symbolic link to one.
    """
    with _lock(out):
        _remove_torn_files(out)


def _remove_torn_files(out: Path) -> None:
    names = {RECORD, *recorded_files(out)}
    remove_temporary_files(out.resolve(), names.__contains__)
    for folder in SUFFIXES:
        remove_temporary_files(out / folder, lambda name, folder=folder: f"{folder}/{name}" in names)


def _report_files(out: Path, files: Sequence[str]) -> list[str]:
    """What a folder holds under the names of files of a report, by path relative to it."""
    names = [name for name in dict.fromkeys((*OUTPUT_FILES, *files)) if os.path.lexists(out / name)]
    for folder in SUFFIXES:
        with suppress(OSError):
            entries = sorted(os.listdir(out / folder))
            names += [f"{folder}/{name}" for name in entries if _is_output(f"{folder}/{name}")]
    return names


def _is_output(name: str) -> bool:
    """Whether this program may write a file of a path: nothing else on a record counts."""
    folder, _, file = name.rpartition("/")
    return not file.startswith(".") and (not folder or file.endswith(SUFFIXES.get(folder, ())))


def _check_own(out: Path, names: Iterable[str], files: frozenset[str], option: str) -> None:
    """Raises InvalidInput if one of the names is there, but not among the files on record."""
    for name in names:
        if name not in files and os.path.lexists(out / name):
            raise InvalidInput(
                f"{option}: {out / name} would be replaced, but was not written by makebreak ({RECORD} lists "
                f"what was): move it elsewhere, or choose another {option}"
            )


def _read(out: Path, option: str = "--out") -> _Record | None:
    """The record of an output folder, None if there is none; InvalidInput if it is not one."""
    path = out / RECORD
    if not os.path.lexists(path):
        return None
    try:
        if path.is_symlink() or not path.is_file():
            raise TypeError("no regular file")
        content = json.loads(path.read_text(encoding="utf-8"))
        models = tuple(str(name) for name in content["models"])
        files = frozenset(name for name in content["files"] if _is_output(name))
        return _Record(str(content["program"]), models, str(content["models_digest"]), files)
    except _UNREADABLE:
        raise InvalidInput(
            f"{option}: {path} is no record of the files that makebreak wrote there: remove {out}, or choose "
            f"another {option}"
        ) from None


def _write(out: Path, content: _Record) -> None:
    """Writes the record of an output folder, unless it is there already."""
    if _read(out) != content:
        write_json(out / RECORD, content._asdict() | {"files": sorted(content.files)})


def _state(path: Path) -> tuple[int, int, int] | None:
    """Size, time of modification and inode of a file; None if there is none."""
    try:
        stat = path.lstat()
    except FileNotFoundError:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Holds a lock of a folder, which needs no file; a kill releases it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # of a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
