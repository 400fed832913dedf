"""A store of results: each in one folder, written whole or not at all, under a key of all that it depends on.

STORE/stage/key/            finished: artifact.json (what the result is, hashes of its files) and the files
STORE/stage/key.partial/    unfinished: checkpoints, from which an interrupted stage resumes
STORE/stage/key.lock        lets two processes that want the same result compute it once

What is verified when: a result's files, weights included, are compared with their hashes when a process opens
the result for the first time, and again once the size, the time or the inode of one of them has changed. A
file that was omitted on purpose (`omitted.json` names it, see `makebreak.portable`) may be absent: the result
counts as computed, its key and its other files can be used, and opening the file is an error with a remedy.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from makebreak import budget

RECORD_FILE = "artifact.json"
"""File of a finished result that holds what the result is and the hashes of its files."""
OMITTED_FILE = "omitted.json"
"""File of a finished result that lists those of its files that were left out when it was carried here."""
TABLES = "tables"
"""Folder of a run's tables, within its output folder."""
OUTPUT_NAMES = ("claims.json", "provenance.json", "report.html")
"""Files that a run writes directly into its output folder."""
_RACY_NS = 100_000_000  # a file written this shortly before it was read may change without a new time
_MAX_RECORDS = 50  # records of a stage that an estimate of its duration is read from
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


def remove_torn_files_below(folder: Path) -> None:
    """Delete the temporary files that a killed `write_atomic` left in a folder and in its real subfolders."""
    for subfolder, _, _ in os.walk(folder, followlinks=False):
        for path in _torn_files(Path(subfolder)):
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
    """A result is not in a store that is read only.

    Args:
        folder: Folder of the missing result.
        parents: Folders of the results that it is made from.
    """

    def __init__(self, folder: Path, parents: Sequence[Path]) -> None:
        super().__init__(f"{folder} is not in the store, which is opened read only")
        self.folder, self.parents = folder, tuple(parents)


