"""Fisher matrices by Gaussian vectors equal the exact ones, also for a confident model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import add, forward, intervene, logits_at_last
from makebreak.evaluation import prompt_tokens
from makebreak.mechanism import layer_fisher
from makebreak.model_organisms import PlantSettings, plant
from makebreak.prompts import Requests

LAYER = 1


def exact_fishers(model: PreTrainedModel, requests: Requests) -> list[Tensor]:
    """Jᵀ(diag p - ppᵀ)J of each request, from the whole Jacobian."""
    matrices = []
    for i in range(len(requests)):
        tokens, last = prompt_tokens(requests[np.array([i])])
        where = torch.arange(tokens.shape[1]) == last[:, None]

        def logits(
            offset: Tensor, tokens: Tensor = tokens, where: Tensor = where, last: Tensor = last
        ) -> Tensor:
            site = f"blocks.{LAYER}.hook_resid_pre"
            with intervene(model, site, add(offset[None]), where), logits_at_last(model, last):
                return forward(model, tokens).logits[0, 0]

        zero = torch.zeros(model.config.hidden_size)
        jacobian = torch.autograd.functional.jacobian(logits, zero).double()
        p = logits(zero).detach().double().softmax(-1)
        matrices.append(jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian)
    return matrices


@pytest.mark.parametrize("gain", [pytest.param(1.0, marks=pytest.mark.slow), 4.0])
def test_matrix_and_gain_are_unbiased(gain: float) -> None:
    planted = plant("route", 1300, "gpt2", PlantSettings(n_layers=3, gain=gain, n_requests=8))
    requests = planted.unsafe
    exact = exact_fishers(planted.base, requests)
    movement = torch.randn(3, len(requests), planted.base.config.hidden_size)
    movement[:, :, :8] *= 5
    fisher = layer_fisher(planted.base, requests, movement, n_samples=2000, seed=0)[LAYER]
    mean = torch.stack(exact).mean(dim=0)
    assert float((fisher.fisher - mean).norm() / mean.norm()) < 0.1
    delta = movement[LAYER].double()
    effect = sum(float(d @ f @ d) for d, f in zip(delta, exact, strict=True))
    chance = sum(float(d @ d * f.trace()) / len(d) for d, f in zip(delta, exact, strict=True))
    assert fisher.gain == pytest.approx(effect / chance, rel=0.1)


def test_a_change_of_length_has_no_gain() -> None:
    """Request by request, a movement along the state itself is not seen by what follows a norm."""
    planted = plant("route", 1301, "gpt2", PlantSettings(n_layers=2, n_requests=40))
    tokens, last = prompt_tokens(planted.unsafe)
    with torch.no_grad():
        states = planted.base(tokens, output_hidden_states=True).hidden_states[1]
    radial = states[torch.arange(len(last)), last]
    radial = radial - radial.mean(dim=-1, keepdim=True)
    shuffled = radial[torch.randperm(len(radial), generator=torch.Generator().manual_seed(0))]
    gains = [
        layer_fisher(planted.base, planted.unsafe, torch.stack([0 * m, m]), seed=0)[1].gain
        for m in (radial, shuffled)
    ]
    assert gains[0] is not None
    assert gains[1] is not None
    assert gains[0] < 0.5 * gains[1]
