"""Checks of finished results: their records, the set of their files, and what the files contain.

A file that was omitted on purpose (`omitted.json` names it, see `makebreak.portable`) may be absent: the
result counts as computed, its key and its other files can be used, and opening the file is an error with a
remedy.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from makebreak.store.files import file_digest, temporary_name
from makebreak.store.keys import KEY_PATTERN, identity_key

RECORD_FILE = "artifact.json"
"""File of a finished result that holds what the result is and the hashes of its files."""
OMITTED_FILE = "omitted.json"
"""File of a finished result that lists those of its files that were left out when it was carried here."""
_RACY_NS = 100_000_000  # a file written this shortly before it was read may change without a new time
_HARMLESS_FOLDERS = (".ipynb_checkpoints",)
_HARMLESS = re.compile(r"\.DS_Store|\.nfs[0-9a-f]+|.+\.lock")
_EMPTY = hashlib.sha256().hexdigest()
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, RecursionError)


class DamagedArtifact(ValueError):
    """A stored result is missing, incomplete or not what its record says."""


def record(folder: Path) -> dict[str, Any]:
    """Record of a finished result: what it is, hashes of its files, and the cost of its last session."""
    return json.loads((folder / RECORD_FILE).read_bytes())


def verify_record(folder: Path, *, any_name: bool = False) -> dict[str, Any]:
    """Record of a finished result, if it is complete and the folder is named by its key.

    Args:
        folder: Folder of a finished result.
        any_name: Whether the folder may have another name, as a copy outside of a store has.

    Returns:
        The record.

    Raises:
        DamagedArtifact: If the record is missing or unreadable, or describes another result.
    """
    path = folder / RECORD_FILE
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise FileNotFoundError
        result = record(folder)
        key, stage = identity_key(result), result["stage"]
        hashes = [*dict(result["files"]).items(), *((parent, "") for parent in result["parents"])]
        texts = [stage, *(part for pair in hashes for part in pair)]
        if type(result["revision"]) is not int or not all(isinstance(text, str) for text in texts):
            raise TypeError
        if not all(map(_is_below, result["files"])):
            raise ValueError
    except _UNREADABLE:
        raise DamagedArtifact(f"{path} is missing or unreadable: {_remedy(folder, any_name)}") from None
    # a copy may have any name but that of another result
    is_copy = any_name and (key == folder.name or not KEY_PATTERN.fullmatch(folder.name))
    if not is_copy and (key, stage) != (folder.name, folder.parent.name):
        remedy = _remedy(folder)
        raise DamagedArtifact(f"{path} was changed, it describes another result: {remedy}")
    return result


def _is_below(path: str) -> bool:
    """Whether a path of a record stays below the folder of its result."""
    return not os.path.isabs(path) and ".." not in path.split("/")


_verified: dict[tuple[Path, bool], frozenset[tuple[str, int, int, int]]] = {}
"""State of the files of the results that this process has verified."""


def check(folder: Path, *, any_name: bool = False) -> Path:
    """The folder of a finished result, if it has the files of its record and every file is what that says.

    Files that a system or an editor leaves (`.DS_Store`, `.ipynb_checkpoints`, locks) and temporary files of
    `write_atomic` do not count.

    Args:
        folder: Folder of a finished result.
        any_name: Whether the folder may have another name than its key, as a copy outside of a store has.

    Returns:
        The same folder.

    Raises:
        DamagedArtifact: If the record is missing, or describes another result, or a file differs, is missing
            without having been omitted on purpose, is a symbolic link or is not on record; names the first.
    """
    place = folder.absolute()
    states = [_verified[place, name] for name in {any_name, False} if (place, name) in _verified]
    if states and _file_state(folder) in states:
        return folder
    remedy = _remedy(folder, any_name)
    files: dict[str, str] = verify_record(folder, any_name=any_name)["files"]
    before, now = _file_state(folder), time.time_ns()
    check_presence(folder, files, any_name=any_name)
    for name, expected in files.items():
        path = folder / name
        if path.is_file() and file_digest(path) != expected:
            raise DamagedArtifact(f"{path} is truncated or was changed: {remedy}")
    if all(modified < now - _RACY_NS for _, _, modified, _ in before):
        _verified[place, any_name] = before
    return folder


def check_presence(folder: Path, files: dict[str, str], *, any_name: bool = False) -> None:
    """Checks which files a finished result has, without reading them.

    Args:
        folder: Folder of a finished result.
        files: Hashes of the files on record, by path below the folder.
        any_name: Whether the folder may have another name than its key.

    Raises:
        DamagedArtifact: If a file is missing without having been omitted on purpose, is empty and was not, is
            no regular file, or is not on record; names the first one.
    """
    present: dict[str, int] = {}
    for name, entry in walk(folder):
        if entry.is_symlink() or not entry.is_file():
            raise DamagedArtifact(
                f"{folder / name} is no regular file, which a result has not: {_remedy(folder, any_name)}"
            )
        present[name] = entry.stat().st_size
    missing = {name for name in files.keys() - present.keys() if not (folder / name).is_file()}
    if missing:
        missing -= omitted_files(folder)
    for name in sorted(missing):
        raise DamagedArtifact(f"{folder / name} is missing: {_remedy(folder, any_name)}")
    for name in sorted(present.keys() - files.keys() - {RECORD_FILE, OMITTED_FILE}):
        raise DamagedArtifact(
            f"{folder / name} is no file of this result, whose {RECORD_FILE} does not list it: move it "
            f"elsewhere, or {_remedy(folder, any_name)}"
        )
    for name, expected in files.items():
        if present.get(name) == 0 and expected != _EMPTY:
            raise DamagedArtifact(f"{folder / name} is truncated or was changed: {_remedy(folder, any_name)}")


def read_verified(folder: Path, name: str, files: dict[str, str]) -> bytes:
    """Content of a file of a finished result.

    Args:
        folder: Folder of the result.
        name: Path of the file below it.
        files: Hashes of the files on record.

    Returns:
        The bytes.

    Raises:
        DamagedArtifact: If the file is missing, or not what the record says.
    """
    try:
        content = (folder / name).read_bytes()
    except OSError:
        raise DamagedArtifact(f"{folder / name} is missing: {_remedy(folder)}") from None
    if hashlib.sha256(content).hexdigest() != files.get(name):
        raise DamagedArtifact(f"{folder / name} is truncated or was changed: {_remedy(folder)}")
    return content


def check_copy(path: Path) -> str | None:
    """Checks a folder that may be that of a result, or a kept training step of one, wherever it lies.

    Args:
        path: A folder, of a store or not, under any name.

    Returns:
        The key of the result, from what its record says; None if the folder belongs to no result.

    Raises:
        DamagedArtifact: If the folder has a record, and the result is not what that says.
    """
    path = path.resolve()
    if (path / RECORD_FILE).exists() or (path / RECORD_FILE).is_symlink():
        return identity_key(record(check(path, any_name=True)))
    for folder in path.parents[:2]:  # of a kept step, checkpoints/STEP
        name = path.relative_to(folder).as_posix()
        try:
            files = list(record(folder)["files"])
        except _UNREADABLE:
            continue  # no result, which another program's file of this name does not make
        if any(file.startswith(f"{name}/") for file in files):
            return identity_key(record(check(folder, any_name=True)))
    return None


def _remedy(folder: Path, any_name: bool = False) -> str:
    if any_name:
        return f"delete {folder} and compute or copy it anew"
    return f"delete {folder} and run again to compute it anew"


def walk(folder: Path | str, below: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All that lies below a folder and is no folder, by path below it; links are not followed.

    What a system or an editor leaves and temporary files of `write_atomic` are left out.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _HARMLESS_FOLDERS:
                    yield from walk(entry.path, f"{below}{entry.name}/")
            elif entry.is_symlink() or not (_HARMLESS.fullmatch(entry.name) or temporary_name(entry.name)):
                yield below + entry.name, entry


def _file_state(folder: Path) -> frozenset[tuple[str, int, int, int]]:
    """Path, size, time of modification and inode of all that lies in a folder; none of a missing one."""
    try:
        stats = [(name, entry.stat(follow_symlinks=False)) for name, entry in walk(folder)]
    except OSError:
        return frozenset()
    return frozenset((name, s.st_size, s.st_mtime_ns, s.st_ino) for name, s in stats)


def omitted_files(folder: Path) -> frozenset[str]:
    """Files of a finished result that were left out on purpose when it was carried here.

    Args:
        folder: Folder of a finished result.

    Returns:
        Paths below the folder.

    Raises:
        DamagedArtifact: If the list is unreadable.
    """
    path = folder / OMITTED_FILE
    if not path.exists():
        return frozenset()
    try:
        names: Iterable[Any] = json.loads(path.read_text())["files"]
        return frozenset(map(str, names))
    except _UNREADABLE:
        raise DamagedArtifact(f"{path} is unreadable: {_remedy(folder)}") from None


def check_not_omitted(path: Path) -> None:
    """Checks that a file of a result, which is about to be opened, was not left out on purpose.

    Args:
        path: A file, within a store or not.

    Raises:
        DamagedArtifact: If the file is missing, and the result that it belongs to lists it as omitted.
    """
    if path.exists():
        return
    for folder in path.parents:
        if path.relative_to(folder).as_posix() in omitted_files(folder):
            raise DamagedArtifact(
                f"{path} was not carried to this store, since nothing seemed to need it: delete {folder} and "
                "run again to compute it anew"
            )
