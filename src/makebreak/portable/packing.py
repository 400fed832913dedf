"""Packing of the unfinished part of a store into a portable folder.

A finished result is carried with its record and its rows; weights (`*.safetensors`) only where `Selection`
says that something still needs them. A result without some of its weights has a list of them in
`omitted.json`, so that its key and its rows can be used (see `makebreak.store`).
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from makebreak.portable.folder import (
    MIB,
    WEIGHTS,
    PortableFolderError,
    SizeLimits,
    check_no_foreign_files,
    transpose_bytes,
    write_archive,
)
from makebreak.store import OMITTED_FILE, RECORD_FILE, omitted_files, record


class Selection(NamedTuple):
    """Results that a run elsewhere needs; folders of the store."""

    results: Sequence[Path]
    """Finished results: their records and rows."""
    weights: frozenset[Path]
    """Those of them whose final weights something still needs."""
    steps: frozenset[Path]
    """Those of them whose kept training steps something still needs."""
    unfinished: Sequence[Path]
    """Unfinished results, with all their files."""


class Packing(NamedTuple):
    """What was written into a portable folder."""

    size: int
    """Bytes of all files."""
    left_out: tuple[Path, ...]
    """Unfinished results that the limits left no room for, and that begin again elsewhere."""


def pack(
    root: Path,
    folder: Path,
    selection: Selection,
    owner: Mapping[str, Any],
    limits: SizeLimits,
) -> Packing:
    """Packs results into a portable folder, whole or not at all; an earlier state is replaced.

    Args:
        root: Folder of the store.
        folder: The portable folder; it is created if it does not exist.
        selection: What is carried.
        owner: What the folder belongs to, JSON values; `unpack` refuses the folder of another owner.
        limits: Largest sizes. If unfinished results do not fit, the largest ones are left out.

    Returns:
        Size of the folder, and what was left out.

    Raises:
        PortableFolderError: If finished results alone exceed the limits, or the folder has foreign files.
    """
    check_no_foreign_files(folder)
    left_out: list[Path] = []
    unfinished = sorted(selection.unfinished, key=_size)
    archive = _archive(root, selection, unfinished)
    while len(archive) > limits.archive:
        if not unfinished:
            raise PortableFolderError(_too_large(folder, selection, len(archive), limits))
        left_out.append(unfinished.pop())
        archive = _archive(root, selection, unfinished)
    return Packing(write_archive(folder, archive, owner, limits), tuple(left_out))


def _archive(root: Path, selection: Selection, partials: Sequence[Path]) -> bytes:
    """A compressed tar archive of results."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as archive:
        for result in selection.results:
            omitted = _omitted(result, selection)
            for name in sorted({RECORD_FILE, *record(result)["files"]} - omitted):
                _add(archive, result / name, f"{result.relative_to(root).as_posix()}/{name}")
            if omitted:
                content = json.dumps({"files": sorted(omitted)}).encode()
                entry = tarfile.TarInfo(f"{result.relative_to(root).as_posix()}/{OMITTED_FILE}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        for result in partials:
            for path in sorted(p for p in result.rglob("*") if p.is_file() and not p.is_symlink()):
                _add(archive, path, path.relative_to(root).as_posix())
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    content = path.read_bytes()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = len(content), int(path.stat().st_mtime)
    archive.addfile(entry, io.BytesIO(transpose_bytes(content) if name.endswith(WEIGHTS) else content))


def _omitted(result: Path, selection: Selection) -> set[str]:
    """Files of a finished result that are not carried: weights that nothing needs, or that are not here."""
    omitted = {name for name in omitted_files(result) if not (result / name).exists()}
    for name in record(result)["files"]:
        needed = selection.steps if "/" in name else selection.weights
        if name.endswith(WEIGHTS) and result not in needed:
            omitted.add(name)
    return omitted


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _too_large(folder: Path, selection: Selection, size: int, limits: SizeLimits) -> str:
    needed = len(selection.weights | selection.steps)
    return (
        f"{folder}: {len(selection.results)} results, {needed} of them with weights that are still needed, "
        f"take {size / MIB:.1f} MiB, and the limit is {limits.total / MIB:.0f} MiB: the folder was left as "
        "it was; raise --portable-mib, or run fewer seeds at a time"
    )
