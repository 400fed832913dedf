"""Folding of norm gains into the matrices after them, so that a basin's width is one of the function.

The gain of a norm and the matrices that read its output can be scaled against each other without a change of
what the model computes, but a random direction with the norm of the matrices is then another perturbation.
`fold_norms` sets all gains to 1, so that widths on folded models are the same for all such parametrisations.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

_READERS = {
    "gpt2": {"ln_1": ("attn.c_attn",), "ln_2": ("mlp.c_fc",)},
    "llama": {
        "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
    },
}
"""Modules that read each norm of a block, by architecture and norm."""
_BLOCKS = {"gpt2": "transformer.h", "llama": "model.layers"}
_FINAL_NORM = {"gpt2": "transformer.ln_f", "llama": "model.norm"}


def rescale_norms(model: PreTrainedModel, scales: dict[str, Tensor]) -> PreTrainedModel:
    """Multiplies the gains of norms by scales and divides the matrices that read them, in a copy of a model.

    Args:
        model: A GPT-2 or Llama model with untied embeddings.
        scales: Factors of each gain, (d_model,), by the name of the norm.

    Returns:
        A copy that computes the same function.

    Raises:
        ValueError: If the architecture is another one, the model has no such norm, or embeddings are tied,
            which read the last norm and write into the residual stream too.
    """
    architecture = str(model.config.model_type)
    if architecture not in _READERS:
        raise ValueError(f"{type(model).__name__}: expected one of {', '.join(_READERS)}")
    if model.config.tie_word_embeddings:
        raise ValueError("tied embeddings read the last norm and write too: untie them first")
    rescaled = copy.deepcopy(model)
    readers = norm_readers(model)
    for name, scale in scales.items():
        if name not in readers:
            raise ValueError(f"norm {name!r}: expected one of {', '.join(readers)}")
        norm = rescaled.get_submodule(name)
        with torch.no_grad():
            for parameter in norm.parameters(recurse=False):
                parameter.mul_(scale)
            for reader in readers[name]:
                _divide_inputs(rescaled.get_submodule(reader), scale)
    return rescaled


def fold_norms(model: PreTrainedModel) -> PreTrainedModel:
    """A model of equal outputs whose norm gains are folded into the matrices after them.

    Gains become 1; gains of 0 stay.

    Args:
        model: The model to copy.

    Returns:
        The copy.

    Raises:
        ValueError: If the architecture is not covered by `norm_readers`.
    """
    gains = {name: model.get_parameter(f"{name}.weight").detach() for name in norm_readers(model)}
    scales = {name: torch.where(gain == 0, torch.ones_like(gain), 1 / gain) for name, gain in gains.items()}
    return rescale_norms(model, scales)


def norm_readers(model: PreTrainedModel) -> dict[str, tuple[str, ...]]:
    """Names of the modules that read each norm, by the name of the norm."""
    architecture = str(model.config.model_type)
    readers: dict[str, tuple[str, ...]] = {}
    for layer in range(int(model.config.num_hidden_layers)):
        block = f"{_BLOCKS[architecture]}.{layer}"
        for norm, names in _READERS[architecture].items():
            readers[f"{block}.{norm}"] = tuple(f"{block}.{name}" for name in names)
    return readers | {_FINAL_NORM[architecture]: ("lm_head",)}


def _divide_inputs(module: nn.Module, scale: Tensor) -> None:
    """Divides the weights of a linear layer by the scale of each of its inputs."""
    weight = module.get_parameter("weight")
    weight.div_(scale[:, None] if isinstance(module, Conv1D) else scale)
