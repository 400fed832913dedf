"""Locks that let two processes which want the same result compute it once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from makebreak.store.checks import DamagedArtifact

_PATIENCE = 1.0  # seconds of waiting after which a line says so


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Holds the lock of a result's folder; says so on standard error if another process holds it for long.

    After an exception that leaves neither a finished nor an unfinished result, the file of the lock is
    removed; another process that waits for it locks a new one.

    Args:
        folder: Folder of the result; the lock is the file beside it with the suffix `.lock`.

    Yields:
        Nothing.

    Raises:
        DamagedArtifact: If a link or a folder is in the place of the lock.
    """
    path = folder.with_suffix(".lock")
    if path.is_symlink() or path.is_dir():
        raise DamagedArtifact(f"{path} is no file: delete it and run again")
    file, patience = FileLock(path), _PATIENCE
    while not file.is_locked:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            file.acquire(timeout=patience)
        except FileNotFoundError:  # another process was refused, and has removed the empty folder
            continue
        except Timeout:
            sys.stderr.write(f"waiting for another process that computes {folder}\n")
            sys.stderr.flush()
            patience = -1
    try:
        yield
    except BaseException:
        if not folder.exists() and not folder.with_suffix(".partial").exists():
            path.unlink(missing_ok=True)
        raise
    finally:
        file.release()
