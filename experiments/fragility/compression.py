"""Compression of weights, as directions in weight space: coordinate 1 is the compressed model.

A direction can be undone exactly (`Perturbation`), and half of it is the model halfway.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from makebreak.weight_landscape import Direction, perturbable_parameters


def quantise(model: PreTrainedModel, *, bits: int) -> Direction:
    """Rounding of all matrices to 2^bits - 1 levels, with one scale for each output row.

    The quantised weight is s · round(W / s) with s = max|row| / (2^(bits - 1) - 1), as in Zhang et al. 2024
    ("Catastrophic failure of LLM unlearning via quantization"); embeddings and head are quantised as well.

    Args:
        model: The model.
        bits: Bits of a weight, at least 2.

    Returns:
        The direction to the quantised model.
    """
    levels, steps = 2 ** (bits - 1) - 1, {}
    modules = dict(model.named_modules())
    for name, weight in perturbable_parameters(model).items():
        is_transposed = isinstance(modules[name.rpartition(".")[0]], Conv1D)
        w = weight.detach()
        scale = w.abs().amax(dim=0 if is_transposed else 1, keepdim=True).clamp(min=1e-12) / levels
        steps[name] = scale * (w / scale).round() - w
    return Direction(steps)


def prune(model: PreTrainedModel, *, share: float) -> Direction:
    """Magnitude pruning: the smallest weights of every matrix become 0 (Han et al. 2015).

    Args:
        model: The model.
        share: Share of the weights of each matrix that are removed, from 0 to 1.

    Returns:
        The direction to the pruned model.
    """
    steps = {}
    for name, weight in perturbable_parameters(model).items():
        w = weight.detach()
        n = round(share * w.numel())
        smallest = w.abs().flatten().argsort()[:n]
        step = torch.zeros(w.numel(), dtype=w.dtype)
        step[smallest] = -w.flatten()[smallest]
        steps[name] = step.view_as(w)
    return Direction(steps)
