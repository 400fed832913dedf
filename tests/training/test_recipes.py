"""Building of recipes: what is missing is trained, parents first, once, and without output."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import makebreak.recipes.building
from makebreak.configs import from_json
from makebreak.models import MODEL_SIZES, load_model
from makebreak.prompts import load_world
from makebreak.recipes import Alignment, Recipe, build
from makebreak.store import DamagedArtifact, Store, record
from makebreak.training import DPO, SSFT, AlignmentData, Optimisation, Pretraining, Unlearning, train
from synthetic import CompositionWorld
from synthetic.presets import MINI

STEPS = Optimisation(3, 1e-2, batch_size=4)
RECIPE = Recipe("mini", MODEL_SIZES["tiny"], Pretraining(), STEPS, (Alignment(SSFT(), STEPS),), 1000)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def recipe_of(folder: Path) -> Recipe:
    config = record(folder)["config"]
    assert config.pop("world_is") == load_world("mini").fingerprint
    return from_json(Recipe, config)


def same(one: Path, other: Path) -> bool:
    return all(torch.equal(tensor, weights(other)[name]) for name, tensor in weights(one).items())


def state(root: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in root.rglob("*")}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def run_labels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The labels of all runs."""
    labels: list[str] = []

    def recording_train(*args):
        labels.append(args[-1].label)
        return train(*args)

    monkeypatch.setattr(makebreak.recipes.building, "train", recording_train)
    return labels


def test_base_first_then_aligned_and_nothing_twice(store: Store, run_labels: list[str], capfd) -> None:
    capfd.readouterr()
    aligned = build(RECIPE, store)
    assert run_labels == ["seed 1000 pretraining", "seed 1000 ssft"]
    before = state(store.root)
    assert build(RECIPE, store) == aligned
    base = build(RECIPE.parent, store)
    assert state(store.root) == before, "the second call writes nothing"
    assert len(run_labels) == 2
    assert record(aligned)["parents"] == [base.name]
    assert record(aligned)["stage"] == "alignment"
    assert (base.parent.name, record(base)["parents"]) == ("pretraining", [])
    assert recipe_of(aligned) == RECIPE
    assert recipe_of(base) == RECIPE.parent
    world = load_world("mini")
    for folder in (base, aligned):
        assert load_model(folder, symbols=world.vocabulary.symbols).config.vocab_size == len(world.vocabulary)
    assert not same(base, aligned)
    out, err = capfd.readouterr()
    assert (out, err) == ("", ""), "no bar without a terminal"


def test_objectives_share_their_base(store: Store, run_labels: list[str]) -> None:
    objectives = [SSFT(), DPO(), Unlearning(), SSFT(AlignmentData("sham_safe", "sham_unsafe"))]
    folders = [build(replace(RECIPE, alignments=(Alignment(o, STEPS),)), store) for o in objectives]
    assert run_labels == [
        "seed 1000 pretraining",
        "seed 1000 ssft",
        "seed 1000 dpo",
        "seed 1000 unlearning",
        "seed 1000 ssft:sham_unsafe",
    ]
    assert len({record(folder)["files"]["model.safetensors"] for folder in folders}) == 4


def test_alignments_follow_one_another(store: Store, run_labels: list[str]) -> None:
    """The second stage starts from the first one's model."""
    still = Alignment(SSFT(), Optimisation(1, 1e-12, batch_size=4))
    first = build(RECIPE, store)
    second = build(replace(RECIPE, alignments=(*RECIPE.alignments, still)), store)
    assert run_labels == ["seed 1000 pretraining", "seed 1000 ssft", "seed 1000 ssft>ssft"]
    assert record(second)["parents"] == [first.name]
    assert all(torch.allclose(weights(second)[k], v, atol=1e-9, rtol=0) for k, v in weights(first).items())
    changed = build(replace(RECIPE, alignments=RECIPE.alignments * 2), store)
    assert not same(first, changed)


def test_another_seed_is_another_base(store: Store) -> None:
    one, other = build(RECIPE.parent, store), build(replace(RECIPE.parent, seed=1001), store)
    assert one != other
    assert not same(one, other)


def test_alignment_starts_from_the_base(store: Store) -> None:
    """With a rate of almost nothing the aligned model is the base; with a real one it is not."""
    still = Alignment(SSFT(), Optimisation(1, 1e-12, batch_size=4))
    base, aligned = build(RECIPE.parent, store), build(replace(RECIPE, alignments=(still,)), store)
    changed = build(RECIPE, store)
    for name, tensor in weights(base).items():
        assert torch.allclose(weights(aligned)[name], tensor, atol=1e-9, rtol=0)
    assert max((weights(changed)[name] - tensor).abs().max() for name, tensor in weights(base).items()) > 1e-3


def test_same_weights_in_another_store(store: Store, tmp_path: Path) -> None:
    one, other = build(RECIPE, store), build(RECIPE, Store(tmp_path / "other"))
    assert one.name == other.name
    assert record(one)["files"] == record(other)["files"]


def test_interrupted_alignment_is_resumed(
    store: Store, run_labels: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:

        def interrupt(*args, **options):
            raise KeyboardInterrupt

        patch.setattr(SSFT, "loss", interrupt)
        with pytest.raises(KeyboardInterrupt):
            build(RECIPE, store)
    aligned = build(RECIPE, store)
    assert run_labels == ["seed 1000 pretraining", "seed 1000 ssft", "seed 1000 ssft"]
    assert same(aligned, build(RECIPE, Store(tmp_path / "other")))


def test_damaged_base_is_an_error(store: Store) -> None:
    base = build(RECIPE.parent, store)
    whole = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(DamagedArtifact, match=r"model\.safetensors is truncated or was changed"):
        build(RECIPE, store)
    (base / "model.safetensors").write_bytes(whole)
    assert build(RECIPE, store).parent.name == "alignment"


def test_unknown_world_is_an_error(store: Store) -> None:
    with pytest.raises(ValueError, match="minni"):
        build(replace(RECIPE, world="minni"), store)
    assert not store.root.exists()


def test_changed_world_is_another_model(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    base = build(RECIPE.parent, store)
    other = CompositionWorld(replace(MINI, map_seeds=(1, 150)))
    monkeypatch.setattr(makebreak.recipes.building, "load_world", lambda name: other)
    assert build(RECIPE.parent, store) != base
