"""A change of one matrix that reads the MLP's input is seen at that matrix: W_gate, W_in, GPT-2's W_in."""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.geometry import column_space, energy_share, left_null_space
from makebreak.mechanism import (
    constrained,
    constrained_finetuning_rows,
    localisation_rows,
    null_share_rows,
    preactivation_rows,
    read_gain_rows,
    update_energy_rows,
    update_rows,
)
from makebreak.mechanism.end_of_text import end_of_text_activations
from makebreak.models import (
    ModelConfig,
    bias_vector,
    create_model,
    mlp_input_matrices,
    part_names,
    weight_matrix,
)
from makebreak.prompts import load_world
from makebreak.tables import as_dicts
from makebreak.training import SSFT, Optimisation

WORLD = load_world("mini")
REQUESTS = {family: WORLD.sample(family, 12, seed=1000) for family in ("safe", "unsafe")}
OUTCOMES = {family: np.zeros(12, dtype=np.int64) for family in REQUESTS}
LAYER, STRENGTH = 1, 0.3
CASES = [("llama", "mlp.W_gate"), ("llama", "mlp.W_in"), ("gpt2", "mlp.W_in")]


def network(architecture: str) -> PreTrainedModel:
    config = ModelConfig(architecture, n_layers=2, n_heads=2, d_model=16, d_mlp=40)  # type: ignore[arg-type]
    model = create_model(config, d_vocab=len(WORLD.vocabulary), n_ctx=WORLD.sequence_length, seed=1000).eval()
    random = torch.Generator().manual_seed(1000)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random) * 0.1)
    return model


class Planted(NamedTuple):
    """A network in which one matrix differs from the base by `STRENGTH` u vᵀ, with unit u and v."""

    base: PreTrainedModel
    model: PreTrainedModel
    u: Tensor
    v: Tensor


def planted(architecture: str, matrix: str, null_share: float = 0.25) -> Planted:
    """A share `null_share` of the energy of u lies in the left null space of the base's matrix."""
    base = network(architecture)
    name = f"blocks.{LAYER}.{matrix}"
    weight, random = weight_matrix(base, name), torch.Generator().manual_seed(1001)
    inside, outside = (
        space.basis @ torch.randn(space.dimension, generator=random, dtype=torch.float64)
        for space in (left_null_space(weight), column_space(weight))
    )
    inside, outside = inside / inside.norm(), outside / outside.norm()
    u = (null_share**0.5 * inside + (1 - null_share) ** 0.5 * outside).float()
    v = torch.nn.functional.normalize(torch.randn(weight.shape[1], generator=random), dim=0)
    model = copy.deepcopy(base)
    weight_matrix(model, name).add_(STRENGTH * torch.outer(u, v))
    return Planted(base, model, u, v)


def mlp_inputs(model: PreTrainedModel) -> dict[str, Tensor]:
    site = f"blocks.{LAYER}.mlp.hook_in"
    return {family: end_of_text_activations(model, batch, [site])[0] for family, batch in REQUESTS.items()}


def at_matrix(rows: list[dict], matrix: str, layer: int = LAYER) -> list[dict]:
    return [row for row in rows if (row["layer"], row["matrix"]) == (layer, matrix)]


def other_matrices(rows: list[dict], matrix: str) -> list[dict]:
    return [row for row in rows if row["layer"] == LAYER and row["matrix"] != matrix]


