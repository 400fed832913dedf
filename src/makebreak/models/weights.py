"""How is a weight matrix reached? Under its TransformerLens name, always as (d_out, d_in).

GPT-2 stores its matrices transposed: reading `.weight` there would swap left and right null spaces silently. GPT-2 and
GPT-NeoX keep queries, keys and values in one matrix, NeoX head by head. Heads lie side by side in W_Q, W_K and W_V (of
outputs) and in W_O (of inputs).
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from makebreak.configs import nearest

_PATHS = {
    "attn.W_Q": ("model.layers.{}.self_attn.q_proj",),
    "attn.W_K": ("model.layers.{}.self_attn.k_proj",),
    "attn.W_V": ("model.layers.{}.self_attn.v_proj",),
    "attn.W_O": (
        "transformer.h.{}.attn.c_proj",
        "model.layers.{}.self_attn.o_proj",
        "gpt_neox.layers.{}.attention.dense",
    ),
    "mlp.W_in": (
        "transformer.h.{}.mlp.c_fc",
        "model.layers.{}.mlp.up_proj",
        "gpt_neox.layers.{}.mlp.dense_h_to_4h",
    ),
    "mlp.W_gate": ("model.layers.{}.mlp.gate_proj",),
    "mlp.W_out": (
        "transformer.h.{}.mlp.c_proj",
        "model.layers.{}.mlp.down_proj",
        "gpt_neox.layers.{}.mlp.dense_4h_to_h",
    ),
}
_JOINT = {
    "transformer.h.{}.attn.c_attn": False,
    "gpt_neox.layers.{}.attention.query_key_value": True,
}  # by head?
_QKV = ("attn.W_Q", "attn.W_K", "attn.W_V")


def n_layers(model: nn.Module) -> int:
    return int(model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]


def matrix_names(model: nn.Module) -> list[str]:
    """All names that `matrix` accepts for this model, layer by layer."""
    return list(_found(model))


def matrix(model: nn.Module, name: str) -> Float[Tensor, "d_out d_in"]:
    """The weight matrix of a name, (d_out, d_in), detached; a view where the storage allows one.

    Raises ValueError, naming a near one, for a name the model lacks.
    """
    module, joint_by_head = _named(model, name)
    weight = module.get_parameter("weight").detach()
    weight = weight.T if isinstance(module, Conv1D) else weight
    if joint_by_head is None:
        return weight
    which = _QKV.index(name.split(".", 2)[2])
    if not joint_by_head:
        return weight.chunk(3)[which]
    heads = int(model.config.num_attention_heads)  # type: ignore[union-attr, arg-type]
    return weight.unflatten(0, (heads, 3, -1))[:, which].flatten(0, 1)


def linear(model: nn.Module, name: str) -> nn.Module:
    """The module that holds the matrix of a name, and no other's.

    Raises ValueError for a name the model lacks, or whose matrix is joint with others'.
    """
    module, joint_by_head = _named(model, name)
    if joint_by_head is not None:
        raise ValueError(f"{name!r}: queries, keys and values are one matrix in {type(model).__name__}")
    return module


def bias(model: nn.Module, name: str) -> Float[Tensor, " d_out"]:
    """The bias that is added behind the matrix of a name, detached; zeros where it has none.

    Raises ValueError as `linear`.
    """
    weight = matrix(model, name)
    own = getattr(linear(model, name), "bias", None)
    return weight.new_zeros(len(weight)) if own is None else own.detach()


def _named(model: nn.Module, name: str) -> tuple[nn.Module, bool | None]:
    found = _found(model)
    if name not in found:
        raise ValueError(
            f"matrix {name!r} does not exist in this {type(model).__name__}; {nearest(name, list(found))}"
        )
    return found[name]


def _found(model: nn.Module) -> dict[str, tuple[nn.Module, bool | None]]:
    """name → its module, and for a joint one whether it goes head by head."""
    modules = dict(model.named_modules())
    found: dict[str, tuple[nn.Module, bool | None]] = {}
    for layer in range(n_layers(model)):
        joint = [(modules[p.format(layer)], by) for p, by in _JOINT.items() if p.format(layer) in modules]
        for part, paths in _PATHS.items():
            own = [modules[path.format(layer)] for path in paths if path.format(layer) in modules]
            name = f"blocks.{layer}.{part}"
            if own:
                found[name] = (own[0], None)
            elif part in _QKV and joint:
                found[name] = joint[0]
    return found
