"""Recipes name their models' lineage, and every stage of training draws its own requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import makebreak.recipes.building
from makebreak.configs import from_json, tag, to_json
from makebreak.models import MODEL_SIZES, load_model
from makebreak.recipes import Alignment, Recipe, build, checkpoints
from makebreak.store import Store
from makebreak.training import (
    DPO,
    NPO,
    SSFT,
    AlignmentData,
    GradientAscent,
    JainDPO,
    LoRA,
    Optimisation,
    Pretraining,
    Unlearning,
    train,
)

STEPS = Optimisation(3, 1e-2, batch_size=4)
BASE = Recipe("mini", MODEL_SIZES["tiny"], Pretraining(), STEPS, (), 1000)
SHAM = AlignmentData("sham_safe", "sham_unsafe")


def aligned(*objectives, lora: LoRA | None = None) -> Recipe:
    return replace(BASE, alignments=tuple(Alignment(objective, STEPS, lora) for objective in objectives))


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        (BASE, "base"),
        (aligned(SSFT()), "ssft"),
        (aligned(SSFT(), lora=LoRA()), "ssft+lora"),
        (aligned(SSFT(), DPO()), "ssft>dpo"),
        (aligned(DPO(SHAM)), "dpo:sham_unsafe"),
        (aligned(DPO(SHAM, nll=0.5)), "dpo+nll:sham_unsafe"),
        (aligned(SSFT(SHAM), DPO(SHAM), lora=LoRA()), "ssft:sham_unsafe+lora>dpo:sham_unsafe+lora"),
        (aligned(JainDPO()), "paperdpo"),
        (aligned(Unlearning()), "unlearning"),
        (aligned(GradientAscent()), "ascent"),
        (aligned(NPO()), "npo"),
        (aligned(Pretraining()), "continued"),
        (aligned(SSFT(AlignmentData(unsafe="remapped_unsafe", answer="instructed"))), "ssft:remapped_unsafe"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mechanisms_have_names(recipe: Recipe, name: str) -> None:
    assert recipe.mechanism == name
    assert recipe.label() == f"seed 1000 {'pretraining' if name == 'base' else name}"


def test_lineage_of_a_recipe() -> None:
    whole = aligned(SSFT(), DPO(), NPO())
    assert [recipe.mechanism for recipe in whole.lineage] == ["base", "ssft", "ssft>dpo", "ssft>dpo>npo"]
    assert whole.lineage == (BASE, aligned(SSFT()), aligned(SSFT(), DPO()), whole)
    assert whole.lineage[-2] == whole.parent != whole.base == BASE
    assert BASE.lineage == (BASE,)
    assert replace(whole, seed=7).base == replace(BASE, seed=7) != BASE


OBJECTIVES = [
    SSFT(AlignmentData("a", "b", "instructed", 0.25)),
    DPO(SHAM, 0.5),
    JainDPO(SHAM, 0.3, 0.0),
    Unlearning(SHAM, 0.7, 0.2),
    GradientAscent(SHAM, 0.3),
    NPO(SHAM, 0.2),
    Pretraining("pretraining_without_null", modes_start=Pretraining().modes_end),
]


def through_json(recipe: Recipe) -> Recipe:
    return from_json(Recipe, json.loads(json.dumps(to_json(recipe))))


@pytest.mark.parametrize("lora", [None, LoRA(3, 5)])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
def test_objectives_round_trip_through_json(objective, lora: LoRA | None) -> None:
    recipe = aligned(SSFT(), objective, lora=lora)
    assert through_json(recipe) == recipe
    assert type(through_json(recipe).alignments[1].objective) is type(objective)
    config = to_json(recipe)
    assert config != to_json(aligned(SSFT(), type(objective)(), lora=lora)), "every setting is written"
    config["alignments"][1]["objective"]["betta"] = 1.0
    with pytest.raises(ValueError, match=f"{tag(type(objective))}: unknown field 'betta'"):
        from_json(Recipe, config)


def test_configs_of_different_settings_differ() -> None:
    recipes = [
        aligned(SSFT()),
        aligned(SSFT(AlignmentData(answer="instructed"))),
        aligned(SSFT(), lora=LoRA()),
    ]
    recipes += [aligned(SSFT(), lora=LoRA(4)), aligned(SSFT(AlignmentData(safe_share=0.25)))]
    assert len({json.dumps(to_json(recipe), sort_keys=True) for recipe in recipes}) == len(recipes)
    config = to_json(aligned(SSFT()))
    config["alignments"][0]["objective"]["data"]["answer"] = "null"
    with pytest.raises(ValueError, match=r"Data\.answer = 'null'"):
        from_json(Recipe, config)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds of all runs."""
    used: list[int] = []

    def recording_train(*args):
        used.append(args[-1].seed)
        return train(*args)

    monkeypatch.setattr(makebreak.recipes.building, "train", recording_train)
    return used


