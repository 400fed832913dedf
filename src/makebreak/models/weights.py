"""How is a weight matrix reached? Under its TransformerLens name, always as (d_out, d_in).

GPT-2 stores its matrices transposed: reading `.weight` there would swap left and right null spaces silently.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from makebreak.configs import nearest

_PATHS = {
    "mlp.W_in": ("transformer.h.{}.mlp.c_fc", "model.layers.{}.mlp.up_proj"),
    "mlp.W_gate": ("model.layers.{}.mlp.gate_proj",),
    "mlp.W_out": ("transformer.h.{}.mlp.c_proj", "model.layers.{}.mlp.down_proj"),
    "attn.W_O": ("transformer.h.{}.attn.c_proj", "model.layers.{}.self_attn.o_proj"),
}


def n_layers(model: nn.Module) -> int:
    return int(model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]


def linear(model: nn.Module, name: str) -> nn.Module:
    """The module behind a name such as `blocks.2.mlp.W_in`; raises ValueError for a name the model lacks."""
    modules = dict(model.named_modules())
    known = {
        f"blocks.{layer}.{part}": modules[path.format(layer)]
        for layer in range(n_layers(model))
        for part, paths in _PATHS.items()
        for path in paths
        if path.format(layer) in modules
    }
    if name not in known:
        raise ValueError(f"matrix {name!r} does not exist in this {type(model).__name__}; {nearest(name, list(known))}")
    return known[name]


def matrix(model: nn.Module, name: str) -> Float[Tensor, "d_out d_in"]:
    """The weight matrix of a name, (d_out, d_in), detached; a view, not a copy."""
    module = linear(model, name)
    weight = module.get_parameter("weight").detach()
    return weight.T if isinstance(module, Conv1D) else weight
