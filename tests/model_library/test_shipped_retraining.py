"""Shipped models are what their recipes give: base and SSFT are trained again and compared.

On one processor and with one thread, training repeats bit by bit. Other kernels round differently, which
training amplifies: with those of older processors, weights differ by 0.59 and 0.60 (base, SSFT) and no
outcome of 600; those of pretraining seed 1 by 1.41. Logits do not tell the two apart (0.54; 0.60).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from transformers import PreTrainedModel

from makebreak.evaluation import evaluate_behaviour
from makebreak.model_library import open_organism
from makebreak.model_zoo import held_out_requests, weight_change
from makebreak.models import create_model, load_model
from makebreak.prompts import load_world
from makebreak.recipes import Recipe, build
from makebreak.store import Store

N_REQUESTS = 300
MAX_WEIGHTS = 1.0
MAX_OUTCOMES = 0.02


class Distance(NamedTuple):
    """How far a model is from the shipped one."""

    weights: float
    """‖ΔW‖ to the shipped model, relative to how far training moved that from its initial weights."""
    outcomes: float
    """Share of requests with another outcome."""


def initial(recipe: Recipe, seed: int) -> PreTrainedModel:
    world = load_world(recipe.world)
    d_vocab, n_ctx = len(world.vocabulary), world.sequence_length
    return create_model(recipe.model, d_vocab=d_vocab, n_ctx=n_ctx, seed=seed)


def distance(name: str, model: PreTrainedModel) -> Distance:
    organism = open_organism(name)
    shipped, recipe = load_model(organism.folder), organism.recipe
    world, others = load_world(recipe.world), []
    for family in ("safe", "unsafe"):
        requests = held_out_requests(recipe.world, family, N_REQUESTS, recipe.seed, "score")
        outcomes = [evaluate_behaviour(each, world, requests).outcomes for each in (shipped, model)]
        others.append((outcomes[0] != outcomes[1]).mean())
    moved = weight_change(base=initial(recipe, recipe.seed), tuned=shipped)
    return Distance(weight_change(base=shipped, tuned=model) / moved, float(sum(others) / len(others)))


def test_another_seed_and_another_model_are_told_apart() -> None:
    """Negative controls: what weights of another seed, and of another alignment, differ by."""
    organism = open_organism("mini-ssft")
    assert distance("mini-ssft", load_model(organism.folder)) == (0.0, 0.0)
    assert distance("mini-ssft", initial(organism.recipe, seed=1)).weights > MAX_WEIGHTS
    assert distance("mini-ssft", load_model(open_organism("mini-base").folder)).outcomes > MAX_OUTCOMES
    assert distance("mini-ssft", load_model(open_organism("hidden-ssft").folder)).weights > MAX_WEIGHTS


@pytest.mark.slow
def test_training_again_gives_the_shipped_models(tmp_path: Path) -> None:
    for name in ("mini-base", "mini-ssft"):
        model = load_model(build(open_organism(name).recipe, Store(tmp_path)))
        found = distance(name, model)
        assert found.weights < MAX_WEIGHTS, found
        assert found.outcomes < MAX_OUTCOMES, found
