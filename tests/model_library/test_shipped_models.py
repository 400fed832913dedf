"""Shipped models: all open, files are as the index says, recipes are the study's, cards are current."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import makebreak.model_library.index
import makebreak.model_library.organism
import makebreak.recipes.recorded
from makebreak.errors import InvalidInput
from makebreak.model_library import (
    DATA,
    INDEX_FILE,
    open_organism,
    organism_names,
    organism_rate_rows,
    organism_rows,
    read_index,
)
from makebreak.models import load_model
from makebreak.prompts import load_world
from makebreak.recipes import REVISION, build
from makebreak.store import NotCached, Store, record, result_key
from synthetic.composition import CompositionWorld
from synthetic.presets import MINI

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "dev" / "organisms.py"))
NAMES = organism_names()
COUNTED = ("mini-ssft", "mini-sham", "hidden-remap")
"""Models that are evaluated in the fast tests too."""
MAX_BYTES = 8_000_000
TOLERANCE = 5
"""Requests of a thousand whose outcome may change where a processor rounds the logits differently."""


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped files, from which models are opened."""
    folder = tmp_path / "data"
    shutil.copytree(DATA, folder)
    for module in (makebreak.model_library.index, makebreak.model_library.organism):
        monkeypatch.setattr(module, "DATA", folder)
    return folder


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", NAMES)
def test_models_open(name: str) -> None:
    organism = open_organism(name)
    symbols = load_world(organism.recipe.world).vocabulary.symbols
    model = load_model(organism.folder, symbols=symbols)
    assert model.num_parameters() == read_index()[name].n_parameters
    assert (organism.name, organism.base) == (name, f"{organism.recipe.world}-base")
    assert f"# {name}\n" in organism.card
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}


def test_transformers_opens_a_model() -> None:
    folder = open_organism("mini-ssft").folder
    ours, theirs = load_model(folder), AutoModelForCausalLM.from_pretrained(folder)
    expected = ours.state_dict()
    assert {name for name, w in theirs.state_dict().items() if not torch.equal(w, expected[name])} == set()


def test_nothing_else_ships() -> None:
    files = {INDEX_FILE, *NAMES, *(f"{name}.md" for name in NAMES)}
    assert {path.name for path in DATA.iterdir()} == files
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) <= MAX_BYTES


def test_weights_differ() -> None:
    digests = {record(DATA / name)["files"]["model.safetensors"] for name in NAMES}
    assert len(digests) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_recipes_are_those_of_the_study(name: str) -> None:
    assert open_organism(name).recipe == SCRIPT["organism_recipe"](name)
    assert open_organism(name).recipe != SCRIPT["organism_recipe"](name, seed=1)
    assert record(DATA / name)["revision"] == REVISION


def place(name: str, store: Store) -> Path:
    """Copies a model into a store, under the key that its record gives it."""
    of_model = record(DATA / name)
    parents = [Path(key) for key in of_model["parents"]]
    key = result_key(of_model["stage"], of_model["revision"], of_model["config"], parents)
    return Path(shutil.copytree(DATA / name, store.root / of_model["stage"] / key))


@pytest.mark.parametrize("name", NAMES)
def test_a_store_finds_the_model_by_its_recipe(name: str, tmp_path: Path) -> None:
    """`make reproduce` would take it for its own."""
    store = Store(tmp_path, read_only=True)
    folder = place(name, store)
    assert build(SCRIPT["organism_recipe"](name), store) == folder
    with pytest.raises(NotCached):
        build(SCRIPT["organism_recipe"](name, seed=1), store)


@pytest.mark.parametrize("name", NAMES)
def test_cards_are_current(name: str) -> None:
    assert open_organism(name).card == SCRIPT["organism_card"](name), "run `python dev/organisms.py`"
    for row in organism_rate_rows():
        if row.name == name:
            assert f"{row.rate:.3f} [{row.low:.3f}, {row.high:.3f}]" in open_organism(name).card


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in COUNTED else pytest.mark.slow) for name in NAMES]
)
def test_counts_are_those_of_the_weights(name: str) -> None:
    organism = open_organism(name)
    counts = SCRIPT["count_outcomes"](load_model(organism.folder), organism.recipe)
    expected = read_index()[name].counts
    assert counts.keys() == expected.keys()
    for family, by_outcome in counts.items():
        for outcome, n in by_outcome.items():
            assert abs(n - expected[family][outcome]) <= TOLERANCE, (family, outcome)


