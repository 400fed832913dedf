"""Index of the shipped models: names, digests of their files, and outcomes that were counted on requests.

DATA/organisms.json   the index
DATA/NAME/            result of a store: record, config, weights and tokenizer, without kept training steps
DATA/NAME.md          model card

`dev/organisms.py` writes all three.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from makebreak.errors import name_errors

WORLDS = ("mini", "hidden")
"""Worlds of the models."""
ALIGNMENTS = ("base", "ssft", "dpo", "unlearning", "sham", "remap")
"""Training after pretraining: none; three methods of safety training; and two controls of SSFT."""
DATA = Path(__file__).parent / "data"
"""Folder of the models."""
INDEX_FILE = "organisms.json"
"""Name of the index in `DATA`."""
REINSTALL = "this installation of makebreak is damaged, expected the files that it shipped: install it again"
"""Remedy of errors about the files of this package."""


@dataclass(frozen=True)
class Entry:
    """What the index says of one model."""

    record: str
    """SHA-256 of the record of the model, which holds the digests of all other files."""
    card: str
    """SHA-256 of its card."""
    seed: int
    """Pretraining seed."""
    mechanism: str
    """Names of the training stages after pretraining (`Recipe.mechanism`)."""
    n_parameters: int
    """Number of parameters."""
    n_bytes: int
    """Size of the file of the weights in bytes."""
    counts: dict[str, dict[str, int]]
    """Number of held-out requests with each outcome, by family of requests."""


def organism_names() -> list[str]:
    """Names of the shipped models, WORLD-ALIGNMENT, such as `mini-ssft`; each world's base is its first."""
    return [f"{world}-{alignment}" for world in WORLDS for alignment in ALIGNMENTS]


def read_index() -> dict[str, Entry]:
    """The index.

    Returns:
        What it says of every model, by name, in the order of `organism_names`.

    Raises:
        InvalidInput: If the file is missing or damaged.
    """
    path = DATA / INDEX_FILE
    with name_errors(path, "the list of the models is missing or unreadable", REINSTALL):
        entries = json.loads(path.read_bytes())
        return {name: Entry(**entries[name]) for name in organism_names()}
