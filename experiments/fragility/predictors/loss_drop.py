"""One-step loss drop: how much one step of harmful fine-tuning lowers the harmful loss."""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.fragility.predictors.losses import descent_direction, harmful_examples
from makebreak.model_zoo import AlignedPair
from makebreak.training import mean_cross_entropy
from makebreak.weight_landscape import Perturbation

_RELATIVE_STEP = 0.01


def loss_drop(subject: AlignedPair) -> float:
    """Fall of the cross-entropy on harmful answers after a step of 1 % of the weights' norm, nats.

    The step is along the negative gradient, as in the regulariser of Booster (Huang et al. 2024).
    """
    examples = harmful_examples(subject)
    direction = descent_direction(subject.model, examples)

    def loss() -> Tensor:
        with torch.no_grad():
            return mean_cross_entropy(subject.model, examples, share_prefix=False)

    before = loss()
    with Perturbation(subject.model, direction) as perturbation:
        perturbation.set(_RELATIVE_STEP)
        after = loss()
    return float(before - after)