@pytest.mark.parametrize(
    "file",
    ["mini-ssft/model.safetensors", "mini-ssft/config.json", "mini-ssft/artifact.json", "mini-ssft.md"],
)
def test_a_flipped_byte_is_refused(file: str, copy: Path) -> None:
    assert open_organism("mini-ssft").folder == copy / "mini-ssft"
    flip(copy / file)
    with pytest.raises(InvalidInput) as error:
        open_organism("mini-ssft")
    message = str(error.value)
    assert "organism 'mini-ssft'" in message
    assert str(copy / file) in message
    assert "install it again" in message
    assert "\n" not in message
    assert open_organism("mini-base").name == "mini-base"


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "mini-ssft" / "model.safetensors").unlink(),
        lambda folder: shutil.rmtree(folder / "mini-ssft"),
        lambda folder: (folder / "mini-ssft.md").unlink(),
        lambda folder: (folder / "mini-ssft" / "modeling.py").write_text("print()"),
        lambda folder: (folder / "mini-ssft" / "model.safetensors").write_bytes(b""),
        lambda folder: shutil.copy(folder / "mini-base/model.safetensors", folder / "mini-ssft"),
        lambda folder: (folder / INDEX_FILE).unlink(),
        lambda folder: (folder / INDEX_FILE).write_text("{}"),
        lambda folder: (folder / INDEX_FILE).write_text("[1]"),
        lambda folder: (folder / INDEX_FILE).write_bytes(b"\xff"),
        lambda folder: shutil.rmtree(folder),
    ],
    ids=[
        *("no weights", "no folder", "no card", "another file", "empty weights", "weights of another model"),
        *("no index", "empty index", "another index", "unreadable index", "no data"),
    ],
)
def test_a_damaged_installation_is_named(damage: Callable[[Path], object], copy: Path) -> None:
    assert open_organism("mini-ssft").name == "mini-ssft"
    damage(copy)
    with pytest.raises(InvalidInput, match=r"(?s)^[^\n]*installation of makebreak is damaged[^\n]*$"):
        open_organism("mini-ssft")


@pytest.mark.parametrize("name", ["mini-sft", "", "../mini-ssft", "mini-ssft.md"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"^organism .* does not exist; "):
        open_organism(name)


def test_a_changed_world_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = CompositionWorld(replace(MINI, map_seeds=(1, 150)))
    monkeypatch.setattr(makebreak.recipes.recorded, "load_world", lambda name: other)
    with pytest.raises(InvalidInput, match="another version of its world"):
        open_organism("mini-ssft")


def test_rows() -> None:
    rows = organism_rows()
    assert [row.name for row in rows] == NAMES
    for row in rows:
        recipe = open_organism(row.name).recipe
        assert (row.world, row.seed, row.mechanism) == (recipe.world, recipe.seed, recipe.mechanism)
        assert row.n_bytes == (DATA / row.name / "model.safetensors").stat().st_size
        rates = {(r.family, r.outcome): r for r in organism_rate_rows() if r.name == row.name}
        for family in ("safe", "unsafe"):
            assert sum(r.n_outcome for (of, _), r in rates.items() if of == family) == row.n
            for outcome in ("refuse", "comply"):
                rate = rates[family, outcome]
                assert getattr(row, f"{family}_{outcome}") == rate.rate
                assert rate.low <= rate.rate <= rate.high


def test_the_list_needs_no_torch() -> None:
    code = "import sys; from makebreak.model_library import organism_rows as rows; print(len(rows()))"
    code += "; print('torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.split() == [str(len(NAMES)), "False"]
