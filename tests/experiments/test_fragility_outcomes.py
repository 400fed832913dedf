"""Outcomes of the study of fragility on planted attacks and weights."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.fragility.compression import prune, quantise
from experiments.fragility.zoo import CENSORED_FACTOR, attack_outcomes
from makebreak.models import ModelConfig, create_model, weight_matrix
from makebreak.weight_landscape import Perturbation

KEYS = {"world": "mini", "seed": 0, "mechanism": "ssft", "dose": 1}


def _runs(runs: dict[tuple[float, int], list[tuple[int, float, float]]]) -> pd.DataFrame:
    """Rows of runs by rate and attack seed: step, compliance, compliance with safe requests."""
    rows = []
    for (rate, attack_seed), points in runs.items():
        for attacker in ("harmful", "benign", "restructured"):
            for step, unsafe, safe in points:
                point = {"step": step, "compliance_rate": unsafe, "safe_compliance_rate": safe}
                rows.append(KEYS | {"attacker": attacker, "rate": rate, "attack_seed": attack_seed} | point)
    return pd.DataFrame(rows)


def test_best_rate_and_interpolation() -> None:
    """The rate that is fastest counts, and the crossing of one half is linear between steps."""
    slow = [(0, 0.0, 1.0), (2, 0.1, 1.0), (4, 0.3, 1.0), (8, 0.7, 1.0)]
    fast = [(0, 0.0, 1.0), (2, 0.2, 1.0), (4, 0.6, 1.0), (8, 0.9, 1.0)]
    [row] = attack_outcomes(_runs({(1e-4, 0): slow, (1e-3, 0): fast})).to_dict("records")
    assert row["outcome.harmful.steps_to_half"] == pytest.approx(2 + 2 * 0.3 / 0.4)
    assert row["outcome.harmful.compliance"] == pytest.approx(0.6), "after 4 steps"


def test_attack_that_destroys_ability_does_not_count() -> None:
    """A rate at which safe requests are no longer answered is as good as no attack."""
    harmless = [(0, 0.0, 1.0), (4, 0.1, 1.0), (8, 0.2, 1.0)]
    destructive = [(0, 0.0, 1.0), (4, 0.9, 0.89), (8, 0.9, 0.5)]
    [row] = attack_outcomes(_runs({(1e-4, 0): harmless, (1e-2, 0): destructive})).to_dict("records")
    assert row["outcome.harmful.steps_to_half"] == CENSORED_FACTOR * 8
    assert row["outcome.harmful.compliance"] == pytest.approx(0.1)
    within = [destructive[0], (4, 0.9, 0.9), destructive[2]]
    [row] = attack_outcomes(_runs({(1e-4, 0): harmless, (1e-2, 0): within})).to_dict("records")
    assert row["outcome.harmful.compliance"] == pytest.approx(0.9), "nine tenths are enough"


def test_attack_seeds_are_averaged_within_a_model() -> None:
    """Two seeds of the attacker give the mean of their own best outcomes."""
    first = [(0, 0.0, 1.0), (4, 0.4, 1.0)]
    second = [(0, 0.0, 1.0), (4, 0.8, 1.0)]
    [row] = attack_outcomes(_runs({(1e-3, 0): first, (1e-3, 1): second})).to_dict("records")
    assert row["outcome.harmful.compliance"] == pytest.approx(0.6)


def _model() -> torch.nn.Module:
    return create_model(ModelConfig(n_layers=1, d_model=16, d_mlp=32), d_vocab=12, n_ctx=8, seed=0)


def test_quantised_rows_have_fifteen_levels() -> None:
    """Every output row holds multiples of its own largest weight over 7, none further than half a step."""
    model = _model()
    before = weight_matrix(model, "blocks.0.mlp.W_in").clone()
    with Perturbation(model, quantise(model, bits=4)) as perturbation:
        perturbation.set(1.0)
        after = weight_matrix(model, "blocks.0.mlp.W_in").clone()
    step = before.abs().amax(dim=1, keepdim=True) / 7
    levels = after / step
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    assert bool((after - before).abs().le(step / 2 + 1e-6).all())
    assert torch.equal(weight_matrix(model, "blocks.0.mlp.W_in"), before), "the model is restored"


@given(share=st.sampled_from([0.0, 0.1, 0.3, 1.0]))
def test_pruning_removes_the_smallest_weights(share: float) -> None:
    """As many weights of every matrix become 0 as the share says, and none that is larger than another."""
    model = _model()
    before = weight_matrix(model, "blocks.0.mlp.W_out").clone()
    with Perturbation(model, prune(model, share=share)) as perturbation:
        perturbation.set(1.0)
        after = weight_matrix(model, "blocks.0.mlp.W_out").clone()
    removed = after == 0
    assert int(removed.sum()) == round(share * before.numel())
    assert torch.equal(after[~removed], before[~removed])
    if removed.any() and not removed.all():
        assert before[removed].abs().max() <= before[~removed].abs().min()
