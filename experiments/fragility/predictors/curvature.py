"""Curvature of the refusal loss: the largest eigenvalue of its Hessian."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from experiments.fragility.predictors.losses import refusal_examples
from makebreak.model_zoo import Subject
from makebreak.training import mean_cross_entropy
from makebreak.weight_landscape import perturbable_parameters

_ITERATIONS = 5
_N_REQUESTS = 24


def curvature(subject: Subject) -> float:
    """Rayleigh quotient after five power iterations of the Hessian of the refusal loss over all matrices.

    Sharpness by power iteration as in Yao et al. 2020 (PyHessian); the loss is the cross-entropy on refusals.
    """
    weights = list(perturbable_parameters(subject.model).values())
    with sdpa_kernel(SDPBackend.MATH):  # the other kernels have no second derivative
        loss = mean_cross_entropy(subject.model, refusal_examples(subject, _N_REQUESTS), share_prefix=False)
        gradients = torch.autograd.grad(loss, weights, create_graph=True)
    random = torch.Generator().manual_seed(0)
    vector = [torch.randn(w.shape, generator=random) for w in weights]
    value = 0.0
    for _ in range(_ITERATIONS):
        norm = torch.stack([v.square().sum() for v in vector]).sum().sqrt()
        vector = [v / norm for v in vector]
        product = torch.autograd.grad(gradients, weights, vector, retain_graph=True)
        value = float(sum((p * v).sum() for p, v in zip(product, vector, strict=True)))
        vector = [p.detach() for p in product]
    return value
