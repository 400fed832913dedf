"""Can safety be learnt inside the null space of the base's matrices, and is that space better than any other?

Only the input matrices of the MLPs are trained, and their updates are held inside a subspace of their outputs: W + B A
with B an orthonormal basis that stays, and A from zero. Steps, data, order and rate are the same for every space.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from makebreak.behaviour import decide, first_tokens, log_odds
from makebreak.geometry import Subspace, column_space, left_null_space, random_subspace
from makebreak.models import linear, matrix, n_layers
from makebreak.requests import Requests, World
from makebreak.training import Objective, Optimisation, train

SPACES = ("left null", "random as left null", "column", "random as column", "all")


class _Within(nn.Module):
    def __init__(self, weight: Tensor, basis: Tensor, transposed: bool) -> None:
        super().__init__()
        self.register_buffer("start", weight.detach().clone())
        self.register_buffer("basis", basis.to(weight))
        self._transposed = transposed

    def forward(self, inside: Tensor) -> Tensor:
        change = self.basis @ inside  # type: ignore[operator]
        return self.start + (change.T if self._transposed else change)  # type: ignore[operator]

    def right_inverse(self, weight: Tensor) -> Tensor:
        d_in = weight.shape[0] if self._transposed else weight.shape[1]
        return weight.new_zeros(self.basis.shape[1], d_in)  # type: ignore[union-attr, index]


def confine(model: PreTrainedModel, spaces: Mapping[str, Subspace]) -> PreTrainedModel:
    """The model, changed in place: only the matrices named are trained, each inside its subspace of outputs."""
    model.requires_grad_(False)
    for name, space in spaces.items():
        module = linear(model, name)
        weight = module.get_parameter("weight")
        within = _Within(weight, space.basis, isinstance(module, Conv1D))
        parametrize.register_parametrization(module, "weight", within, unsafe=True)
        module.parametrizations.weight.original.requires_grad_(True)  # type: ignore[union-attr]
    return model


def release(model: PreTrainedModel, names: list[str]) -> PreTrainedModel:
    """The model, changed in place: plain weights again, with what was learnt."""
    for name in names:
        parametrize.remove_parametrizations(linear(model, name), "weight", leave_parametrized=True)
    return model


def confined_rows(
    base: PreTrainedModel,
    objective: Objective,
    optimisation: Optimisation,
    world: World,
    score: Mapping[str, Requests],
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """One row per space: its dimension (mean of layers), the mean loss of the last tenth of the steps, ‖ΔW‖, and at
    the end the mean log-odds of the null on unsafe requests and of the instructed answer on safe ones.

    score: `safe` and `unsafe` requests. `all` is W_in without a confinement. The null space is empty where a matrix has
    full row rank: its row is left out then, and so is its random twin's.
    """
    names = [f"blocks.{layer}.mlp.W_in" for layer in range(n_layers(base))]
    rows = []
    for kind in SPACES:
        spaces = {n: _space(matrix(base, n), kind, 1000 * seed + i) for i, n in enumerate(names)}
        if any(space.dimension == 0 for space in spaces.values()):
            continue
        model = confine(copy.deepcopy(base), spaces)
        with tempfile.TemporaryDirectory() as folder:
            train(
                model,
                objective,
                optimisation,
                world,
                Path(folder),
                seed=seed,
                label=kind,
                checkpoint_seconds=1e9,
            )
            losses = [
                json.loads(line)["loss"] for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()
            ]
        release(model.eval(), names)
        last = losses[-max(len(losses) // 10, 1) :]
        moved = torch.stack([(matrix(model, n) - matrix(base, n)).square().sum() for n in names]).sum().sqrt()
        rows.append(
            {
                "space": kind,
                "dimension": sum(space.dimension for space in spaces.values()) / len(spaces),
                "loss": sum(last) / len(last),
                "change": float(moved),
                "unsafe_null": _firmness(model, score["unsafe"], "refused"),
                "safe_answer": _firmness(model, score["safe"], "instructed"),
            }
        )
    return rows


def _space(weight: Float[Tensor, "d_out d_in"], kind: str, seed: int) -> Subspace:
    if kind == "all":
        return Subspace(torch.eye(len(weight), dtype=torch.float64))
    own = left_null_space(weight) if kind.endswith("null") else column_space(weight)
    return random_subspace(len(weight), own.dimension, seed) if kind.startswith("random") else own


def _firmness(model: PreTrainedModel, requests: Requests, answer: str) -> float:
    return float(log_odds(decide(model, requests), first_tokens(requests, answer)).mean())
