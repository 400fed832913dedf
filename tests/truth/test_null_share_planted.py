"""The null share finds an update planted in the left null space of a layer there, and only there."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import synthetic
from makebreak.geometry import column_space, left_null_space
from makebreak.mechanism import null_share_rows
from makebreak.models import MODEL_SIZES, ModelConfig, create_model, weight_matrix
from makebreak.tables import as_dicts

WORLD = synthetic.load("mini")
REQUESTS = {name: WORLD.sample(name, 12, seed=1000) for name in ("safe", "unsafe")}
OUTCOMES = {"safe": np.array([1] * 12), "unsafe": np.array([0] * 8 + [3] * 4)}
W_IN = "blocks.0.mlp.W_in"


def network(config: ModelConfig = MODEL_SIZES["tiny"]) -> PreTrainedModel:
    return create_model(config, d_vocab=len(WORLD.vocabulary), n_ctx=WORLD.sequence_length, seed=0).eval()


def gaussian(n: int, seed: int) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))


def planted(base: PreTrainedModel, u: Tensor) -> PreTrainedModel:
    """The base with u vᵀ added to its first W_in; GPT-2 stores the transpose."""
    aligned = copy.deepcopy(base)
    with torch.no_grad():
        aligned.transformer.h[0].mlp.c_fc.weight += torch.outer(gaussian(32, 7), u)
    return aligned


def unit_in(basis: Tensor, seed: int = 1) -> Tensor:
    u = basis @ gaussian(basis.shape[1], seed).double()
    return (u / u.norm()).float()


def share_rows(model: PreTrainedModel, base: PreTrainedModel, seed: int = 0) -> list[dict]:
    return as_dicts(null_share_rows(REQUESTS, OUTCOMES, base=base, tuned=model, seed=seed))


def shares(
    rows: list[dict], quantity: str, *, layer: int = 0, rule: str = "exact", key: str = "share"
) -> list[float]:
    wanted = {"layer": layer, "quantity": quantity, "rule": rule}
    return [row[key] for row in rows if wanted.items() <= row.items()]


def by_hand(model: PreTrainedModel) -> dict[str, tuple[Tensor, Tensor]]:
    """Inputs and bias-free pre-activations of the first MLP at the end of text, by family, by plain hooks."""
    activations = {}
    mlp = model.transformer.h[0].mlp
    for family, batch in REQUESTS.items():
        outputs: list[Tensor] = []
        handles = [
            mlp.register_forward_pre_hook(lambda _, args, to=outputs: to.append(args[0])),
            mlp.c_fc.register_forward_hook(lambda _, args, out, to=outputs: to.append(out - mlp.c_fc.bias)),
        ]
        with torch.no_grad():
            model(input_ids=torch.from_numpy(batch.prompt))
        for handle in handles:
            handle.remove()
        last = torch.from_numpy(batch.prompt_length) - 1
        activations[family] = tuple(x[torch.arange(len(last)), last].double() for x in outputs)
    return activations  # type: ignore[return-value]


def test_left_null_update_is_in_its_layer_only() -> None:
    base = network()
    model = planted(base, unit_in(left_null_space(weight_matrix(base, W_IN)).basis))
    rows = share_rows(model, base)
    for rule in ("exact", "energy90"):
        assert shares(rows, "delta", rule=rule) == pytest.approx([1.0] * 5, abs=1e-6)
    assert shares(rows, "delta", layer=1) == []
    assert shares(rows, "pre", layer=1) == pytest.approx([0.0] * 5, abs=1e-9)
    activations = by_hand(model)
    for family, (a, z) in activations.items():
        fires = (a @ gaussian(32, 7).double()).square()
        assert (fires > 1e-4).all()
        expected = float((fires / z.square().sum(dim=1)).mean())
        pre = [
            r
            for r in rows
            if (r["layer"], r["family"], r["quantity"], r["rule"]) == (0, family, "pre", "exact")
        ]
        assert pre[0]["outcome"] == "all"
        assert pre[0]["share"] == pytest.approx(expected, abs=1e-5)
        assert pre[0]["share"] > 0.1


def test_column_space_update_has_no_null_share() -> None:
    base = network()
    rows = share_rows(planted(base, unit_in(column_space(weight_matrix(base, W_IN)).basis)), base)
    assert shares(rows, "delta") == pytest.approx([0.0] * 5, abs=1e-9)
    assert shares(rows, "pre") == pytest.approx([0.0] * 5, abs=1e-9)
    assert min(shares(rows, "delta", key="random_share")) > 0.3


def test_null_space_is_the_left_one() -> None:
    """A W_in of rank 32 from 32 to 128 leaves 96 dimensions unwritten; its right null space is empty."""
    base = network()
    assert weight_matrix(base, W_IN).shape == (128, 32)
    assert left_null_space(weight_matrix(base, W_IN)).dimension == 96
    assert {row["chance"] for row in share_rows(base, base) if row["rule"] == "exact"} == {96 / 128}


def test_base_against_itself_has_no_update() -> None:
    base = network()
    rows = share_rows(copy.deepcopy(base), base)
    assert {row["quantity"] for row in rows} == {"pre"}
    for layer in (0, 1):
        assert shares(rows, "pre", layer=layer) == pytest.approx([0.0] * 5, abs=1e-9)
        assert min(shares(rows, "pre", layer=layer, rule="energy90")) > 0
        assert max(shares(rows, "pre", layer=layer, rule="energy90")) < 0.5


def test_random_direction_is_at_chance() -> None:
    """Share of a random u and of the random controls: k / d within five standard errors, and their spread."""
    base, n = network(), 12
    tables = [
        share_rows(planted(base, gaussian(128, 100 + seed)), base, seed=1000 + seed) for seed in range(n)
    ]
    d, k = 128, 96
    error = math.sqrt(2 * k * (d - k) / (d**2 * (d + 2)) / n)
    for key in ("share", "random_share"):
        first = [shares(f, "delta", key=key)[0] for f in tables]
        assert abs(np.mean(first) - k / d) < 5 * error
        assert np.std(first) > 0
    column = unit_in(column_space(weight_matrix(base, W_IN)).basis)
    rows = [share_rows(planted(base, column), base, seed=s) for s in range(6)]
    control = [shares(of_seed, "delta", key="random_share")[0] for of_seed in rows]
    assert abs(np.mean(control) - k / d) < 5 * error
    assert np.std(control) > 0  # its subspaces are drawn by the seed
    for key in ("random_share_sd", "permuted_share_sd"):
        spread = np.mean([shares(of_seed, "delta", key=key)[0] for of_seed in rows])
        assert spread == pytest.approx(error * math.sqrt(n), rel=0.5)


def test_empty_null_space_gives_none() -> None:
    """Where W_in is no wider than the model it can write everything: n/a, not 0."""
    base = network(ModelConfig(n_layers=2, n_heads=2, d_model=32, d_mlp=16))
    exact_rows = [row for row in share_rows(base, base) if row["rule"] == "exact"]
    assert len(exact_rows) == 10
    assert all((r["share"], r["random_share"], r["chance"]) == (None, None, 0.0) for r in exact_rows)


def test_planted_update_exceeds_its_controls() -> None:
    base = network()
    model = planted(base, unit_in(left_null_space(weight_matrix(base, W_IN)).basis))
    other = create_model(
        MODEL_SIZES["tiny"], d_vocab=len(WORLD.vocabulary), n_ctx=WORLD.sequence_length, seed=1
    ).eval()
    rows = as_dicts(null_share_rows(REQUESTS, OUTCOMES, base=base, tuned=model, other_base=other, seed=0))
    assert shares(rows, "delta") == pytest.approx([1.0] * 5, abs=1e-6)
    for control in ("random_share", "other_seed_share", "permuted_share"):
        assert max(shares(rows, "delta", key=control)) < 0.95, control
    itself = as_dicts(null_share_rows(REQUESTS, OUTCOMES, base=base, tuned=model, other_base=base, seed=0))
    assert shares(itself, "delta", key="other_seed_share") == pytest.approx([1.0] * 5, abs=1e-6)
    assert shares(share_rows(model, base), "delta", key="other_seed_share") == [None] * 5


def test_random_update_equals_its_controls() -> None:
    """Negative control: without the planted cause the share is that of its controls."""
    base = network()
    rows = share_rows(planted(base, unit_in(torch.eye(128, dtype=torch.float64))), base)
    difference = [
        a - b for a, b in zip(shares(rows, "delta"), shares(rows, "delta", key="permuted_share"), strict=True)
    ]
    assert max(map(abs, difference)) < 0.2
