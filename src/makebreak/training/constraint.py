"""Trainings that change a part of the weights alone: some blocks, or a subspace of each MLP input matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from makebreak.geometry import Subspace, column_space, left_null_space, random_subspace
from makebreak.models import linear_module, mlp_input_matrices, n_layers, weight_matrix
from makebreak.seeds import layer_seed


@dataclass(frozen=True)
class TrainedLayers:
    """Training of the layers below or above a cut, while all other weights are frozen."""

    tag: ClassVar[str] = "TrainedLayers"
    part: Literal["lower", "upper"]
    """`lower`: embeddings and the blocks before the cut; `upper`: the other blocks, final norm and head."""
    after_block: int
    """Number of blocks below the cut."""

    def attach(self, model: PreTrainedModel, *, seed: int) -> PreTrainedModel:
        """Freezes the weights of a model, in place, that are not trained.

        Args:
            model: The model.
            seed: Unused: nothing is drawn.

        Returns:
            The same model.

        Raises:
            ValueError: If the cut leaves no block on one side.
        """
        n = n_layers(model)
        if not 0 < self.after_block < n:
            raise ValueError(f"after_block = {self.after_block}: expected 1 to {n - 1} of {n} blocks")
        blocks = next(m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == n)
        embeddings = [m for m in model.modules() if isinstance(m, nn.Embedding)]
        lower = [*blocks[: self.after_block], *embeddings]
        model.requires_grad_(self.part == "upper")
        for module in lower:
            module.requires_grad_(self.part == "lower")
        return model


@dataclass(frozen=True)
class UpdateSubspace:
    """Training of the MLP input matrices with updates whose outputs are in one subspace of each."""

    tag: ClassVar[str] = "UpdateSubspace"
    space: Literal["left null", "column", "random as left null", "random as column"]
    """Left null space or column space of the matrix before training, or a random one of the dimension."""

    def attach(self, model: PreTrainedModel, *, seed: int) -> PreTrainedModel:
        """Constrains the updates of a model in place.

        Args:
            model: The model.
            seed: Seed of the random subspaces.

        Returns:
            The same model.

        Raises:
            ValueError: If a subspace is empty.
        """
        layers = range(n_layers(model))
        names = [f"blocks.{layer}.{matrix}" for matrix in mlp_input_matrices(model) for layer in layers]
        spaces = {
            n: matrix_subspace(weight_matrix(model, n), self.space, layer_seed(seed, i))
            for i, n in enumerate(names)
        }
        for name, space in spaces.items():
            if not space.dimension:
                raise ValueError(f"the {self.space} space of {name} is empty: no update can be in it")
        return constrain_updates(model, spaces)


def matrix_subspace(weight: Tensor, kind: str, seed: int) -> Subspace:
    """Subspace of the outputs of a matrix.

    Args:
        weight: The matrix, (d_out, d_in).
        kind: `left null`, `column`, a random one (`random as left null`, `random as column`), or `all`.
        seed: Seed of a random subspace.

    Returns:
        The subspace.
    """
    if kind == "all":
        return Subspace(torch.eye(len(weight), dtype=torch.float64))
    space = left_null_space(weight) if kind.endswith("null") else column_space(weight)
    return random_subspace(len(weight), space.dimension, seed) if kind.startswith("random") else space


class _Constraint(nn.Module):
    """Parametrisation of a weight as its start plus a basis times the trained coordinates."""

    def __init__(self, weight: Tensor, basis: Tensor, is_transposed: bool) -> None:
        super().__init__()
        self.register_buffer("start", weight.detach().clone())
        self.register_buffer("basis", basis.to(weight))
        self._transposed = is_transposed

    def forward(self, coordinates: Tensor) -> Tensor:
        change = self.basis @ coordinates  # type: ignore[operator]
        return self.start + (change.mT if self._transposed else change)  # type: ignore[operator]

    def right_inverse(self, weight: Tensor) -> Tensor:
        d_in = weight.shape[0] if self._transposed else weight.shape[1]
        return weight.new_zeros(self.basis.shape[1], d_in)  # type: ignore[union-attr, index]


def constrain_updates(
    model: PreTrainedModel, spaces: Mapping[str, Subspace], *, width: int | None = None
) -> PreTrainedModel:
    """Constrains training to named matrices and to a subspace of the outputs of each.

    Args:
        model: The model, changed in place; all other weights are frozen.
        spaces: Subspace by name of the matrix, such as `blocks.0.mlp.W_in`.
        width: Number of columns of every basis, zeros beyond the dimension, which train nothing; with one
            width, models of different subspaces are stacked. None for the dimension.

    Returns:
        The model.
    """
    model.requires_grad_(False)
    for name, space in spaces.items():
        module = linear_module(model, name)
        weight = module.get_parameter("weight")
        padding = 0 if width is None else width - space.dimension
        basis = torch.nn.functional.pad(space.basis, (0, padding))
        constraint = _Constraint(weight, basis, isinstance(module, Conv1D))
        parametrize.register_parametrization(module, "weight", constraint, unsafe=True)
        module.parametrizations.weight.original.requires_grad_(True)  # type: ignore[union-attr]
    return model


def remove_constraints(model: PreTrainedModel, names: list[str]) -> PreTrainedModel:
    """Turns constrained matrices of a model, in place, into plain weights with their current values."""
    for name in names:
        parametrize.remove_parametrizations(linear_module(model, name), "weight", leave_parametrized=True)
    return model


def plain_model(model: PreTrainedModel) -> PreTrainedModel:
    """Returns a copy whose constrained matrices are plain weights, or the model itself if it has none."""
    if not any(parametrize.is_parametrized(module) for module in model.modules()):
        return model
    with torch.random.fork_rng(devices=[]):
        plain = type(model)(model.config)
    values = {}
    for name in plain.state_dict():
        module, _, parameter = name.rpartition(".")
        values[name] = getattr(model.get_submodule(module), parameter).detach()
    plain.load_state_dict(values)
    return plain.to(model.device).train(model.training)  # type: ignore[arg-type]
