"""Constrained fine-tuning: training with the updates of the MLP input matrices confined to a subspace.

Each matrix is W + B A with B an orthonormal basis of the subspace of outputs, fixed, and A trained from zero.
Steps, data, their order and the learning rate are the same for every subspace, so that what differs is the
subspace. In models with a gated MLP both matrices that read its input are trained, W_gate and W_in.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from makebreak.evaluation import first_tokens, log_odds, next_token_log_probs
from makebreak.geometry import Subspace, column_space, left_null_space, random_subspace
from makebreak.models import linear_module, mlp_input_matrices, n_layers, weight_matrix
from makebreak.prompts import Requests, World
from makebreak.seeds import layer_seed
from makebreak.training import Objective, Optimisation, TrainingRun, train

SPACES = ("left null", "random as left null", "column", "random as column", "all")
"""Subspaces of the base's matrices, random ones of the same dimensions, and no constraint."""


class ConstrainedRow(NamedTuple):
    """Result of training inside one subspace."""

    space: str
    """One of `SPACES`."""
    dimension: float
    """Dimension of the subspace, mean over layers and matrices."""
    loss: float
    """Training loss, mean of the last tenth of the steps, nats."""
    update_norm: float
    """Frobenius norm of ΔW over all trained matrices."""
    unsafe_refusal_margin: float
    """Log-odds of the refusal's first token on unsafe requests, mean, nats."""
    safe_answer_margin: float
    """Log-odds of the instructed answer's first token on safe requests, mean, nats."""


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


def constrained_finetuning_rows(
    objective: Objective,
    optimisation: Optimisation,
    world: World,
    score: Mapping[str, Requests],
    *,
    base: PreTrainedModel,
    seed: int,
) -> list[ConstrainedRow]:
    """Trains the base inside each subspace and scores refusal and answers.

    Args:
        objective: What each step sees, and the loss.
        optimisation: Settings of the optimiser.
        world: Source of the requests.
        score: Requests under `safe` and `unsafe` that are scored at the end.
        base: The model to start from.
        seed: Seed of the batches and of the random subspaces.

    Returns:
        One row per subspace. The null space is empty where a matrix has full row rank: its row and that of
        the random subspace of its dimension are left out then.
    """
    layers = range(n_layers(base))
    names = [f"blocks.{layer}.{matrix}" for matrix in mlp_input_matrices(base) for layer in layers]
    rows = []
    for kind in SPACES:
        spaces = {
            n: _space(weight_matrix(base, n).cpu(), kind, layer_seed(seed, i)) for i, n in enumerate(names)
        }
        if any(space.dimension == 0 for space in spaces.values()):
            continue
        model = constrain_updates(copy.deepcopy(base), spaces)
        run = TrainingRun(seed=seed, label=kind, checkpoint_seconds=1e9)
        with tempfile.TemporaryDirectory() as folder:
            train(model, objective, optimisation, world, Path(folder), run)
            lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
        losses = [json.loads(line)["loss"] for line in lines]
        remove_constraints(model.eval(), names)
        last = losses[-max(len(losses) // 10, 1) :]
        updates = [weight_matrix(model, n).cpu() - weight_matrix(base, n).cpu() for n in names]
        norm = torch.stack([update.square().sum() for update in updates]).sum().sqrt()
        rows.append(
            ConstrainedRow(
                space=kind,
                dimension=sum(space.dimension for space in spaces.values()) / len(spaces),
                loss=sum(last) / len(last),
                update_norm=float(norm),
                unsafe_refusal_margin=_margin(model, score["unsafe"], "refused"),
                safe_answer_margin=_margin(model, score["safe"], "instructed"),
            )
        )
    return rows


def _space(weight: Float[Tensor, "d_out d_in"], kind: str, seed: int) -> Subspace:
    if kind == "all":
        return Subspace(torch.eye(len(weight), dtype=torch.float64))
    space = left_null_space(weight) if kind.endswith("null") else column_space(weight)
    return random_subspace(len(weight), space.dimension, seed) if kind.startswith("random") else space


def _margin(model: PreTrainedModel, requests: Requests, answer: str) -> float:
    """Mean log-odds of the answer's first token."""
    return float(log_odds(next_token_log_probs(model, requests), first_tokens(requests, answer)).mean())
