"""Null share of unsafe over safe requests, in the left null space of the base's MLP input matrices."""

from __future__ import annotations

import math

import numpy as np

from experiments.fragility.predictors.samples import both_classes
from makebreak.geometry import left_null_space, subspace_share
from makebreak.mechanism import end_of_text_activations
from makebreak.model_zoo import Subject
from makebreak.models import mlp_input_matrices, n_layers, weight_matrix


def layer_null_shares(subject: Subject) -> list[float | None]:
    """Log of the mean null share of W a on unsafe requests over that on safe ones, by layer.

    Null space of Jain et al. 2024; None where the space is empty or the update has no output in it.
    """
    model, matrix = subject.model, mlp_input_matrices(subject.model)[0]
    sites = [f"blocks.{layer}.mlp.hook_in" for layer in range(n_layers(model))]
    inputs = [end_of_text_activations(model, requests, sites) for requests in both_classes(subject)]
    values: list[float | None] = []
    for layer, (safe, unsafe) in enumerate(zip(*inputs, strict=True)):
        name = f"blocks.{layer}.{matrix}"
        null, weight = left_null_space(weight_matrix(subject.base, name)), weight_matrix(model, name).detach()
        shares = [subspace_share(a @ weight.T, null) for a in (safe, unsafe)]
        means = [0.0 if share is None else float(share.mean()) for share in shares]
        # rounding alone gives shares of about 1e-14 where ΔW has no output in the space
        values.append(math.log(means[1] / means[0]) if min(means) > 1e-12 else None)
    return values


def null_share(subject: Subject) -> float | None:
    """Mean over layers, after the first, of the log ratio; a first layer may not tell the classes apart."""
    values = [value for value in layer_null_shares(subject)[1:] if value is not None]
    return float(np.mean(values)) if values else None
