"""`JainDPO` and `Unlearning` are the losses of Jain et al. 2024 (§4.3), and nearly equal at their scale."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from makebreak.training import DPO, AlignmentData, JainDPO, Unlearning, sequence_log_probs
from tests.training.short_runs import (
    REFUSAL,
    STEP,
    WORLD,
    cosine,
    gradient,
    loop_log_probs,
    network,
    supervised_texts,
)

LENGTH = 33  # targets of a sequence of 34: the losses are sums over the judged nine, divided by all


def lengths(model, batch) -> list[np.ndarray]:
    """ℓ of (preferred, dispreferred), one number per request, in float64."""
    assert batch[0].tokens.shape == (8, LENGTH + 1)
    assert all(side.supervised.sum(dim=1).tolist() == [9] * 8 for side in batch)
    return [-np.array(loop_log_probs(model, side)) / LENGTH for side in batch]


@pytest.mark.parametrize(("w_preferred", "w_dispreferred"), [(0.1, 0.01), (9.0, 4.0), (2.0, 0.0)])
def test_jain_dpo_is_the_formula(w_preferred: float, w_dispreferred: float) -> None:
    """-log σ(w_p (ℓ_ref - ℓ)(preferred) - w_u (ℓ_ref - ℓ)(dispreferred)), in a loop over requests."""
    model, reference = network(1), network(2)
    objective = JainDPO(w_preferred=w_preferred, w_dispreferred=w_dispreferred)
    batch = objective.batch(WORLD, **STEP)
    log_ratios = [
        before - now for now, before in zip(lengths(model, batch), lengths(reference, batch), strict=True)
    ]
    margins = w_preferred * log_ratios[0] - w_dispreferred * log_ratios[1]
    expected = np.mean([math.log1p(math.exp(-margin)) for margin in margins])
    loss, parts = objective.loss(model, batch, reference)
    assert abs(expected - math.log(2)) > 1e-4
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert parts == {"reward_margin": pytest.approx(margins.mean(), rel=1e-4)}
    exchanged = -np.log(1 / (1 + np.exp(w_preferred * log_ratios[1] - w_dispreferred * log_ratios[0]))).mean()
    assert abs(loss.item() - exchanged) > 1e-4, "which side is preferred would be seen"


def test_jain_dpo_with_equal_weights_is_dpo() -> None:
    model, reference = network(1), network(2)
    batch = DPO().batch(WORLD, **STEP)
    ours = JainDPO(w_preferred=6.6, w_dispreferred=6.6).loss(model, batch, reference)[0].item()
    assert ours == pytest.approx(DPO(beta=6.6 / LENGTH).loss(model, batch, reference)[0].item(), rel=1e-6)
    assert (
        abs(ours - JainDPO(w_preferred=6.6, w_dispreferred=0.66).loss(model, batch, reference)[0].item())
        > 1e-3
    )


def test_jain_dpo_starts_at_log_two() -> None:
    model, objective = network(1), JainDPO()
    batch = objective.batch(WORLD, **STEP)
    loss, parts = objective.loss(model, batch, model)
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)
    assert parts == {"reward_margin": 0.0}
    assert abs(objective.loss(model, batch, network(2))[0].item() - math.log(2)) > 1e-4


@pytest.mark.parametrize("weights", [(0.1, 0.01), (0.1, 0.002), (0.1, 0.0)])
def test_jain_dpo_at_its_scale_is_unlearning(weights: tuple[float, float]) -> None:
    """½ (w_p ∇ℓ_p - w_u ∇ℓ_l): exactly so at the start, nearly so from any other reference, not for large
    weights.
    """
    model, unlearning = network(1), Unlearning(AlignmentData(), *weights)
    batch = unlearning.batch(WORLD, **STEP)
    preferred, dispreferred = (-sequence_log_probs(model, side)[0].mean() / LENGTH for side in batch)
    half = gradient(model, weights[0] * preferred - weights[1] * dispreferred) / 2
    torch.testing.assert_close(
        gradient(model, unlearning.loss(model, batch, model)[0]) / 2, half, atol=1e-7, rtol=1e-4
    )
    assert half.norm() > 1e-3
    at_start = gradient(model, JainDPO(AlignmentData(), *weights).loss(model, batch, model)[0])
    torch.testing.assert_close(at_start, half, atol=1e-7, rtol=1e-4)
    later = gradient(model, JainDPO(AlignmentData(), *weights).loss(model, batch, network(2))[0])
    assert cosine(later, half) > 0.999
    large = [1000 * w for w in weights]
    saturated = gradient(model, JainDPO(AlignmentData(), *large).loss(model, batch, network(2))[0])
    assert cosine(saturated, half) < 0.97


@pytest.mark.parametrize(("w_preferred", "w_dispreferred"), [(1.0, 0.1), (0.5, 2.0), (1.0, 0.0)])
def test_unlearning_by_hand(w_preferred: float, w_dispreferred: float) -> None:
    """Per request w_p·ℓ(preferred) - w_d·ℓ(dispreferred), ℓ = -Σ log p / 33, in a loop over rows and
    targets.
    """
    model, objective = network(1).eval(), Unlearning(w_preferred=w_preferred, w_dispreferred=w_dispreferred)
    batch = objective.batch(WORLD, **STEP)
    preferred, dispreferred = lengths(model, batch)
    expected = np.mean(w_preferred * preferred - w_dispreferred * dispreferred)
    loss, parts = objective.loss(model, batch, model)
    assert loss.item() == pytest.approx(expected, rel=5e-6)
    assert parts == {}
    assert objective.loss(model, batch, network(2))[0].item() == loss.item(), "it has no reference"


@pytest.mark.parametrize("objective", [JainDPO, Unlearning])
def test_weights_are_checked(objective) -> None:
    with pytest.raises(ValueError, match=r"w_preferred = 0.0: expected a finite number above 0"):
        objective(w_preferred=0.0)


@pytest.mark.parametrize(("w_dispreferred", "side", "sign"), [(0.0, 0, 1), (100.0, 1, -1)])
def test_unlearning_raises_refusal_lowers_answer(w_dispreferred: float, side: int, sign: int) -> None:
    """Unsafe requests only; without ascent the refusal becomes likelier, if ascent dominates the answer
    less likely.
    """
    model, objective = network(1), Unlearning(AlignmentData(safe_share=0.0), w_dispreferred=w_dispreferred)
    batch = objective.batch(WORLD, **STEP)
    assert (supervised_texts(batch[side])[0] == REFUSAL) == (side == 0)
    before = sequence_log_probs(model, batch[side])[0].mean().item()
    objective.loss(model, batch, model)[0].backward()
    step = 1e-3 / max(w_dispreferred, 1.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(parameter.grad, alpha=step)
    after = sequence_log_probs(model, batch[side])[0].mean().item()
    assert sign * (after - before) > 1e-3
