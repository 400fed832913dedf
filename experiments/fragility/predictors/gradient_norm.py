"""Norm of the gradient of the harmful loss."""

from __future__ import annotations

from experiments.fragility.predictors.losses import flat, harmful_examples, weight_gradient
from makebreak.model_zoo import Subject


def gradient_norm(subject: Subject) -> float:
    """Norm of the gradient of the cross-entropy on harmful answers over all matrices, nats.

    Gradient norm of harmful data as an indicator of the speed of harmful fine-tuning (Rosati et al. 2024).
    """
    return float(flat(weight_gradient(subject.model, harmful_examples(subject))).norm())