@dataclass(frozen=True)
class Store:
    """A folder of results, which are verified when they are opened (see the module)."""

    root: Path
    """Folder of the store."""
    read_only: bool = False
    """Whether a missing result raises NotCached instead of being computed."""
    opened: list[Path] = field(default_factory=list, compare=False, repr=False)
    """Folders of the results that were opened by `build`, in their order."""

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
            OutOfTime: If the result is not there and does not fit into the time budget (`makebreak.budget`).
        """
        identity = _identity(stage, revision, config, parents)
        final = self.root / stage / _key(identity)
        if final.exists():
            self.opened.append(final)
            return check(final)
        if self.read_only:
            raise NotCached(final, parents)
        final.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(final.with_suffix(".lock")):
            if final.exists():
                return check(final)
            partial = final.with_suffix(".partial")
            if partial.is_symlink():
                raise DamagedArtifact(f"{partial} is a symbolic link, not a folder: delete it and run again")
            kind = _kind(identity)
            budget.check_fits(kind, lambda: _recorded_seconds(final.parent, kind))
            is_new = not partial.exists()
            partial.mkdir(exist_ok=True)
            remove_torn_files_below(partial)
            started = time.monotonic()
            make(partial)
            seconds = time.monotonic() - started
            if is_new:  # the rest of an interrupted computation says too little
                budget.add_duration(kind, seconds)
            cost = {"seconds": round(seconds, 2), "process_peak_mib": _peak_mib()}
            files = sorted(p for p in partial.rglob("*") if p.is_file() and p.name != RECORD_FILE)
            hashes = {p.relative_to(partial).as_posix(): _sha256(p) for p in files}
            write_json(partial / RECORD_FILE, identity | {"cost": cost, "files": hashes})
            partial.replace(final)
        self.opened.append(final)
        return final


class DryRun(NamedTuple):
    """Results that a function opens in a store, up to the first one that is missing."""

    opened: tuple[Path, ...]
    """Folders of the results that are there, each once."""
    missing: Path | None
    """Folder of the first missing result; None if there is none."""
    parents: tuple[Path, ...]
    """Folders of the results that the missing one is made from."""


def dry_run(root: Path, compute: Callable[[Store], object]) -> DryRun:
    """Results that a function would open; nothing is computed.

    Args:
        root: Folder of the store.
        compute: Builds results in the store that it is given.

    Returns:
        What is there, and what is missing first.
    """
    store = Store(root, read_only=True)
    missing, parents = None, ()
    try:
        compute(store)
    except NotCached as error:
        missing, parents = error.folder, error.parents
    return DryRun(tuple(dict.fromkeys(store.opened)), missing, parents)


def is_cached(root: Path, compute: Callable[[Store], object]) -> bool:
    """Whether all results that a function builds are in a store already.

    Args:
        root: Folder of the store.
        compute: Builds results in the store that it is given.

    Returns:
        False if one of them is missing; nothing is computed.
    """
    return dry_run(root, compute).missing is None


def _kind(identity: dict[str, Any]) -> str:
    """Results that are expected to take the same time: of one stage, and of one model and engine if named."""
    parts = [identity["config"][name] for name in ("model", "engine") if name in identity["config"]]
    return " ".join([identity["stage"], *(json.dumps(part, sort_keys=True) for part in parts)])


def _recorded_seconds(stage: Path, kind: str) -> Iterator[float]:
    """Costs on record of results of a kind, the latest of them, in seconds."""
    records = [path for path in stage.glob(f"*/{RECORD_FILE}") if path.is_file()]
    latest = sorted(records, key=lambda path: path.stat().st_mtime)[-_MAX_RECORDS:]
    for path in latest:
        try:
            result = record(path.parent)
            is_kind, seconds = _kind(result) == kind, float(result["cost"]["seconds"])
        except (OSError, ValueError, LookupError, TypeError):
            continue  # a damaged record is named when its result is opened
        if is_kind:
            yield seconds


_verified: dict[Path, frozenset[tuple[str, int, int, int]]] = {}
"""State of the files of the results that this process has verified."""


def check(folder: Path) -> Path:
    """The folder of a finished result, if every file is what its record says.

    Args:
        folder: Folder of a finished result.

    Returns:
        The same folder.

    Raises:
        DamagedArtifact: If the record is missing, or describes another result, or a file differs or is
            missing without having been omitted on purpose; names the first one.
    """
    state = _verified.get(folder)
    if state is not None and state == _file_state(folder, [name for name, *_ in state]):
        return folder
    remedy = f"delete {folder} and run again to compute it anew"
    try:
        result = record(folder)
        files: dict[str, str] = dict(result["files"])
        identity = {name: result[name] for name in ("stage", "revision", "config", "parents")}
    except (OSError, ValueError, KeyError, TypeError):
        raise DamagedArtifact(f"{folder / RECORD_FILE} is missing or unreadable: {remedy}") from None
    if _key(identity) != folder.name:
        raise DamagedArtifact(f"{folder / RECORD_FILE} was changed, it describes another result: {remedy}")
    names = [RECORD_FILE, OMITTED_FILE, *files]
    before, now = _file_state(folder, names), time.time_ns()
    omitted = omitted_files(folder)
    for name, expected in files.items():
        if not (folder / name).is_file():
            if name in omitted:
                continue
            raise DamagedArtifact(f"{folder / name} is missing: {remedy}")
        if _sha256(folder / name) != expected:
            raise DamagedArtifact(f"{folder / name} is truncated or was changed: {remedy}")
    if all(modified < now - _RACY_NS for _, _, modified, _ in before):
        _verified[folder] = before
    return folder


def _file_state(folder: Path, names: Sequence[str]) -> frozenset[tuple[str, int, int, int]]:
    """Name, size, time of modification and inode of files; a missing file has the size -1."""
    states = []
    for name in names:
        try:
            status = os.stat(f"{folder}/{name}")
            states.append((name, status.st_size, status.st_mtime_ns, status.st_ino))
        except OSError:
            states.append((name, -1, 0, 0))
    return frozenset(states)


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
        return frozenset(map(str, json.loads(path.read_text())["files"]))
    except (ValueError, KeyError, TypeError):
        remedy = f"delete {folder} and run again to compute it anew"
        raise DamagedArtifact(f"{path} is unreadable: {remedy}") from None


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


def record(folder: Path) -> dict[str, Any]:
    """Record of a finished result: what it is, hashes of its files, and the cost of its last session."""
    return json.loads((folder / RECORD_FILE).read_text())
