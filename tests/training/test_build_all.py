"""Recipes of the stacked engine: trained together where they fit, stored as ordinary models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import makebreak.recipes.building
import makebreak.training.engine as engine
from makebreak import model_zoo as zoo
from makebreak.configs import from_json, to_json
from makebreak.models import MODEL_SIZES, load_model
from makebreak.recipes import (
    ENGINE_VARIABLE,
    STACKS,
    Alignment,
    Engine,
    Recipe,
    build,
    build_all,
    checkpoints,
)
from makebreak.store import NotCached, Store, record
from makebreak.training import (
    DPO,
    SSFT,
    AlignmentData,
    Optimisation,
    Pretraining,
    TrainingStopped,
)
from tests.training.short_runs import SYMBOLS
from tests.training.test_engine import distance

STEPS = Optimisation(4, 1e-3, batch_size=4, checkpoints=2)
STACKED = Engine("stacked")
BASES = [Recipe("mini", MODEL_SIZES["tiny"], Pretraining(), STEPS, (), seed, STACKED) for seed in (7, 8, 9)]
SHAM = AlignmentData("sham_safe", "sham_unsafe")


def aligned(base: Recipe, *objectives: Any) -> Recipe:
    return replace(base, alignments=tuple(Alignment(objective, STEPS) for objective in objectives))


RECIPES = [aligned(base, objective) for base in BASES for objective in (SSFT(), SSFT(SHAM), DPO())]


@pytest.fixture
def stack_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the stacks that are trained."""
    sizes: list[int] = []

    def recording_train_stack(models: Any, *args: Any) -> Any:
        sizes.append(len(models))
        return engine.train_stack(models, *args)

    monkeypatch.setattr(makebreak.recipes.building, "train_stack", recording_train_stack)
    return sizes


def test_what_fits_is_trained_together(tmp_path: Path, stack_sizes: list[int]) -> None:
    """Bases, then all models of one kind of objective; each equals the one that is trained alone."""
    store, alone = Store(tmp_path / "stacked"), Store(tmp_path / "single")
    build_all(RECIPES, store)
    assert stack_sizes == [3, 6, 3]
    build_all(RECIPES, store)
    assert stack_sizes == [3, 6, 3], "nothing is trained twice"
    assert not list((store.root / STACKS).glob("*/*")), "no state is left"
    for recipe in RECIPES[:3]:
        folder, single = build(recipe, store), build(replace(recipe, engine=Engine()), alone)
        assert folder.name != single.name
        assert record(folder)["config"]["engine"] == {"type": "Engine", "name": "stacked", "device": "cpu"}
        assert (
            from_json(Recipe, {k: v for k, v in record(folder)["config"].items() if k != "world_is"})
            == recipe
        )
        assert list(checkpoints(folder)) == list(checkpoints(single)) == [2, 4]
        models = {
            (engine, step): load_model(checkpoints(path)[step], symbols=SYMBOLS)
            for engine, path in (("stacked", folder), ("single", single))
            for step in (2, 4)
        }
        for step in (2, 4):  # by rounding: where a gradient is nearly 0, Adam's first step follows its sign
            assert distance(models["stacked", step], models["single", step]) < 1e-5
        assert distance(models["stacked", 2], models["single", 4]) > 1e-4
    assert set(zoo.table(store).mechanism) == {"base", "ssft", "ssft:sham_unsafe", "dpo"}


def test_single_recipe_is_a_stack_of_one(tmp_path: Path, stack_sizes: list[int]) -> None:
    recipe = aligned(BASES[0], SSFT(), DPO())
    with pytest.raises(NotCached):
        build(recipe, Store(tmp_path, read_only=True))
    folder = build(recipe, Store(tmp_path))
    assert stack_sizes == [1, 1, 1]
    assert folder == build(recipe, Store(tmp_path, read_only=True))


@pytest.mark.slow
def test_killed_between_members_the_rest_is_written_from_the_same_stack(
    tmp_path: Path, stack_sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever recipes are asked for then, members have the bytes of a run that was not interrupted."""
    whole, store = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    build_all(BASES, whole)
    write, calls = engine._write_member, []

    def write_once(*args: Any) -> None:
        calls.append(args)
        if len(calls) > 1:
            raise KeyboardInterrupt
        write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_write_member", write_once)
        with pytest.raises(KeyboardInterrupt):
            build_all(BASES, store)
    assert len(list((store.root / "pretraining").glob("*/artifact.json"))) == 1
    build_all(BASES[1:2], store)
    assert stack_sizes == [3, 3, 3]
    assert not list((store.root / STACKS).glob("*/*"))
    for base in BASES:
        weights = [build(base, s) / "model.safetensors" for s in (whole, store)]
        assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize("interrupted", ["train_stack", "remove_stack"])
def test_state_of_a_killed_stack_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: str
) -> None:
    """Also a temporary file of a checkpoint, and what is left if all members were stored."""
    store = Store(tmp_path)

    def stop(*args: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(makebreak.recipes.building, interrupted, stop)
        with pytest.raises(KeyboardInterrupt):
            build_all(BASES[:1], store)
    [state] = [path for path in (store.root / STACKS).iterdir() if path.is_dir()]
    (state / "checkpoints").mkdir(exist_ok=True)
    for torn in (state / ".checkpoint.safetensors.7.new", state / "checkpoints/.000002.safetensors.7.new"):
        torn.write_text("half")
    build_all(BASES[:1], store)
    assert not state.exists()
    assert build(BASES[0], Store(tmp_path, read_only=True))


@pytest.mark.slow
def test_models_that_stop_are_named_and_all_others_stored(tmp_path: Path) -> None:
    store = Store(tmp_path)
    steep = replace(BASES[1], optimisation=replace(STEPS, learning_rate=1e38))
    other = replace(BASES[2], optimisation=replace(STEPS, batch_size=5))  # a stack of its own
    recipes = [aligned(base, SSFT()) for base in (BASES[0], steep, other)]
    message = r"2 of 6 models could not be trained; the first error: seed 8 pretraining: loss"
    with pytest.raises(TrainingStopped, match=message):
        build_all(recipes, store)
    assert not list((store.root / STACKS).glob("*/*")), "no state is left"
    for recipe in (recipes[0], recipes[2]):
        assert build(recipe, Store(tmp_path, read_only=True)).is_dir()
    with pytest.raises(TrainingStopped, match="1 of 1 models"):
        build_all([steep], store)
    with pytest.raises(TrainingStopped, match="2 of 4 models"):
        build_all([replace(recipe, engine=Engine()) for recipe in recipes[:2]], store)


def test_engine_of_recipes_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def recipe() -> Recipe:
        return Recipe("mini", MODEL_SIZES["tiny"], Pretraining(), STEPS, (), 7)

    assert (recipe().engine, "engine" in to_json(recipe())) == (Engine("single", "cpu"), False)
    monkeypatch.setenv(ENGINE_VARIABLE, "stacked:cuda")
    assert recipe().engine == Engine("stacked", "cuda")
    assert to_json(recipe())["engine"] == {"type": "Engine", "name": "stacked", "device": "cuda"}
    old = {name: value for name, value in to_json(recipe()).items() if name != "engine"}
    assert from_json(Recipe, old).engine == Engine(), "a stored recipe without engine is of the single one"
    monkeypatch.setenv(ENGINE_VARIABLE, "stacks:cpu")
    with pytest.raises(ValueError, match="engine 'stacks:cpu': expected single or stacked"):
        recipe()
