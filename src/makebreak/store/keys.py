"""Keys of results: hashes of all that a result depends on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

KEY_PATTERN = re.compile(r"[0-9a-f]{20}")
"""Form of a key, which is the name of a finished result's folder."""

_ENCODER = json.JSONEncoder(sort_keys=True, allow_nan=False)


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
    return identity_key(identity(stage, revision, config, parents))


def identity(stage: str, revision: int, config: dict[str, Any], parents: Sequence[Path]) -> dict[str, Any]:
    """The part of a record that a key is the hash of."""
    return {"stage": stage, "revision": revision, "config": config, "parents": [p.name for p in parents]}


def identity_key(record: Mapping[str, Any]) -> str:
    """The key of a record; raises KeyError if a part is missing."""
    parts = {name: record[name] for name in ("stage", "revision", "config", "parents")}
    return hashlib.sha256(_ENCODER.encode(parts).encode()).hexdigest()[:20]
