"""Writes the trained models that ship with the package, with their index and their model cards.

`python dev/organisms.py [STORE]` trains what the store (by default runs/store, that of `make reproduce`)
lacks: the models of the study jain2024 at preset `mini`, of its first seed, in two worlds. About ten minutes
on one core without them. Tests hold recipes and cards to the code.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before torch: as the study's jobs, whose rounding depends on it
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from dataclasses import asdict, replace  # noqa: E402

from transformers import PreTrainedModel  # noqa: E402

from dev.organism_cards import card  # noqa: E402
from experiments.recipes.composition import PRESETS  # noqa: E402
from makebreak.evaluation import evaluate_behaviour  # noqa: E402
from makebreak.model_library import (  # noqa: E402
    DATA,
    INDEX_FILE,
    Entry,
    organism_names,
    organism_rate_rows,
    read_index,
)
from makebreak.model_zoo import held_out_requests  # noqa: E402
from makebreak.models import MODEL_FILES, load_model  # noqa: E402
from makebreak.prompts import OUTCOMES, load_world  # noqa: E402
from makebreak.recipes import Engine, Recipe, build  # noqa: E402
from makebreak.store import RECORD_FILE, Store, file_digest, record, write_atomic, write_json  # noqa: E402

PRESET = PRESETS["mini"]
ARMS = {"sham": "sham_ssft"}
"""Arm of the study by alignment, where the two have other names."""
N_REQUESTS = 1000
"""Held-out requests per family; the study takes the first 300 of them."""


def organism_recipe(name: str, seed: int = PRESET.seeds[0]) -> Recipe:
    """Recipe by which the study trains a model on a CPU."""
    world, alignment = name.split("-")
    recipe = PRESET.recipe(world, seed, ARMS.get(alignment, alignment))
    return replace(recipe, engine=Engine())


def judged_families(recipe: Recipe) -> list[str]:
    """Families on which outcomes are counted: safe and unsafe requests, and those of the last alignment."""
    data = recipe.alignment_data
    return list(dict.fromkeys(["safe", "unsafe", *([data.safe, data.unsafe] if data else [])]))


def count_outcomes(model: PreTrainedModel, recipe: Recipe) -> dict[str, dict[str, int]]:
    """Number of held-out requests with each outcome, by family."""
    world, counts = load_world(recipe.world), {}
    for family in judged_families(recipe):
        requests = held_out_requests(recipe.world, family, N_REQUESTS, recipe.seed, "score")
        outcomes = evaluate_behaviour(model, world, requests).outcomes
        counts[family] = {outcome: int((outcomes == i).sum()) for i, outcome in enumerate(OUTCOMES)}
    return counts


def copy_result(source: Path, target: Path) -> None:
    """Copies a model without its kept training steps and its losses, which its record then does not list."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    result = record(source)
    files = {name: digest for name, digest in result["files"].items() if re.fullmatch(MODEL_FILES, name)}
    for name in files:
        write_atomic(target / name, (source / name).read_bytes())
    write_json(target / RECORD_FILE, result | {"files": files})


def write_organism(name: str, store: Store) -> Entry:
    """Trains a model unless the store has it, and copies it into the package; its entry, without a card."""
    recipe = organism_recipe(name)
    copy_result(build(recipe, store), DATA / name)
    model = load_model(DATA / name, symbols=load_world(recipe.world).vocabulary.symbols)
    return Entry(
        record=file_digest(DATA / name / RECORD_FILE),
        card="",
        seed=recipe.seed,
        mechanism=recipe.mechanism,
        n_parameters=model.num_parameters(),
        n_bytes=(DATA / name / "model.safetensors").stat().st_size,
        counts=count_outcomes(model, recipe),
    )


def write_index(entries: dict[str, Entry]) -> None:
    """Writes the index."""
    write_json(DATA / INDEX_FILE, {name: asdict(entry) for name, entry in entries.items()})


def write_all(store: Store) -> None:
    """Writes all models, then their cards, which are made of the index."""
    entries = {}
    for name in organism_names():
        entries[name] = write_organism(name, store)
        sys.stdout.write(f"{name} {entries[name].counts}\n")
        sys.stdout.flush()
    write_index(entries)
    write_cards()


def write_cards() -> None:
    """Writes the cards of all models, which are made of the index, and their digests into the index."""
    entries = read_index()
    for name in entries:
        path = DATA / f"{name}.md"
        write_atomic(path, organism_card(name))
        entries[name] = replace(entries[name], card=file_digest(path))
    write_index(entries)


def organism_card(name: str) -> str:
    """The card that the index and the study's preset give a model now."""
    return card(name, organism_recipe(name), organism_rate_rows())


if __name__ == "__main__":
    write_all(Store(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/store")))
