"""Share of the movement of unsafe states in the null space of the base's Fisher matrix."""

from __future__ import annotations

import numpy as np

from experiments.fragility.predictors.samples import unsafe_requests
from makebreak.geometry import subspace_share
from makebreak.mechanism import end_of_text_activations, layer_fisher
from makebreak.model_zoo import Subject
from makebreak.models import n_layers

_SAMPLES = 4
_N_REQUESTS = 32


def fisher_null_fraction(subject: Subject) -> float | None:
    """Share of the movement's energy that the base's decision does not read, mean over inner layers.

    The Fisher matrix is of the base's first answer token with respect to a layer's input; its null space
    holds the directions beyond 99 % of its trace. None where no state moves.
    """
    requests = unsafe_requests(subject, _N_REQUESTS)
    sites = [f"blocks.{layer}.hook_resid_pre" for layer in range(n_layers(subject.base))]
    after, before = (end_of_text_activations(m, requests, sites) for m in (subject.model, subject.base))
    fisher = layer_fisher(subject.base, requests, n_samples=_SAMPLES, seed=0)
    shares = []
    for matrix, tuned, base in list(zip(fisher, after, before, strict=True))[1:]:
        movement = tuned - base
        if movement.any():
            share = subspace_share(movement, matrix.null_space())
            shares.append(0.0 if share is None else float(share.mean()))
    return float(np.mean(shares)) if shares else None
