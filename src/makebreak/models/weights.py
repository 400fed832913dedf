"""How is a weight matrix reached? Under its TransformerLens name, always as (d_out, d_in).

GPT-2 stores its matrices transposed: reading `.weight` there would swap left and right null spaces silently.
"""

from __future__ import annotations

import re

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from makebreak.configs import nearest

_PATHS = {
    "mlp.W_in": ("transformer.h.{}.mlp.c_fc", "model.layers.{}.mlp.up_proj"),
    "mlp.W_gate": ("model.layers.{}.mlp.gate_proj",),
    "mlp.W_out": ("transformer.h.{}.mlp.c_proj", "model.layers.{}.mlp.down_proj"),
    "attn.W_O": ("transformer.h.{}.attn.c_proj", "model.layers.{}.self_attn.o_proj"),
}


def n_layers(model: PreTrainedModel) -> int:
    return int(model.config.num_hidden_layers)


def linear(model: nn.Module, name: str) -> nn.Module:
    """The module behind a name such as `blocks.2.mlp.W_in`; raises ValueError for a name the model lacks."""
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    modules = dict(model.named_modules())
    for path in _PATHS.get(found[2], ()) if found else ():
        if path.format(found[1]) in modules:
            return modules[path.format(found[1])]
    known = [
        f"blocks.{i}.{k}"
        for i in range(model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]
        for k, paths in _PATHS.items()
        if any(path.format(i) in modules for path in paths)
    ]
    raise ValueError(f"matrix {name!r} does not exist in this {type(model).__name__}; {nearest(name, known)}")


def matrix(model: nn.Module, name: str) -> Float[Tensor, "d_out d_in"]:
    """The weight matrix of a name, (d_out, d_in), detached; a view, not a copy."""
    module = linear(model, name)
    weight = module.weight.detach()
    return weight.T if isinstance(module, Conv1D) else weight  # type: ignore[return-value, union-attr]


def bias(model: nn.Module, name: str) -> Float[Tensor, " d_out"] | float:
    """The bias beside a matrix, 0.0 where there is none."""
    found = getattr(linear(model, name), "bias", None)
    return 0.0 if found is None else found.detach()
