"""A store of results: each in one folder, written whole or not at all, under a key of all that it depends on.

STORE/stage/key/            finished: artifact.json (what the result is, hashes of its files) and the files
STORE/stage/key.partial/    unfinished: checkpoints, from which an interrupted stage resumes
STORE/stage/key.lock        lets two processes that want the same result compute it once
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

RECORD_FILE = "artifact.json"
"""File of a finished result that holds what the result is and the hashes of its files."""
TABLES = "tables"
"""Folder of a run's tables, within its output folder."""
OUTPUT_NAMES = ("claims.json", "provenance.json", "report.html")
"""Files that a run writes directly into its output folder."""
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.\d+\.new")


class DamagedArtifact(ValueError):
    """A stored result is missing, incomplete or not what its record says."""


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


def remove_torn_files(out: Path) -> None:
    """Delete the temporary files that a killed `write_atomic` left in a run's output folder.

    Only regular files named `.NAME.PID.new` are deleted, where NAME is one of `OUTPUT_NAMES` in the folder
    itself or a CSV file in its folder `tables`. Other folders and symbolic links are not touched.
    """
    for path in _torn_files(out):
        if _torn_name(path) in OUTPUT_NAMES:
            path.unlink(missing_ok=True)
    tables = out / TABLES
    if not tables.is_symlink():
        for path in _torn_files(tables):
            if _torn_name(path).endswith(".csv"):
                path.unlink(missing_ok=True)


def _torn_name(path: Path) -> str:
    """Name of the file that a temporary path of `write_atomic` stands for, "" for any other path."""
    match = _TEMPORARY.fullmatch(path.name)
    return match["name"] if match else ""


def _torn_files(folder: Path) -> list[Path]:
    """The temporary files of `write_atomic` directly in a folder, symbolic links left out."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return [path for path in paths if _torn_name(path) and path.is_file() and not path.is_symlink()]


def _remove_torn_in_partial(partial: Path) -> None:
    """Delete the temporary files of `write_atomic` in an unfinished result and in its real subfolders."""
    for folder, _, _ in os.walk(partial, followlinks=False):
        for path in _torn_files(Path(folder)):
            path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all; raises ValueError for NaN and infinity."""
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def result_key(stage: str, revision: int, config: dict[str, Any], parents: Sequence[Path] = ()) -> str:
    """Name of a result's folder: a hash of all that the result depends on.

    Args:
        stage: Kind of the result, which names the folder above it.
        revision: Revision of the code that makes it; raised when its results change.
        config: Settings of the result, JSON values.
        parents: Folders of the results that it is made from, of which the names count.

    Returns:
        The first 20 hexadecimal digits of a SHA-256.
    """
    return _key(_identity(stage, revision, config, parents))


def _identity(stage: str, revision: int, config: dict[str, Any], parents: Sequence[Path]) -> dict[str, Any]:
    return {"stage": stage, "revision": revision, "config": config, "parents": [p.name for p in parents]}


def _key(identity: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True, allow_nan=False).encode()).hexdigest()[:20]


def _peak_mib() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


class NotCached(LookupError):
    """A result is not in a store that is read only."""


@dataclass(frozen=True)
class Store:
    """A folder of results; all files of a result are read again and checked whenever it is opened."""

    root: Path
    """Folder of the store."""
    read_only: bool = False
    """Whether a missing result raises NotCached instead of being computed."""

    def build(
        self,
        stage: str,
        *,
        revision: int,
        config: dict[str, Any],
        parents: Sequence[Path] = (),
        make: Callable[[Path], None],
    ) -> Path:
        """The folder of a result, which is computed unless it is already there.

        Args:
            stage: Kind of the result, which names the folder above it.
            revision: Revision of the code that makes it; raised when its results change.
            config: Settings of the result, JSON values.
            parents: Folders of the results that it is made from.
            make: Writes the result into the folder that it is given, which holds what an interrupted call
                left there.

        Returns:
            The folder of the finished result, named by `result_key`.

        Raises:
            DamagedArtifact: If a finished result fails its hashes, or its unfinished folder is a symbolic
                link.
            NotCached: If the store is read only and the result is not there.
        """
        identity = _identity(stage, revision, config, parents)
        final = self.root / stage / _key(identity)
        if final.exists():
            return check(final)
        if self.read_only:
            raise NotCached(f"{final} is not in the store, which is opened read only")
        final.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(final.with_suffix(".lock")):
            if final.exists():
                return check(final)
            partial = final.with_suffix(".partial")
            if partial.is_symlink():
                raise DamagedArtifact(f"{partial} is a symbolic link, not a folder: delete it and run again")
            partial.mkdir(exist_ok=True)
            _remove_torn_in_partial(partial)
            started = time.monotonic()
            make(partial)
            cost = {"seconds": round(time.monotonic() - started, 2), "process_peak_mib": _peak_mib()}
            files = sorted(p for p in partial.rglob("*") if p.is_file() and p.name != RECORD_FILE)
            hashes = {p.relative_to(partial).as_posix(): _sha256(p) for p in files}
            write_json(partial / RECORD_FILE, identity | {"cost": cost, "files": hashes})
            partial.replace(final)
        return final


def is_cached(root: Path, compute: Callable[[Store], object]) -> bool:
    """Whether all results that a function builds are in a store already.

    Args:
        root: Folder of the store.
        compute: Builds results in the store that it is given.

    Returns:
        False if one of them is missing; nothing is computed.
    """
    try:
        compute(Store(root, read_only=True))
    except NotCached:
        return False
    return True


def check(folder: Path) -> Path:
    """The folder of a finished result, if every file is what its record says.

    Args:
        folder: Folder of a finished result.

    Returns:
        The same folder.

    Raises:
        DamagedArtifact: If the record is missing, or describes another result, or a file differs; names the
            first one.
    """
    remedy = f"delete {folder} and run again to compute it anew"
    try:
        record = json.loads((folder / RECORD_FILE).read_text())
        files: dict[str, str] = dict(record["files"])
        identity = {name: record[name] for name in ("stage", "revision", "config", "parents")}
    except (OSError, ValueError, KeyError, TypeError):
        raise DamagedArtifact(f"{folder / RECORD_FILE} is missing or unreadable: {remedy}") from None
    if _key(identity) != folder.name:
        raise DamagedArtifact(f"{folder / RECORD_FILE} was changed, it describes another result: {remedy}")
    for name, expected in files.items():
        if not (folder / name).is_file():
            raise DamagedArtifact(f"{folder / name} is missing: {remedy}")
        if _sha256(folder / name) != expected:
            raise DamagedArtifact(f"{folder / name} is truncated or was changed: {remedy}")
    return folder


def record(folder: Path) -> dict[str, Any]:
    """Record of a finished result: what it is, hashes of its files, and the cost of its last session."""
    return json.loads((folder / RECORD_FILE).read_text())
