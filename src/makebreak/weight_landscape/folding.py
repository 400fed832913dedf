"""Folding of norm gains into the matrices after them, so that a basin's width is one of the function.

The gain of a norm and the matrices that read its output can be scaled against each other without a change of
what the model computes, but a random direction with the norm of the matrices is then another perturbation.
`fold_norms` sets all gains to 1, so that widths on folded models are the same for all such parametrisations.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.architectures import architecture_of
from makebreak.models import n_layers


def rescale_norms(model: PreTrainedModel, scales: dict[str, Tensor]) -> PreTrainedModel:
    """Multiplies the gains of norms by scales and divides the matrices that read them, in a copy of a model.

    Args:
        model: A model with untied embeddings.
        scales: Factors of each gain, (d_model,), by the name of the norm.

    Returns:
        A copy that computes the same function.

    Raises:
        ValueError: If the architecture is not known, no matrix reads such a norm, or embeddings are tied,
            which read the last norm and write into the residual stream too.
    """
    if model.config.tie_word_embeddings:
        raise ValueError("tied embeddings read the last norm and write too: untie them first")
    rescaled, architecture = copy.deepcopy(model), architecture_of(model)
    readers = norm_readers(model)
    for name, scale in scales.items():
        if name not in readers:
            raise ValueError(f"norm {name!r}: expected one of {', '.join(readers)}")
        with torch.no_grad():
            for kind, parameter in rescaled.get_submodule(name).named_parameters(recurse=False):
                offset = architecture.gain_offset if kind == "weight" else 0.0
                parameter.copy_((parameter + offset) * scale - offset)
            for reader in readers[name]:
                transposed = architecture.stores_transposed and reader != architecture.head
                inputs = scale[:, None] if transposed else scale
                rescaled.get_submodule(reader).get_parameter("weight").div_(inputs)
    return rescaled


def fold_norms(model: PreTrainedModel) -> PreTrainedModel:
    """A model of equal outputs whose norm gains are folded into the matrices after them.

    Gains become 1; gains of 0 stay, and those of norms of queries and keys, which no matrix reads.

    Args:
        model: The model to copy.

    Returns:
        The copy.

    Raises:
        ValueError: If the architecture is not known, normalises what its blocks write, or has experts.
    """
    architecture = architecture_of(model)
    if architecture.has_experts:
        raise ValueError(
            f"{type(model).__name__} is a mixture of experts, whose matrices have no names: gains of the "
            "norms that they read cannot be folded"
        )
    if architecture.normalises_writes:
        raise ValueError(
            f"{type(model).__name__} normalises what its blocks write: no matrix reads those norms, "
            "so that their gains cannot be folded"
        )
    gains = {
        name: model.get_parameter(f"{name}.weight").detach() + architecture.gain_offset
        for name in norm_readers(model)
    }
    scales = {name: torch.where(gain == 0, torch.ones_like(gain), 1 / gain) for name, gain in gains.items()}
    return rescale_norms(model, scales)


def norm_readers(model: PreTrainedModel) -> dict[str, tuple[str, ...]]:
    """Names of the modules that read each norm, by the name of the norm, without norms that none reads."""
    architecture = architecture_of(model)
    readers = {
        architecture.path(layer, norm): tuple(architecture.path(layer, module) for module in modules)
        for layer in range(n_layers(model))
        for norm, modules in architecture.norms.items()
        if modules
    }
    return readers | {architecture.final_norm: (architecture.head,)}
