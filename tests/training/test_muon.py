"""Muon for matrices, AdamW for the rest: which parameter gets which, and the size of both updates."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from makebreak.configs import from_json, to_json
from makebreak.models import MODEL_SIZES
from makebreak.recipes import Recipe
from makebreak.training import MuonOptimisation, Optimisation, Pretraining
from makebreak.training.muon import muon_scale, orthogonalise
from tests.training.short_runs import SYMBOLS, fresh

RATE = 1e-3
MUON = MuonOptimisation(10, RATE, batch_size=4, weight_decay=0.0)


@pytest.mark.parametrize("architecture", ["gpt2", "jain2024", "llama"])
def test_singular_values_of_an_update(architecture: str) -> None:
    """Singular values of the gradients are planted from .1 to 1: those of updates of matrices are nearly
    equal. Updates of embeddings, head and vectors are AdamW's first step: of one absolute value."""
    model = fresh(architecture)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)
        if p.ndim == 2:
            left, values, right = torch.linalg.svd(p.grad, full_matrices=False)
            p.grad = left @ torch.diag(torch.linspace(0.1, 1.0, len(values))) @ right
    MUON.create(model).step()
    n_matrices = 0
    for name, p in model.named_parameters():
        update = p.detach() - before[name]
        if p.ndim == 2 and len(SYMBOLS) not in p.shape and "wpe" not in name:
            n_matrices += 1
            values = torch.linalg.svdvals(update) / (0.2 * max(p.shape) ** 0.5 * RATE * MUON.matrix_rate)
            assert 0.3 < values.min() < values.max() < 1.5, name
        else:
            assert torch.allclose(update.abs(), torch.full_like(update, RATE), rtol=0.02), name
    assert n_matrices == model.config.num_hidden_layers * (7 if architecture == "llama" else 4)


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (16, 16)])
def test_orthogonalisation_of_a_batch_is_that_of_torch(shape: tuple[int, int]) -> None:
    """Torch's Muon, at rate 1 and without momentum, up to the bfloat16 that it rounds to."""
    gradients = torch.randn(3, 2, *shape, generator=torch.Generator().manual_seed(1))
    ours = orthogonalise(gradients).float() * muon_scale(torch.Size(shape))
    assert ours.shape == gradients.shape
    for row, gradient in zip(ours.flatten(0, 1), gradients.flatten(0, 1), strict=True):
        parameter = torch.nn.Parameter(torch.zeros(shape))
        parameter.grad = gradient
        settings = {"momentum": 0.0, "weight_decay": 0.0, "adjust_lr_fn": "match_rms_adamw"}
        torch.optim.Muon([parameter], lr=1.0, **settings).step()
        assert torch.allclose(row, -parameter.detach(), atol=0.02)
        assert parameter.detach().abs().max() > 0.2


def test_rate_of_matrices_follows_the_schedule() -> None:
    model = fresh()
    optimiser = MUON.create(model)
    for group in optimiser.param_groups:
        group["lr"] = 0.0
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimiser.step()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    optimiser.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_recipe_with_muon_is_read_back() -> None:
    """A recipe whose optimisation names no type has AdamW, as before."""
    recipe = Recipe("mini", MODEL_SIZES["tiny"], Pretraining(), MUON, (), 1000)
    assert from_json(Recipe, to_json(recipe)) == recipe
    plain = replace(recipe, optimisation=Optimisation(10, RATE))
    written = to_json(plain)
    del written["optimisation"]["type"]
    assert from_json(Recipe, written) == plain


def test_bad_settings_are_errors() -> None:
    with pytest.raises(ValueError, match=r"momentum = 1\.5: expected a probability"):
        replace(MUON, momentum=1.5)
    with pytest.raises(ValueError, match="matrix_rate = 0"):
        replace(MUON, matrix_rate=0.0)
