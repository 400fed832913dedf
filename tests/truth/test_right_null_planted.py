"""Changes planted in the kernel of W_out, and inputs planted where W_in passes little on, are found."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import PreTrainedModel

import synthetic
from makebreak.geometry import left_null_space
from makebreak.mechanism import input_gain_rows, kernel_share_rows
from makebreak.models import MODEL_SIZES, bias_vector, create_model, set_weight_matrix, weight_matrix

WORLD = synthetic.load("mini")
REQUESTS = {"unsafe": WORLD.sample("unsafe", 12, seed=1000)}


def network(seed: int) -> PreTrainedModel:
    """A network whose first activation function is nearly linear: its post-activations follow the bias."""
    model = create_model(
        MODEL_SIZES["tiny"], d_vocab=len(WORLD.vocabulary), n_ctx=WORLD.sequence_length, seed=seed
    ).eval()
    bias_vector(model, "blocks.0.mlp.W_in").add_(20.0)
    return model


def test_a_change_in_the_kernel_of_w_out_is_found() -> None:
    base, other = network(0), network(1)
    kernel = left_null_space(weight_matrix(base, "blocks.0.mlp.W_out").T)
    inside = kernel.basis[:, 0].float()
    outside = weight_matrix(base, "blocks.0.mlp.W_out")[0]
    for change, share in ((inside, 1.0), (outside / outside.norm(), 0.0)):
        tuned = copy.deepcopy(base)
        bias_vector(tuned, "blocks.0.mlp.W_in").add_(change)
        first, second, *_ = kernel_share_rows(REQUESTS, base=base, tuned=tuned, other_base=other)
        assert (first.layer, first.n, first.chance) == (0, 12, kernel.chance)
        assert first.share == pytest.approx(share, abs=1e-3)
        assert first.tuned_share == pytest.approx(share, abs=1e-3)
        assert first.other_seed_share is not None
        assert 0.3 < first.other_seed_share < 0.98
        if share == 1.0:  # nothing reaches the next layer but rounding
            states = [
                model(input_ids=torch.from_numpy(REQUESTS["unsafe"].prompt)).logits for model in (base, tuned)
            ]
            assert torch.allclose(*states, atol=1e-4)
        assert second.layer == 1
    still = kernel_share_rows(REQUESTS, base=base, tuned=copy.deepcopy(base))[0]
    assert (still.n, still.share, still.other_seed_share) == (0, None, None)


def test_gain_falls_where_the_matrix_loses_its_inputs() -> None:
    """A tuned matrix of twice the size has twice the gain; one that is blind to its inputs has none."""
    base = network(0)
    name = "blocks.0.mlp.W_in"
    for factor in (2.0, 0.0):
        tuned = copy.deepcopy(base)
        set_weight_matrix(tuned, name, factor * weight_matrix(base, name))
        row = input_gain_rows(REQUESTS, base=base, tuned=tuned)[0]
        assert row.matrix == "mlp.W_in"
        assert row.tuned_gain == pytest.approx(factor * row.base_gain, rel=1e-5)
        assert row.base_weight_gain == pytest.approx(row.base_gain, rel=1e-5), "the first inputs are the same"
    shifted = copy.deepcopy(base)
    shifted.transformer.h[0].ln_2.weight.data.zero_()
    shifted.transformer.h[0].ln_2.bias.data.copy_(
        torch.linalg.svd(weight_matrix(base, name), full_matrices=True).Vh[-1]
    )
    last = input_gain_rows(REQUESTS, base=base, tuned=shifted)[0]
    smallest = float(torch.linalg.svdvals(weight_matrix(base, name))[-1])
    assert last.base_weight_gain == pytest.approx(smallest, rel=1e-3)
    assert last.base_weight_gain < 0.8 * last.base_gain
