"""A shipped model, opened after its files have been compared with their digests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from makebreak.configs import nearest
from makebreak.errors import InvalidInput, name_errors
from makebreak.model_library.index import ALIGNMENTS, DATA, REINSTALL, organism_names, read_index
from makebreak.store import RECORD_FILE, check, record

if TYPE_CHECKING:
    from makebreak.recipes import Recipe


@dataclass(frozen=True)
class Organism:
    """A trained model of a synthetic world that ships with the package."""

    name: str
    """Name of the model, one of `organism_names`."""
    recipe: Recipe
    """How it was trained; `makebreak.recipes.build` trains it again."""
    folder: Path
    """Hugging Face folder, for `makebreak.models.load_model` or transformers."""
    base: str
    """Name of the base model that it was trained from; its own name for a base."""
    card: str
    """Model card, in Markdown: training, outcome rates, uses and limits."""


def open_organism(name: str) -> Organism:
    """Opens a shipped model; its weights are not loaded.

    Args:
        name: One of `organism_names`.

    Returns:
        The model, all files of which have the digests on record.

    Raises:
        InvalidInput: If there is no model of this name, a file is missing or damaged, or the world of the
            model has changed since.
    """
    if name not in organism_names():
        raise InvalidInput(f"organism {name!r} does not exist; {nearest(str(name), organism_names())}")
    entry, folder, card = read_index()[name], DATA / name, DATA / f"{name}.md"
    from makebreak.recipes.recorded import (
        read_recipe,
    )  # imports torch, which the list of models does not need

    with name_errors(f"organism {name!r}", "a file is missing or damaged", REINSTALL):
        text = _read_verified(card, entry.card)
        _read_verified(folder / RECORD_FILE, entry.record)
        recipe = read_recipe(record(check(folder, any_name=True)))
    if recipe is None:
        raise InvalidInput(
            f"organism {name!r} was trained in another version of its world: expected the version that this "
            "package has; run dev/organisms.py to train it again"
        )
    return Organism(name, recipe, folder, f"{recipe.world}-{ALIGNMENTS[0]}", text.decode())


def _read_verified(path: Path, digest: str) -> bytes:
    """Content of a file; raises ValueError unless it has the digest."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{path} is truncated or was changed")
    return content
