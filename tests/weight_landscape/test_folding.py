"""Folding of norms: the function stays, and a random direction becomes the same perturbation."""

from __future__ import annotations

import copy

import pytest
import torch

from makebreak.weight_landscape import Perturbation, fold_norms, norm_readers, random_direction, rescale_norms
from tests.attacks.random_requests import random_network


@pytest.mark.parametrize("layout", ["gpt2", "llama"])
def test_norm_folding_keeps_the_function(layout: str) -> None:
    model = random_network(layout, d_vocab=9)
    assert not model.config.tie_word_embeddings
    tokens = torch.randint(0, 9, (5, 7), generator=torch.Generator().manual_seed(0))
    scales = {
        name: torch.exp(torch.randn(16, generator=torch.Generator().manual_seed(i)))
        for i, name in enumerate(norm_readers(model))
    }
    other = rescale_norms(model, scales)
    with torch.no_grad():
        expected = model(input_ids=tokens).logits
        for same in (other, fold_norms(model), fold_norms(other)):
            torch.testing.assert_close(same(input_ids=tokens).logits, expected, atol=1e-4, rtol=1e-4)
    generated, again = (copy.deepcopy(fold_norms(m)) for m in (model, other))
    perturbed = []
    for copied in (generated, again, copy.deepcopy(model), copy.deepcopy(other)):
        with Perturbation(copied, random_direction(copied, 0)) as perturbation, torch.no_grad():
            perturbation.set(0.3)
            perturbed.append(copied(input_ids=tokens).logits)
    torch.testing.assert_close(perturbed[0], perturbed[1], atol=1e-3, rtol=1e-3)
    assert (
        perturbed[2] - perturbed[3]
    ).abs().max() > 0.05  # without folding, the same direction is another perturbation
    with pytest.raises(ValueError, match="norm 'nothing'"):
        rescale_norms(model, {"nothing": scales[next(iter(scales))]})
