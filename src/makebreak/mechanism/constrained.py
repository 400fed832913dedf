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
from transformers import PreTrainedModel

from makebreak.evaluation import first_tokens, log_odds, next_token_log_probs
from makebreak.models import mlp_input_matrices, n_layers, weight_matrix
from makebreak.prompts import Requests, World
from makebreak.seeds import layer_seed
from makebreak.training import (
    Objective,
    Optimisation,
    TrainingRun,
    constrain_updates,
    matrix_subspace,
    remove_constraints,
    train,
)

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
            n: matrix_subspace(weight_matrix(base, n).cpu(), kind, layer_seed(seed, i))
            for i, n in enumerate(names)
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


def _margin(model: PreTrainedModel, requests: Requests, answer: str) -> float:
    """Mean log-odds of the answer's first token."""
    return float(log_odds(next_token_log_probs(model, requests), first_tokens(requests, answer)).mean())
