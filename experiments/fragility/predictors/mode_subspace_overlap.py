"""Mode subspace overlap of safe and unsafe states."""

from __future__ import annotations

import numpy as np
import torch

from experiments.fragility.predictors.samples import both_classes
from makebreak.geometry import energy_rank
from makebreak.mechanism import end_of_text_activations
from makebreak.model_zoo import Subject
from makebreak.models import n_layers


def mode_subspace_overlap(subject: Subject) -> float:
    """‖Q_sᵀQ_u‖² / min(k_s, k_u) minus chance, max(k_s, k_u) / d, mean over layers from .65 of the depth on.

    Q_s and Q_u are the leading singular subspaces (90 % of the energy) of the states of safe and unsafe
    requests at the end of text (arXiv 2505.14185, released code).
    """
    depth = n_layers(subject.model)
    layers = range(int(0.65 * depth), depth)
    sites = [f"blocks.{layer}.hook_resid_post" for layer in layers]
    states = [end_of_text_activations(subject.model, requests, sites) for requests in both_classes(subject)]
    overlaps = []
    for pair in zip(*states, strict=True):
        bases = []
        for matrix in pair:
            _, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
            bases.append(right[: energy_rank(values)])
        ranks = [len(basis) for basis in bases]
        overlap = float((bases[0] @ bases[1].T).square().sum()) / min(ranks)
        overlaps.append(overlap - max(ranks) / pair[0].shape[1])
    return float(np.mean(overlaps))
