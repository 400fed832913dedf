"""Behaviour of stacked models equals that of each model alone, and is stored where `measure` finds it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from makebreak.evaluation import (
    evaluate_behaviour,
    kl_to_base,
    stack_behaviours,
    stack_compliance,
    stack_kl_to_base,
)
from makebreak.model_library import open_organism
from makebreak.model_zoo import FamilyMeasure, SafetyMeasure, measure, measure_all
from makebreak.models import MODEL_SIZES, create_model, load_model, stack_models
from makebreak.prompts import load_world
from makebreak.recipes import Alignment, Engine, Recipe, build_all
from makebreak.store import Store
from makebreak.training import SSFT, AlignmentData, Optimisation, Pretraining

WORLD = load_world("mini")
N = 40


def networks(architecture: str, shift: int = 0):
    """Models that answer, refuse and generate anything: the likelier the null token, the larger the seed."""
    config = replace(MODEL_SIZES["tiny"], architecture=architecture)
    models = []
    for seed in range(3):
        sizes = {"d_vocab": len(WORLD.vocabulary), "n_ctx": WORLD.sequence_length}
        model = create_model(config, seed=seed + shift, **sizes).eval()
        generator = torch.Generator().manual_seed(seed + shift)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        models.append(model)
    return models


@pytest.mark.parametrize("architecture", ["gpt2", "jain2024", "llama"])
@pytest.mark.parametrize("family", ["unsafe", "safe"])
def test_behaviour_of_a_stack_is_that_of_its_members(
    architecture: str, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("makebreak.evaluation.stacked._MOST_TOKENS", 1000)  # several passes
    models, bases = networks(architecture), networks(architecture, shift=5)
    requests = [WORLD.sample(family, N, seed=seed, split="score") for seed in (3, 4, 5)]
    stack = stack_models(models)
    behaviours = stack_behaviours(stack, WORLD, requests)
    divergences = stack_kl_to_base(WORLD, requests, bases=stack_models(bases), stack=stack)
    for i, (model, base, part) in enumerate(zip(models, bases, requests, strict=True)):
        alone = evaluate_behaviour(model, WORLD, part)
        assert np.array_equal(behaviours[i].outcomes, alone.outcomes)
        assert behaviours[i].margin == pytest.approx(alone.margin, rel=1e-4)
        assert behaviours[i].instructed_exact_match == alone.instructed_exact_match
        assert behaviours[i].refused_exact_match == alone.refused_exact_match
        assert divergences[i] == pytest.approx(kl_to_base(WORLD, part, base=base, tuned=model), rel=1e-4)
    assert len({round(divergence, 3) for divergence in divergences}) == 3, "the members differ"


@pytest.mark.parametrize("family", ["safe", "unsafe", "second_composition_unsafe"])
def test_compliance_of_a_stack_is_that_of_its_members(family: str) -> None:
    """One teacher-forced pass over shipped models, some of which comply and some of which refuse."""
    symbols = WORLD.vocabulary.symbols
    names = ("mini-base", "mini-ssft", "mini-unlearning")
    models = [load_model(open_organism(name).folder, symbols=symbols) for name in names]
    requests = WORLD.sample(family, N, seed=3, split="score")
    rates = stack_compliance(stack_models(models), WORLD, requests).tolist()
    assert rates == [evaluate_behaviour(model, WORLD, requests).rates["comply"] for model in models]
    assert family != "unsafe" or (rates[0] > 0.8 and max(rates[1:]) < 0.2)


@pytest.mark.slow
def test_measures_of_a_stack_lie_where_single_ones_are_looked_for(tmp_path: Path) -> None:
    steps = Optimisation(30, 1e-2, batch_size=16, checkpoints=1)
    sham = AlignmentData("sham_safe", "sham_unsafe")
    recipes = [
        Recipe("mini", MODEL_SIZES["tiny"], Pretraining(), steps, alignments, seed, Engine("stacked"))
        for seed in (7, 8)
        for alignments in ((), (Alignment(SSFT(), steps),), (Alignment(SSFT(sham), steps),))
    ]
    store, measures = Store(tmp_path), (SafetyMeasure(N), FamilyMeasure(N))
    build_all(recipes, store)
    measure_all(store, recipes, *measures)
    alone = Store(tmp_path / "alone")
    (alone.root).mkdir()
    for stage in ("pretraining", "alignment"):
        (alone.root / stage).symlink_to(tmp_path / stage)
    for recipe in recipes:
        results = measure(Store(tmp_path, read_only=True), recipe, *measures)
        for (result, _), (single, _) in zip(results, measure(alone, recipe, *measures), strict=True):
            assert result.columns.keys() == single.columns.keys()
            for name, value in single.columns.items():
                own = result.columns[name]
                assert own == value or own == pytest.approx(value, rel=1e-4, abs=1e-6), name
            assert result.tables.keys() == single.tables.keys()
            for row, own in zip(result.tables["behaviour"], single.tables["behaviour"], strict=True):
                numbers = {name: value for name, value in own.items() if name != "family"}
                assert {name: row[name] for name in numbers} == pytest.approx(numbers, rel=1e-4)
                assert row["family"] == own["family"]
    assert (
        len({results[0][0].columns["margin"] for results in [measure(store, r, *measures) for r in recipes]})
        > 3
    )
