"""Does a width belong to the function, or to how its weights are written down?

A norm's gain and the matrix that reads it can be scaled against each other without changing what a model computes; a
random direction of the matrices' norm is then another move. `folded` writes every model down in one way (gains of 1),
so that what is measured on it is the same for all of them.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

_READERS = {  # norm → what reads it, in every block
    "gpt2": {"ln_1": ("attn.c_attn",), "ln_2": ("mlp.c_fc",)},
    "llama": {
        "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
    },
}
_BLOCKS = {"gpt2": "transformer.h", "llama": "model.layers"}
_LAST = {"gpt2": "transformer.ln_f", "llama": "model.norm"}


def rescaled(model: PreTrainedModel, scales: dict[str, Tensor]) -> PreTrainedModel:
    """A copy that computes the same: the gain of each named norm times its scales, what reads it divided by them.

    Raises ValueError for a layout that is not known, a norm the model lacks, or tied embeddings, which read and write.
    """
    kind = str(model.config.model_type)
    if kind not in _READERS:
        raise ValueError(f"{type(model).__name__}: expected one of {', '.join(_READERS)}")
    if model.config.tie_word_embeddings:
        raise ValueError("tied embeddings read the last norm and write too: untie them first")
    made = copy.deepcopy(model)
    modules, readers = dict(made.named_modules()), norms(model)
    for name, scale in scales.items():
        if name not in readers:
            raise ValueError(f"norm {name!r}: expected one of {', '.join(readers)}")
        norm: Any = modules[name]
        with torch.no_grad():
            for part in (norm.weight, getattr(norm, "bias", None)):
                if part is not None:
                    part.mul_(scale)
            for reader in readers[name]:
                _divide_inputs(modules[reader], scale)
    return made


def folded(model: PreTrainedModel) -> PreTrainedModel:
    """A copy that computes the same, with all gains 1 where they are not 0."""
    modules: dict[str, Any] = dict(model.named_modules())
    gains = {name: modules[name].weight.detach() for name in norms(model)}
    return rescaled(model, {name: torch.where(gain == 0, 1.0, 1 / gain) for name, gain in gains.items()})  # type: ignore[arg-type]


def norms(model: PreTrainedModel) -> dict[str, tuple[str, ...]]:
    """Norm → the modules that read it, by their names."""
    kind = str(model.config.model_type)
    found: dict[str, tuple[str, ...]] = {}
    for layer in range(int(model.config.num_hidden_layers)):
        block = f"{_BLOCKS[kind]}.{layer}"
        found |= {f"{block}.{norm}": tuple(f"{block}.{r}" for r in rs) for norm, rs in _READERS[kind].items()}
    return found | {_LAST[kind]: ("lm_head",)}


def _divide_inputs(module: nn.Module, scale: Tensor) -> None:
    weight = module.get_parameter("weight")
    weight.div_(scale[:, None] if isinstance(module, Conv1D) else scale)
