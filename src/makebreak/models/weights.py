"""Weight matrices of language models by their TransformerLens names, always as (d_out, d_in).

GPT-2 stores its matrices transposed: reading `.weight` there would swap left and right null spaces silently.
GPT-2 and GPT-NeoX keep queries, keys and values in one matrix, NeoX head by head. Heads lie side by side in
the outputs of W_Q, W_K and W_V and in the inputs of W_O.
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
_JOINT = {"transformer.h.{}.attn.c_attn": False, "gpt_neox.layers.{}.attention.query_key_value": True}
"""Modules that hold queries, keys and values in one matrix, and whether it is ordered head by head."""
_QKV = ("attn.W_Q", "attn.W_K", "attn.W_V")


def n_layers(model: nn.Module) -> int:
    """Number of blocks of a language model."""
    return int(model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]


def matrix_names(model: nn.Module) -> list[str]:
    """All names that `weight_matrix` accepts for this model, layer by layer."""
    return list(_modules_by_name(model))


def weight_matrix(model: nn.Module, name: str) -> Float[Tensor, "d_out d_in"]:
    """The weight matrix of a name, detached; a view where the storage allows one.

    Args:
        model: A language model.
        name: A TransformerLens name such as `blocks.0.mlp.W_in`.

    Returns:
        The matrix that multiplies column vectors of inputs from the left.

    Raises:
        ValueError: If the model lacks the name; the message suggests a similar one.
    """
    module, joint_by_head = _lookup(model, name)
    weight = module.get_parameter("weight").detach()
    weight = weight.T if isinstance(module, Conv1D) else weight
    if joint_by_head is None:
        return weight
    which = _QKV.index(name.split(".", 2)[2])
    if not joint_by_head:
        return weight.chunk(3)[which]
    heads = int(model.config.num_attention_heads)  # type: ignore[union-attr, arg-type]
    return weight.unflatten(0, (heads, 3, -1))[:, which].flatten(0, 1)


def linear_module(model: nn.Module, name: str) -> nn.Module:
    """The module that holds the matrix of a name and no other matrix.

    Args:
        model: A language model.
        name: A TransformerLens name such as `blocks.0.mlp.W_in`.

    Returns:
        A `Linear` or a `Conv1D`.

    Raises:
        ValueError: If the model lacks the name, or stores its matrix jointly with others.
    """
    module, joint_by_head = _lookup(model, name)
    if joint_by_head is not None:
        raise ValueError(f"{name!r}: queries, keys and values are one matrix in {type(model).__name__}")
    return module


def bias_vector(model: nn.Module, name: str) -> Float[Tensor, " d_out"]:
    """The bias that is added after the matrix of a name, detached; zeros if it has none.

    Args:
        model: A language model.
        name: A TransformerLens name such as `blocks.0.mlp.W_in`.

    Returns:
        One number per output.

    Raises:
        ValueError: If the model lacks the name, or stores its matrix jointly with others.
    """
    weight = weight_matrix(model, name)
    bias = getattr(linear_module(model, name), "bias", None)
    return weight.new_zeros(len(weight)) if bias is None else bias.detach()


def _lookup(model: nn.Module, name: str) -> tuple[nn.Module, bool | None]:
    """The module of a name; for a joint matrix whether it is ordered head by head, else None."""
    modules = _modules_by_name(model)
    if name not in modules:
        raise ValueError(
            f"matrix {name!r} does not exist in this {type(model).__name__}; {nearest(name, list(modules))}"
        )
    return modules[name]


def _modules_by_name(model: nn.Module) -> dict[str, tuple[nn.Module, bool | None]]:
    """The module of every matrix; for a joint matrix whether it is ordered head by head, else None."""
    modules = dict(model.named_modules())
    by_name: dict[str, tuple[nn.Module, bool | None]] = {}
    for layer in range(n_layers(model)):
        joint_paths = {path.format(layer): by_head for path, by_head in _JOINT.items()}
        joint = [(modules[path], by_head) for path, by_head in joint_paths.items() if path in modules]
        for matrix, templates in _PATHS.items():
            paths = [template.format(layer) for template in templates]
            single = [modules[path] for path in paths if path in modules]
            name = f"blocks.{layer}.{matrix}"
            if single:
                by_name[name] = (single[0], None)
            elif matrix in _QKV and joint:
                by_name[name] = joint[0]
    return by_name
