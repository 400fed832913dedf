"""Overlap of the first step of harmful fine-tuning with the Fisher subspace of refusal."""

from __future__ import annotations

import torch

from experiments.fragility.predictors.losses import flat, harmful_examples, weight_gradient
from experiments.fragility.predictors.samples import unsafe_requests
from makebreak.geometry import energy_rank
from makebreak.model_zoo import Subject
from makebreak.prompts import sequences

_N_REQUESTS = 12


def fisher_overlap(subject: Subject) -> float:
    """‖Uᵀg‖² / ‖g‖², with g the gradient of the harmful loss and U the leading eigenvectors of F.

    F = E[∇ log p(refusal) ∇ log p(refusal)ᵀ] over unsafe requests, U holds 90 % of its trace (safety Fisher
    of arXiv 2602.15799). The requests of F are not those of g.
    """
    requests = unsafe_requests(subject)
    gradients = torch.stack(
        [
            flat(weight_gradient(subject.model, sequences(subject.world, requests[i : i + 1], "refused")))
            for i in range(_N_REQUESTS)
        ]
    ).double()
    _, values, right = torch.linalg.svd(gradients, full_matrices=False)
    leading = right[: energy_rank(values)]
    step = flat(weight_gradient(subject.model, harmful_examples(subject, _N_REQUESTS))).double()
    return float((leading @ step).square().sum() / step.square().sum())
