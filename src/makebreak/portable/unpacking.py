"""Unpacking of a portable folder into a store, which may have some of its results already."""

from __future__ import annotations

import io
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from makebreak.portable.folder import WEIGHTS, PortableFolderError, read_archive, restore_bytes
from makebreak.store import OMITTED_FILE, RECORD_FILE, check, lock, omitted_files, write_json

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
                    is_result = _MEMBER.fullmatch(member.name) and ".." not in member.name.split("/")
                    if not member.isfile() or not is_result:
                        raise PortableFolderError(f"{folder}: {member.name} is no file of a result")
                archive.extractall(temporary, members, filter="data")
            for path in Path(temporary).rglob(f"*{WEIGHTS}"):
                time = path.stat().st_mtime
                path.write_bytes(restore_bytes(path.read_bytes()))
                os.utime(path, (time, time))
        except (tarfile.TarError, EOFError, OSError) as error:
            raise PortableFolderError(f"{folder}: its archive cannot be unpacked ({error})") from None
        finished = [path.parent for path in Path(temporary).glob(f"*/*/{RECORD_FILE}")]
        for source in Path(temporary).glob("*/*"):
            _merge(source, root / source.relative_to(temporary))
    for path in finished:
        check(root / path.relative_to(temporary))
    return len(finished)


def _merge(source: Path, final: Path) -> None:
    """Moves an unpacked result to its place in the store."""
    final.parent.mkdir(exist_ok=True)
    with lock(final):
        if source.suffix == ".partial":
            if final.with_suffix("").exists() or _modified(final) > _modified(source):
                return
            if final.exists():
                shutil.rmtree(final)
            source.rename(final)
        elif not final.exists():
            source.rename(final)
        else:
            _add_weights(source, final)


def _add_weights(source: Path, final: Path) -> None:
    """Moves files into a result that lacks them because they were omitted."""
    missing = {name for name in omitted_files(final) if not (final / name).exists()}
    names = {name for name in missing if (source / name).exists()}
    for name in names:
        (final / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).rename(final / name)
    if names == missing:
        (final / OMITTED_FILE).unlink(missing_ok=True)
    elif names:
        write_json(final / OMITTED_FILE, {"files": sorted(missing - names)})


def _modified(folder: Path) -> float:
    """Time at which the newest file of a folder was written; 0 for none."""
    return max((path.stat().st_mtime for path in folder.rglob("*") if path.is_file()), default=0.0)