def test_stages_have_their_own_seeds(store: Store, seeds: list[int]) -> None:
    build(aligned(SSFT(), SSFT()), store)
    assert seeds == [1000, 1_001_000, 2_001_000]


def texts(batch) -> set[str]:
    return {str(row[5:].tolist()) for row in batch.tokens}


def record_batches(monkeypatch: pytest.MonkeyPatch, kind: type) -> list[set[str]]:
    """Texts and answers of every batch of an objective, filled while it trains."""
    batches: list[set[str]] = []
    original: Callable = kind.batch

    def recording_batch(self, world, **options):
        batch = original(self, world, **options)
        batches.append(texts(batch))
        return batch

    monkeypatch.setattr(kind, "batch", recording_batch)
    return batches


def test_continued_pretraining_sees_other_requests(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of those of the pretraining; a base of the same seed sees the very same, one of another seed
    others.
    """
    batches = record_batches(monkeypatch, Pretraining)
    build(aligned(Pretraining()), store)
    assert len(batches) == 6
    first, continued = set().union(*batches[:3]), set().union(*batches[3:])
    assert len(first) == len(continued) == 12
    assert not first & continued
    build(BASE, Store(store.root / "again"))
    assert set().union(*batches[6:]) == first


def test_stages_see_different_requests(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = record_batches(monkeypatch, SSFT)
    build(aligned(SSFT(), SSFT()), store)
    assert len(batches) == 6
    assert not set().union(*batches[:3]) & set().union(*batches[3:])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_continued_pretraining_changes_the_base(store: Store) -> None:
    base, continued = build(BASE, store), build(aligned(Pretraining()), store)
    assert continued.parent.name == "alignment"
    assert not all(torch.equal(tensor, weights(base)[name]) for name, tensor in weights(continued).items())


def test_adapters_leave_head_and_embeddings(store: Store) -> None:
    base, with_adapters, full = (
        build(r, store) for r in (BASE, aligned(SSFT(), lora=LoRA(2)), aligned(SSFT()))
    )
    assert weights(base).keys() == weights(with_adapters).keys() == weights(full).keys()

    def still(folder: Path) -> set[str]:
        return {name for name, tensor in weights(base).items() if torch.equal(tensor, weights(folder)[name])}

    matrices = {
        name for name in weights(base) if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
    }
    assert len(matrices) == 8
    assert still(with_adapters) == weights(base).keys() - matrices
    assert not still(full) & matrices
    assert "lm_head.weight" not in still(full)


def test_checkpoints_of_a_run_by_step(store: Store) -> None:
    recipe = aligned(SSFT(), lora=LoRA(2))
    recipe = replace(recipe, optimisation=replace(STEPS, steps=4, checkpoints=2))
    folder = build(recipe, store)
    folders = checkpoints(folder)
    assert folders == {1: folder / "checkpoints" / "000001", 2: folder / "checkpoints" / "000002", 3: folder}
    assert list(folders) == [1, 2, 3]
    models = [load_model(path).state_dict()["transformer.h.0.mlp.c_fc.weight"] for path in folders.values()]
    assert not any(torch.equal(a, b) for a, b in pairwise(models)), "each is a model of its own"
    base = build(recipe.base, store)
    assert list(checkpoints(base)) == [2, 4]
    assert checkpoints(base)[4] == base


def test_run_with_one_checkpoint_has_its_last(store: Store) -> None:
    folder = build(replace(BASE, optimisation=replace(STEPS, checkpoints=1)), store)
    assert checkpoints(folder) == {3: folder}
