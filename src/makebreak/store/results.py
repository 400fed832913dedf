"""Results of a store: each computed once, written whole or not at all, and verified when it is opened."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from makebreak import budget
from makebreak.store.checks import RECORD_FILE, DamagedArtifact, check, record, walk
from makebreak.store.files import create_folders, file_digest, write_json
from makebreak.store.keys import identity, identity_key
from makebreak.store.locks import lock
from makebreak.store.unfinished import check_rewritten, follow_umask, open_unfinished

_MAX_RECORDS = 50  # records of a stage that an estimate of its duration is read from


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
        files: str | None = None,
    ) -> Path:
        """The folder of a result, which is computed unless it is already there.

        Args:
            stage: Kind of the result, which names the folder above it.
            revision: Revision of the code that makes it; raised when its results change.
            config: Settings of the result, JSON values.
            parents: Folders of the results that it is made from.
            make: Writes the result into the folder that it is given, which holds what an interrupted call
                left there.
            files: Regular expression of the paths that `make` writes below the folder; others in an
                unfinished result are refused, and files directly in the folder have to be written in the call
                that finishes the result. None for any.

        Returns:
            The folder of the finished result, named by `result_key`.

        Raises:
            DamagedArtifact: If a finished result fails its checks, the folder of its stage is a symbolic
                link, or something in its unfinished folder is not of this program.
            NotCached: If the store is read only and the result is not there.
            OutOfTime: If the result is not there and does not fit into the time budget (`makebreak.budget`).
        """
        about = identity(stage, revision, config, parents)
        final = self.root / stage / identity_key(about)
        if final.exists() or final.is_symlink():
            self.opened.append(final)
            return check(final)
        if self.read_only:
            raise NotCached(final, parents)
        if final.parent.is_symlink():
            raise DamagedArtifact(
                f"{final.parent} is a symbolic link, which is not followed: remove it, or give the store "
                "that it leads to"
            )
        with create_folders(final.parent), lock(final):
            if final.exists():
                self.opened.append(final)
                return check(final)
            partial = final.with_suffix(".partial")
            kind = _kind(about)
            budget.check_fits(kind, lambda: _recorded_seconds(final.parent, kind))
            is_new = not partial.exists()
            before = open_unfinished(partial, files)
            started = time.monotonic()
            try:
                make(partial)
            except BaseException:
                with suppress(OSError):  # something was written, from which the same call goes on
                    partial.rmdir()
                raise
            seconds = time.monotonic() - started
            if is_new:  # the rest of an interrupted computation says too little
                budget.add_duration(kind, seconds)
            if files is not None:
                check_rewritten(partial, before)
            cost = {"seconds": round(seconds, 2), "process_peak_mib": _peak_mib()}
            write_json(partial / RECORD_FILE, about | {"cost": cost, "files": _hashes(partial)})
            follow_umask(partial, like=partial / RECORD_FILE)
            partial.replace(final)
        self.opened.append(final)
        return final


def _hashes(folder: Path) -> dict[str, str]:
    """Hashes of the files of a result, by path; raises DamagedArtifact for what is no regular file."""
    hashes = {}
    for name, entry in sorted(walk(folder), key=lambda pair: pair[0]):
        if not entry.is_file(follow_symlinks=False):
            raise DamagedArtifact(f"{folder / name} is no regular file: delete it and run again")
        if name != RECORD_FILE:
            hashes[name] = file_digest(entry.path)
    return hashes


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


def _kind(about: dict[str, Any]) -> str:
    """Results that are expected to take the same time: of one stage, and of one model and engine if named."""
    parts = [about["config"][name] for name in ("model", "engine") if name in about["config"]]
    return " ".join([about["stage"], *(json.dumps(part, sort_keys=True) for part in parts)])


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
