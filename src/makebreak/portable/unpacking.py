"""Unpacking of a portable folder into a store, which may have some of its results already."""

from __future__ import annotations

import io
import re
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from makebreak.portable.folder import PortableFolderError, read_archive
from makebreak.store import OMITTED_FILE, RECORD_FILE, check, omitted_files, write_json

_MEMBER = re.compile(r"(?P<stage>[\w-][\w.-]*)/(?P<key>[0-9a-f]{20})(?P<partial>\.partial)?(/[^/]+)+")


def unpack(folder: Path, root: Path, owner: Mapping[str, Any]) -> int:
    """Unpacks a portable folder into a store; results that the store has are left as they are.

    Weights that the store lacks, because they were omitted earlier, are added. Of two unfinished results of
    one key the one that was written later stays.

    Args:
        folder: The portable folder.
        root: Folder of the store.
        owner: What the folder must belong to.

    Returns:
        Number of finished results in the folder; 0 if it is empty or does not exist.

    Raises:
        PortableFolderError: If the folder, or the archive in it, is damaged, foreign or of another version.
        DamagedArtifact: If a result fails its hashes.
    """
    content = read_archive(folder, owner)
    if content is None:
        return 0
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob(".portable-*"):  # of a process that was killed while it unpacked
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".portable-", dir=root) as temporary:
        try:
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
                members = archive.getmembers()
                for member in members:
                    if not member.isfile() or not _MEMBER.fullmatch(member.name):
                        raise PortableFolderError(f"{folder}: {member.name} is no file of a result")
                archive.extractall(temporary, members, filter="data")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise PortableFolderError(f"{folder}: its archive cannot be unpacked ({error})") from None
        finished = [path.parent for path in Path(temporary).glob(f"*/*/{RECORD_FILE}")]
        for packed in Path(temporary).glob("*/*"):
            _merge(packed, root / packed.relative_to(temporary))
    for path in finished:
        check(root / path.relative_to(temporary))
    return len(finished)


def _merge(packed: Path, final: Path) -> None:
    """Moves an unpacked result to its place in the store."""
    final.parent.mkdir(exist_ok=True)
    with FileLock(final.with_suffix(".lock")):
        if packed.suffix == ".partial":
            if final.with_suffix("").exists() or _modified(final) > _modified(packed):
                return
            if final.exists():
                shutil.rmtree(final)
            packed.rename(final)
        elif not final.exists():
            packed.rename(final)
        else:
            _add_weights(packed, final)


def _add_weights(packed: Path, final: Path) -> None:
    """Moves files into a result that lacks them because they were omitted."""
    missing = {name for name in omitted_files(final) if not (final / name).exists()}
    found = {name for name in missing if (packed / name).exists()}
    for name in found:
        (final / name).parent.mkdir(parents=True, exist_ok=True)
        (packed / name).rename(final / name)
    if found == missing:
        (final / OMITTED_FILE).unlink(missing_ok=True)
    elif found:
        write_json(final / OMITTED_FILE, {"files": sorted(missing - found)})


def _modified(folder: Path) -> float:
    """Time at which the newest file of a folder was written; 0 for none."""
    return max((path.stat().st_mtime for path in folder.rglob("*") if path.is_file()), default=0.0)
