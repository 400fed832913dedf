"""Format of a portable folder: an archive in parts of limited size, with a manifest of their hashes.

FOLDER/manifest.json        version, what the folder belongs to, and the parts with their SHA-256
FOLDER/part-000.HASH.bin    consecutive parts of the archive

The archive is a compressed tar of results. The bytes of weights are transposed in it (first bytes of all
32-bit numbers, then second ones, ...), since exponents resemble one another: this saves a sixth of the size.

New parts are written beside the old ones, then the manifest is replaced, then the old parts are deleted: when
the process is killed in between, one of the two states is whole, and what is left of the other is ignored.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from makebreak.store import write_atomic, write_json

WEIGHTS = ".safetensors"
"""Suffix of the files whose bytes are transposed in the archive."""
VERSION = 1
"""Version of the format."""
MANIFEST = "manifest.json"
"""File that describes the folder."""
MIB = 2**20
"""Bytes of a mebibyte."""
_MANIFEST_BYTES = 64 * 2**10  # kept free for the manifest
_WORD = 4
_PART = re.compile(r"part-\d{3}\.[0-9a-f]{12}\.bin")
_TEMPORARY = re.compile(r"\..+\.\d+\.new")


@dataclass(frozen=True)
class SizeLimits:
    """Largest sizes of a portable folder."""

    total: int = 64 * MIB
    """Bytes of all files together."""
    file: int = 16 * MIB
    """Bytes of one file."""

    @property
    def archive(self) -> int:
        """Bytes of the largest archive that fits."""
        return self.total - _MANIFEST_BYTES

    def __post_init__(self) -> None:
        if not _MANIFEST_BYTES <= self.file <= self.total - _MANIFEST_BYTES:
            raise ValueError(
                f"limits of {self.file} bytes a file and {self.total} in all: expected at least "
                f"{_MANIFEST_BYTES} a file, and as much more in all"
            )


class PortableFolderError(ValueError):
    """A portable folder is damaged, foreign, or cannot be kept within its limits."""


def write_archive(folder: Path, archive: bytes, owner: Mapping[str, Any], limits: SizeLimits) -> int:
    """Writes an archive as a portable folder, whole or not at all; an earlier state is replaced.

    Args:
        folder: The portable folder; it is created if it does not exist.
        archive: Content.
        owner: What the folder belongs to, JSON values.
        limits: Largest sizes.

    Returns:
        Bytes of all files of the folder.

    Raises:
        PortableFolderError: If the folder has foreign files, or the archive is too large.
    """
    check_no_foreign_files(folder)
    if len(archive) > limits.archive:
        raise PortableFolderError(f"{folder}: {len(archive)} bytes exceed the limit of {limits.archive}")
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[dict[str, Any]] = []
    for number, start in enumerate(range(0, len(archive), limits.file)):
        content = archive[start : start + limits.file]
        digest = hashlib.sha256(content).hexdigest()
        parts.append({"name": f"part-{number:03d}.{digest[:12]}.bin", "sha256": digest})
        write_atomic(folder / parts[-1]["name"], content)
    write_json(folder / MANIFEST, {"version": VERSION, "owner": dict(owner), "parts": parts})
    names = {MANIFEST, *(part["name"] for part in parts)}
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()
    return sum(path.stat().st_size for path in folder.iterdir())


def read_archive(folder: Path, owner: Mapping[str, Any]) -> bytes | None:
    """The verified archive of a portable folder.

    Args:
        folder: The portable folder.
        owner: What it must belong to.

    Returns:
        The archive's content; None if the folder is empty or does not exist.

    Raises:
        PortableFolderError: If a part is damaged or missing, a file is foreign, the manifest is unreadable or
            of another version, or the folder belongs to something else; names the file.
    """
    check_no_foreign_files(folder)
    path = folder / MANIFEST
    if not path.exists():
        return None  # nothing was ever packed to its end
    try:
        manifest = json.loads(path.read_text())
        version, parts = manifest["version"], [dict(part) for part in manifest["parts"]]
        packed_owner = manifest["owner"]
    except (ValueError, KeyError, TypeError):
        raise PortableFolderError(f"{path} is unreadable: copy it again, or choose another folder") from None
    if version != VERSION:
        raise PortableFolderError(
            f"{path} is of version {version}, expected {VERSION}: go on with the release that wrote it"
        )
    if packed_owner != dict(owner):
        raise PortableFolderError(
            f"{path} belongs to the run {json.dumps(packed_owner)}, not to {json.dumps(dict(owner))}: choose "
            "another folder"
        )
    content = []
    for part in parts:
        part_path = folder / Path(str(part.get("name"))).name
        if not part_path.is_file():
            raise PortableFolderError(f"{part_path} is missing: copy it again, or choose another folder")
        data = part_path.read_bytes()
        if hashlib.sha256(data).hexdigest() != part.get("sha256"):
            raise PortableFolderError(f"{part_path} is damaged: copy it again, or choose another folder")
        content.append(data)
    return b"".join(content)


def check_no_foreign_files(folder: Path) -> None:
    """Checks that a folder holds nothing but files of a portable folder.

    Args:
        folder: The folder; it need not exist.

    Raises:
        PortableFolderError: For any other file; names it.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        known = path.name == MANIFEST or _PART.fullmatch(path.name) or _TEMPORARY.fullmatch(path.name)
        if not known or path.is_symlink() or not path.is_file():
            raise PortableFolderError(
                f"{path} is no file of a portable folder: choose an empty folder, or one that "
                "--portable wrote"
            )


def transpose_bytes(content: bytes) -> bytes:
    """Content with the first bytes of all 32-bit words first, then the second ones, and so on.

    Args:
        content: Any bytes.

    Returns:
        As many bytes; what is left of the last word stays at the end.
    """
    n = len(content) // _WORD * _WORD
    words = np.frombuffer(content[:n], np.uint8).reshape(-1, _WORD)
    return words.T.tobytes() + content[n:]


def restore_bytes(content: bytes) -> bytes:
    """Inverse of `transpose_bytes`.

    Args:
        content: Any bytes.

    Returns:
        As many bytes.
    """
    n = len(content) // _WORD * _WORD
    words = np.frombuffer(content[:n], np.uint8).reshape(_WORD, -1)
    return words.T.tobytes() + content[n:]
