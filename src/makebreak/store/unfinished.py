"""Folders of unfinished results: what an interrupted call left there, and what is not this program's."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from pathlib import Path

from makebreak.store.checks import RECORD_FILE, DamagedArtifact, walk
from makebreak.store.files import remove_temporary_files_below

_Files = dict[str, tuple[int, int, int]]


def open_unfinished(folder: Path, files: str | None) -> _Files:
    """Creates the folder of an unfinished result, or checks the one that an interrupted call left.

    Temporary files of `write_atomic` are deleted. A symbolic link or an empty folder in the place of a file
    that the program writes is removed, not what it leads to, so that the file can be written anew.

    Args:
        folder: The folder.
        files: Regular expression of the paths that are written there; None for any.

    Returns:
        Size, time of modification and inode of the files that are there.

    Raises:
        DamagedArtifact: If the folder is no real folder, or something in it is not this program's.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        kind = "a symbolic link" if folder.is_symlink() else "a file"
        raise DamagedArtifact(f"{folder} is {kind}, not a folder: delete it and run again")
    folder.mkdir(exist_ok=True)
    own = re.compile(f"(?:{files})|{re.escape(RECORD_FILE)}" if files is not None else "(?s:.*)")
    remove_temporary_files_below(folder, own.fullmatch)
    if files is not None:
        _remove_substitutes(folder, own)
    return _check_own(folder, own)


def check_rewritten(folder: Path, before: _Files) -> None:
    """Checks that a result has no file that it was not made with.

    Args:
        folder: Folder of a result that is being made.
        before: What `open_unfinished` returned.

    Raises:
        DamagedArtifact: If a file directly in the folder was there before and is as it was.
    """
    for name, state in _files(folder).items():
        if "/" not in name and name != RECORD_FILE and before.get(name) == state:
            raise DamagedArtifact(
                f"{folder / name} is in the folder of an unfinished result, which was not made with it: move "
                "it elsewhere and run again"
            )


def follow_umask(folder: Path, like: Path) -> None:
    """Gives all files below a folder the permissions of one that was created plainly.

    Libraries create some files for their owner alone, which nobody else could read in a shared store.

    Args:
        folder: The folder.
        like: A file with the permissions.
    """
    mode = like.stat().st_mode & 0o777
    for name, entry in walk(folder):
        if entry.is_file(follow_symlinks=False) and entry.stat().st_mode & 0o777 != mode:
            with suppress(PermissionError):  # of another user's file
                os.chmod(folder / name, mode)


def _remove_substitutes(folder: Path, own: re.Pattern[str]) -> None:
    """Removes links and empty folders in the places of files that the program writes.

    Raises DamagedArtifact for a folder of folders; a file in it is one that `_check_own` names.
    """
    for place, subfolders, names in os.walk(folder, followlinks=False):
        for path in (Path(place, name) for name in [*subfolders, *names]):
            if own.fullmatch(path.relative_to(folder).as_posix()):
                if path.is_symlink():
                    path.unlink()
                elif path.is_dir() and not any(walk(path)):
                    if any(path.iterdir()):
                        raise DamagedArtifact(
                            f"{path} is a folder, expected a file of an unfinished result: move it elsewhere "
                            "and run again"
                        )
                    path.rmdir()
                else:
                    continue
                sys.stderr.write(f"{path} was no regular file: it is written anew\n")


def _check_own(folder: Path, own: re.Pattern[str]) -> _Files:
    """The files of a folder; raises DamagedArtifact for anything that the program does not write there."""
    for name, entry in walk(folder):
        if not entry.is_file(follow_symlinks=False) or not own.fullmatch(name):
            kind = "a symbolic link" if entry.is_symlink() else "no file of this program"
            raise DamagedArtifact(
                f"{folder / name} is {kind}, in the folder of an unfinished result: move it elsewhere and "
                "run again"
            )
    return _files(folder)


def _files(folder: Path) -> _Files:
    """Size, time of modification and inode of the files of a folder, by path below it."""
    stats = {name: entry.stat(follow_symlinks=False) for name, entry in walk(folder)}
    return {name: (s.st_size, s.st_mtime_ns, s.st_ino) for name, s in stats.items()}
