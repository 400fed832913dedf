"""Gradient ascent and NPO lower the answers as their formulas say; NPO saturates."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from makebreak.training import NPO, GradientAscent, mean_cross_entropy, npo_loss, sequence_log_probs
from tests.training.short_runs import STEP, WORLD, cosine, gradient, loop_log_probs, network


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_ascent_is_the_formula() -> None:
    """Mean cross-entropy over the 72 retained tokens minus `weight` times that over the 36 to forget, in
    a loop.
    """
    model, objective = network(1), GradientAscent(forget_weight=0.3)
    batch = objective.batch(WORLD, **STEP)
    retain, forget = -sum(loop_log_probs(model, batch[0])) / 72, -sum(loop_log_probs(model, batch[1])) / 36
    loss, parts = objective.loss(model, batch, model)
    assert loss.item() == pytest.approx(retain - 0.3 * forget, rel=1e-5)
    assert parts == {"retain": pytest.approx(retain, rel=1e-5), "forget": pytest.approx(forget, rel=1e-5)}
    assert abs(retain - forget) > 1e-3, "the two sides differ"
    assert objective.loss(model, batch, network(2))[0].item() == loss.item(), "it has no reference"


def test_npo_is_the_formula() -> None:
    """Zhang et al. 2024, eq. 3, in a loop over requests, beside the mean cross-entropy of what is
    retained.
    """
    model, reference, objective = network(1), network(2), NPO(beta=0.3)
    batch = objective.batch(WORLD, **STEP)
    ratios = [
        now - then
        for now, then in zip(
            loop_log_probs(model, batch[1]), loop_log_probs(reference, batch[1]), strict=True
        )
    ]
    forget = sum(2 / 0.3 * math.log1p(math.exp(0.3 * ratio)) for ratio in ratios) / 4
    retain = -sum(loop_log_probs(model, batch[0])) / 72
    loss, parts = objective.loss(model, batch, reference)
    assert loss.item() == pytest.approx(retain + forget, rel=1e-5)
    assert parts == {"retain": pytest.approx(retain, rel=1e-5), "forget": pytest.approx(forget, rel=1e-5)}
    backwards = sum(2 / 0.3 * math.log1p(math.exp(-0.3 * ratio)) for ratio in ratios) / 4
    assert abs(forget - backwards) > 0.1, "the direction of the ratio would be seen"


def test_npo_loss_by_hand() -> None:
    """β = 0.5, log-ratios 1.5 and -1.5: 4 log(1 + e^±0.75)."""
    losses = npo_loss(vector(-1, -4), vector(-2.5, -2.5), beta=0.5)
    assert losses.tolist() == pytest.approx([4 * math.log1p(math.exp(0.75)), 4 * math.log1p(math.exp(-0.75))])
    assert losses.tolist() == pytest.approx([4.547484024, 1.547484024], abs=1e-9)
    assert npo_loss(vector(0), vector(-2000), beta=1.0).tolist() == [4000.0], (
        "no overflow where the model is far off"
    )


@settings(deadline=None, database=None, derandomize=True, max_examples=50)
@given(now=st.floats(-60, 0), then=st.floats(-60, 0), beta=st.floats(0.01, 5))
def test_npo_is_its_formula_and_its_slope(now: float, then: float, beta: float) -> None:
    """The slope by the log-probability is 2 σ(β · log-ratio): ascent, whose slope is 1, weighted by how
    far it is.
    """
    logps = vector(now).requires_grad_()
    loss = npo_loss(logps, vector(then), beta=beta)
    sigmoid = 1 / (1 + math.exp(beta * (now - then)))
    assert loss.item() == pytest.approx(-2 / beta * math.log(sigmoid), rel=1e-9, abs=1e-12)
    loss.backward()
    assert logps.grad is not None
    assert logps.grad.item() == pytest.approx(2 * (1 - sigmoid), rel=1e-9, abs=1e-12)


def test_npo_saturates() -> None:
    """As the log-ratio falls the slope falls to nothing and the loss to 0; with β near 0 it stays that of
    ascent.
    """

    def slopes(beta: float) -> list[float]:
        logps = vector(0, -1, -10, -100, -1000).requires_grad_()
        losses = npo_loss(logps, torch.zeros(5, dtype=torch.float64), beta=beta)
        assert (losses >= 0).all()
        (slope,) = torch.autograd.grad(losses.sum(), logps)
        return slope.tolist()

    slope = slopes(0.5)
    assert slope[0] == 1.0, "at the start it is ascent"
    assert slope == sorted(slope, reverse=True)
    assert slope[3] < 1e-20
    assert slopes(1e-9) == pytest.approx([1.0] * 5, abs=1e-6)


def test_the_limit_of_npo_is_ascent() -> None:
    """β → 0: the gradient of ascent on the sum over nine tokens, so of weight 9; for a large β it is
    another.
    """
    model, reference = network(1), network(2)
    batch = NPO().batch(WORLD, **STEP)
    ascent = gradient(model, GradientAscent(forget_weight=9.0).loss(model, batch, reference)[0])
    limit = gradient(model, NPO(beta=1e-6).loss(model, batch, reference)[0])
    assert ascent.norm() > 1
    torch.testing.assert_close(limit, ascent, atol=1e-3, rtol=1e-3)
    assert cosine(gradient(model, NPO(beta=3.0).loss(model, batch, reference)[0]), ascent) < 0.98


@pytest.mark.parametrize("objective", [GradientAscent(forget_weight=1.0), NPO(beta=0.5)])
def test_step_lowers_the_answer_likelihood(objective: GradientAscent | NPO) -> None:
    model = network(1)
    reference = copy.deepcopy(model).eval().requires_grad_(False)
    batch = objective.batch(WORLD, **STEP)
    before = sequence_log_probs(model, batch[1])[0].mean().item()
    loss, parts = objective.loss(model, batch, reference)
    if isinstance(objective, NPO):
        assert parts["forget"] == pytest.approx(2 / 0.5 * math.log(2), rel=1e-6), "at its start"
    loss.backward()
    assert all(p.grad is None for p in reference.parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(parameter.grad, alpha=1e-3)
    assert sequence_log_probs(model, batch[1])[0].mean().item() < before - 1e-3


def test_retain_term_raises_safe_answers() -> None:
    """With next to no weight on forgetting, a step makes the safe answers likelier."""
    model, objective = network(1), GradientAscent(forget_weight=1e-6)
    batch = objective.batch(WORLD, **STEP)
    before = mean_cross_entropy(model, batch[0]).item()
    step = gradient(model, objective.loss(model, batch, model)[0])
    flat = torch.nn.utils.parameters_to_vector(model.parameters())
    torch.nn.utils.vector_to_parameters(flat - 1e-3 * step, model.parameters())
    assert mean_cross_entropy(model, batch[0]).item() < before - 1e-5


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match=r"weight = 0.0: expected a finite number above 0"):
        GradientAscent(forget_weight=0.0)
    with pytest.raises(ValueError, match=r"beta = -1.0: expected a finite number above 0"):
        NPO(beta=-1.0)
