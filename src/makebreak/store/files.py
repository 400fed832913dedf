"""Files that are written whole or not at all; removal of temporary files and of folders that stay empty."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.\d+\.new")


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all: an existing file stays until the new one is safe on disk."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with new.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all; raises ValueError for NaN and infinity."""
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def file_digest(path: Path | str) -> str:
    """SHA-256 of a file in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def temporary_name(name: str) -> str:
    """Name of the file that a temporary file of `write_atomic` stands for, "" for any other name."""
    match = _TEMPORARY.fullmatch(name)
    return match["name"] if match else ""


def remove_temporary_files_below(folder: Path, is_own: Callable[[str], object] = lambda _: True) -> None:
    """Delete the temporary files that a killed `write_atomic` left in a folder and in its real subfolders.

    Args:
        folder: The folder.
        is_own: Whether the file of a path below the folder is one that this program writes there.
    """
    for subfolder, _, _ in os.walk(folder, followlinks=False):
        below = Path(subfolder).relative_to(folder)
        remove_temporary_files(Path(subfolder), lambda name, below=below: is_own((below / name).as_posix()))


def remove_temporary_files(folder: Path, is_own: Callable[[str], object]) -> None:
    """Delete the temporary files that a killed `write_atomic` left directly in a folder; links are left.

    Args:
        folder: The folder, which need not exist; nothing is removed through a symbolic link.
        is_own: Whether this program writes a file of that name there.
    """
    for path in folder.iterdir() if folder.is_dir() and not folder.is_symlink() else ():
        name = temporary_name(path.name)
        if name and is_own(name) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


@contextmanager
def create_folders(*folders: Path) -> Iterator[None]:
    """Creates folders; those that are new and still empty at the end of the block are removed.

    Args:
        *folders: The folders, with the missing ones above them.

    Yields:
        Nothing.
    """
    created: list[Path] = []
    try:
        for folder in folders:
            created += [path for path in (folder, *folder.parents) if not path.exists()][::-1]
            folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for path in reversed(created):
            with suppress(OSError):  # it is not empty
                path.rmdir()