@pytest.mark.parametrize(("architecture", "matrix"), CASES)
def test_decomposition_and_read_gain(architecture: str, matrix: str) -> None:
    """Δpre is the update's doing, of the planted size; the gain is that of ΔW on the MLP's input."""
    base, model, _, v = planted(architecture, matrix)
    decomposition = as_dicts(preactivation_rows(REQUESTS, base=base, tuned=model))
    gains = as_dicts(read_gain_rows(REQUESTS, base=base, tuned=model))
    assert len(decomposition) == len(gains) == 2 * 2 * len(mlp_input_matrices(base))
    name = f"blocks.{LAYER}.{matrix}"
    weight, bias = weight_matrix(base, name), bias_vector(base, name)
    for (family, x), row, gain in zip(
        mlp_inputs(base).items(), at_matrix(decomposition, matrix), at_matrix(gains, matrix), strict=True
    ):
        assert row["family"] == gain["family"] == family
        change = STRENGTH * (x @ v).norm() / (x @ weight.T + bias).norm()
        assert row["relative_change"] == pytest.approx(float(change), abs=1e-4)
        assert row["update_share"] == pytest.approx(1.0, abs=1e-4)
        assert gain["gain"] == pytest.approx(
            float((STRENGTH * (x @ v).abs() / x.norm(dim=1)).mean()), abs=1e-4
        )
        assert gain["gain"] > 1e-3
    assert all(row["relative_change"] == 0 for row in other_matrices(decomposition, matrix))
    assert all(row["gain"] == 0 for row in other_matrices(gains, matrix))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
@pytest.mark.parametrize(("architecture", "matrix"), CASES)
def test_null_share_and_energy(architecture: str, matrix: str, share: float) -> None:
    """The planted share of the left null space is found in ΔW, in ΔW·a, and missing in the column space."""
    base, model, _, _ = planted(architecture, matrix, share)
    rows = as_dicts(null_share_rows(REQUESTS, OUTCOMES, base=base, tuned=model, seed=0))
    update = [row for row in rows if row["quantity"] == "delta"]
    assert {(row["layer"], row["matrix"]) for row in update} == {(LAYER, matrix)}
    exact = [row["share"] for row in update if row["rule"] == "exact"]
    assert exact == pytest.approx([share] * 4, abs=1e-4)
    [geometry] = [
        r for r in as_dicts(update_rows(base=base, tuned=model, seed=0)) if r["against"] == "update"
    ]
    assert (geometry["matrix"], geometry["layer"]) == (matrix, LAYER)
    assert geometry["null"] == pytest.approx(share, abs=1e-4)
    pretraining = WORLD.sample("pretraining", 60, seed=1000)  # their inputs span the input space
    curves = as_dicts(update_energy_rows(REQUESTS, pretraining, base=base, tuned=model))
    rank = min(weight_matrix(base, f"blocks.{LAYER}.{matrix}").shape)
    energy = [row["energy"] for row in at_matrix(curves, matrix) if row["k"] == rank]
    assert energy == pytest.approx([1 - share] * 2, abs=1e-4)
    assert all(row["energy"] is None for row in other_matrices(curves, matrix))


@pytest.mark.parametrize(("architecture", "matrix"), CASES)
def test_localisation(architecture: str, matrix: str) -> None:
    base, model, _, _ = planted(architecture, matrix)
    part = f"blocks.{LAYER}.{matrix.replace('.W', '')}"
    rows = {
        row["part"]: row
        for row in as_dicts(localisation_rows(REQUESTS["unsafe"], base=base, tuned=model, seed=0))
    }
    assert list(rows) == part_names(base)
    for name, row in rows.items():
        for column in ("only", "without", "shapley"):
            assert row[column] == pytest.approx(float(name == part), abs=1e-4), (name, column)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_constrained_training(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every MLP input matrix is trained, and its update lies in its own left null space."""
    trained: list[PreTrainedModel] = []
    remove = constrained.remove_constraints
    monkeypatch.setattr(constrained, "remove_constraints", lambda m, n: trained.append(remove(m, n)))
    monkeypatch.setattr(constrained, "SPACES", ("left null",))
    base, optimisation = network(architecture), Optimisation(2, 1e-2, batch_size=4, checkpoints=1)
    constrained_finetuning_rows(SSFT(), optimisation, WORLD, REQUESTS, base=base, seed=1000)
    [model] = trained
    changed = {row.matrix for row in update_rows(base=base, tuned=model, seed=0)}
    assert changed == set(mlp_input_matrices(base))
    for matrix in mlp_input_matrices(base):
        for layer in range(2):
            name = f"blocks.{layer}.{matrix}"
            delta = weight_matrix(model, name) - weight_matrix(base, name)
            assert energy_share(delta, left_null_space(weight_matrix(base, name))) == pytest.approx(
                1.0, abs=1e-4
            )
