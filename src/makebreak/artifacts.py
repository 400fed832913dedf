"""Where does a result live? In one folder that is written whole or not at all, under a key of all it depends on.

STORE/stage/key/            finished: artifact.json (what it is, hashes of its files) and the files
STORE/stage/key.partial/    under way: checkpoints, so that an interrupted stage goes on where it was
STORE/stage/key.lock        two processes that want the same result compute it once
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

RECORD = "artifact.json"
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


def remove_torn(out: Path) -> None:
    """Delete the temporary files that a killed `write_atomic` left in a run's output folder.

    Only regular files named `.NAME.PID.new` are deleted, where NAME is one of `OUTPUT_NAMES` in the folder itself
    or a CSV file in its folder `tables`. Other folders and symbolic links are not touched.
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
    """The name of the file that `write_atomic` was about to write under this temporary path, "" for another path."""
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
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def result_key(stage: str, revision: int, config: dict[str, Any], parents: Sequence[Path] = ()) -> str:
    """Name of a result's folder: a hash of its stage, revision and config, and of its parents' keys."""
    return _key(_identity(stage, revision, config, parents))


def _identity(stage: str, revision: int, config: dict[str, Any], parents: Sequence[Path]) -> dict[str, Any]:
    return {"stage": stage, "revision": revision, "config": config, "parents": [p.name for p in parents]}


def _key(identity: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True, allow_nan=False).encode()).hexdigest()[:20]


def _peak_mib() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


class Missing(LookupError):
    """A result was looked for in a store, and is not there."""


@dataclass(frozen=True)
class Store:
    """A folder of results. Every file of a result that is opened is read again and checked.

    made_only: nothing is made in it, what is missing raises Missing.
    """

    root: Path
    made_only: bool = False

    def build(
        self,
        stage: str,
        *,
        revision: int,
        config: dict[str, Any],
        parents: Sequence[Path] = (),
        make: Callable[[Path], None],
    ) -> Path:
        """The folder of a result, made by `make(partial folder)` unless it is already there.

        The key is SHA-256 of (stage, revision, config, keys of the parents); `make` may find in its folder what
        an interrupted call left there. Raises DamagedArtifact where a finished result fails its hashes.
        """
        identity = _identity(stage, revision, config, parents)
        final = self.root / stage / _key(identity)
        if final.exists():
            return check(final)
        if self.made_only:
            raise Missing(f"{final} is not made yet")
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
            files = sorted(p for p in partial.rglob("*") if p.is_file() and p.name != RECORD)
            hashes = {p.relative_to(partial).as_posix(): _sha256(p) for p in files}
            write_json(partial / RECORD, identity | {"cost": cost, "files": hashes})
            partial.replace(final)
        return final


def made(root: Path, use: Callable[[Store], object]) -> bool:
    """Whether all that `use` builds in a store is there already."""
    try:
        use(Store(root, made_only=True))
    except Missing:
        return False
    return True


def check(folder: Path) -> Path:
    """The folder, if every file is what its record says; raises DamagedArtifact naming the first that is not."""
    remedy = f"delete {folder} and run again to make it anew"
    try:
        record = json.loads((folder / RECORD).read_text())
        files: dict[str, str] = dict(record["files"])
        identity = {name: record[name] for name in ("stage", "revision", "config", "parents")}
    except (OSError, ValueError, KeyError, TypeError):
        raise DamagedArtifact(f"{folder / RECORD} is missing or unreadable: {remedy}") from None
    if _key(identity) != folder.name:
        raise DamagedArtifact(f"{folder / RECORD} was changed, it describes another result: {remedy}")
    for name, expected in files.items():
        if not (folder / name).is_file():
            raise DamagedArtifact(f"{folder / name} is missing: {remedy}")
        if _sha256(folder / name) != expected:
            raise DamagedArtifact(f"{folder / name} is truncated or was changed: {remedy}")
    return folder


def record(folder: Path) -> dict[str, Any]:
    """What a finished result is: stage, revision, config, parents, file hashes, and what its last session cost."""
    return json.loads((folder / RECORD).read_text())
