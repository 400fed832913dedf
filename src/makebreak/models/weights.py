"""Weight matrices of language models by their TransformerLens names, always as (d_out, d_in).

GPT-2 stores its matrices transposed: reading `.weight` there would swap left and right null spaces silently.
GPT-2 and GPT-NeoX keep queries, keys and values in one matrix, NeoX head by head. Heads lie side by side in
the outputs of W_Q, W_K and W_V and in the inputs of W_O.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from makebreak.architectures import architecture_of
from makebreak.configs import nearest


def n_embeddings(model: PreTrainedModel) -> int:
    """Number of tokens that a model has an embedding for, which may exceed those of its tokenizer."""
    return len(model.get_input_embeddings().get_parameter("weight"))


def n_layers(model: nn.Module) -> int:
    """Number of blocks of a language model."""
    return int(model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]


def matrix_names(model: nn.Module) -> list[str]:
    """All names that `weight_matrix` accepts for this model, layer by layer."""
    matrices = architecture_of(model).matrices
    return [f"blocks.{layer}.{matrix}" for layer in range(n_layers(model)) for matrix in matrices]


def mlp_input_matrices(model: nn.Module) -> list[str]:
    """Names, within a block, of the matrices that read the MLP's input.

    Args:
        model: A language model.

    Returns:
        `mlp.W_in` and, where the MLP is gated (Llama, Qwen, Gemma), `mlp.W_gate`. As in TransformerLens,
        W_gate gives `mlp.hook_pre` there and W_in, the up projection, `mlp.hook_pre_linear`.
    """
    return [name for name in ("mlp.W_in", "mlp.W_gate") if name in architecture_of(model).matrices]


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
    weight = _module(model, name).get_parameter("weight").detach()
    return _rows_of_matrix(model, name, weight.T if architecture_of(model).stores_transposed else weight)


def set_weight_matrix(model: nn.Module, name: str, matrix: Float[Tensor, "d_out d_in"]) -> None:
    """Writes a weight matrix into a model, in place; other matrices of the same parameter stay as they are.

    Args:
        model: A language model.
        name: A TransformerLens name such as `blocks.0.mlp.W_in`.
        matrix: The new matrix, converted to the dtype and device of the model's.

    Raises:
        ValueError: If the model lacks the name, or the matrix has another shape.
    """
    expected = weight_matrix(model, name).shape
    if matrix.shape != expected:
        raise ValueError(f"matrix of shape {tuple(matrix.shape)}: expected {tuple(expected)}, that of {name}")
    weight = _module(model, name).get_parameter("weight").detach()
    rows = _view_of_matrix(model, name, weight.T if architecture_of(model).stores_transposed else weight)
    rows.copy_(matrix.view(rows.shape))


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
    module = _module(model, name)
    joint = architecture_of(model).joint_matrices(_matrix(name))
    if len(joint) > 1:
        raise ValueError(f"{name!r}: {', '.join(joint)} are one matrix in {type(model).__name__}")
    return module


def bias_vector(model: nn.Module, name: str) -> Float[Tensor, " d_out"]:
    """The bias that is added after the matrix of a name, detached; zeros if it has none.

    Args:
        model: A language model.
        name: A TransformerLens name such as `blocks.0.mlp.W_in`.

    Returns:
        One number per output.

    Raises:
        ValueError: If the model lacks the name.
    """
    bias = getattr(_module(model, name), "bias", None)
    if bias is not None:
        return _rows_of_matrix(model, name, bias.detach())
    weight = weight_matrix(model, name)
    return weight.new_zeros(len(weight))


def _matrix(name: str) -> str:
    """Name of a matrix within its block."""
    return name.split(".", 2)[2]


def _module(model: nn.Module, name: str) -> nn.Module:
    """The module that holds the matrix of a name."""
    known = matrix_names(model)
    if name not in known:
        raise ValueError(
            f"matrix {name!r} does not exist in this {type(model).__name__}; {nearest(name, known)}"
        )
    architecture, layer = architecture_of(model), int(name.split(".", 2)[1])
    return model.get_submodule(architecture.path(layer, architecture.matrices[_matrix(name)]))


def _rows_of_matrix(model: nn.Module, name: str, joint: Tensor) -> Tensor:
    """The rows that belong to one matrix, of a tensor whose rows belong to all that are stored jointly."""
    rows = _view_of_matrix(model, name, joint)
    return rows.flatten(0, 1) if architecture_of(model).joint_by_head else rows


def _view_of_matrix(model: nn.Module, name: str, joint: Tensor) -> Tensor:
    """A view of the rows that belong to one matrix; by group of heads where matrices are stored so."""
    architecture = architecture_of(model)
    config: Any = model.config
    matrices = architecture.joint_matrices(_matrix(name))
    which = matrices.index(_matrix(name))
    rows = [architecture.matrix_shapes(config)[matrix][0] for matrix in matrices]
    if not architecture.joint_by_head:
        return joint.split(rows)[which]
    n_groups = architecture.n_key_value_heads(config) if "attn.W_K" in matrices else 1
    by_group = joint.unflatten(0, (n_groups, -1))
    return by_group.split([n // n_groups for n in rows], dim=1)[which]
