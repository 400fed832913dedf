"""Directions and perturbations: which weights change, by how much, and that they are restored."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from makebreak.mechanism import ablate_directions
from makebreak.weight_landscape import (
    Direction,
    Perturbation,
    PointEvaluator,
    ablation_direction,
    direction_to,
    find_bracket,
    perturbable_parameters,
    random_direction,
    relative_norm,
    rescale_to_norm,
    worst_direction,
)
from tests.attacks.random_requests import random_network

MODELS = {name: random_network(name, d_vocab=12) for name in ("gpt2", "llama")}


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class RMSNorm(nn.Module):
    """A norm whose gain has two dimensions, as per-head ones have."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 4))


class TiedModel(nn.Module):
    """Norms under three schemes of names, tied weights, buffers of every kind, a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.input_layernorm, self.ln_1 = nn.LayerNorm(4), nn.LayerNorm(4)
        self.layers = nn.ModuleList([RMSNorm()])
        self.embed, self.head = nn.Embedding(6, 4), nn.Linear(4, 6, bias=False)
        self.head.weight = self.embed.weight
        self.c_fc = nn.Linear(4, 8)
        self.register_buffer("mask", torch.ones(4, 4, dtype=torch.uint8))
        self.register_buffer("pe", torch.randn(4, 4))


def test_only_matrices_are_perturbed() -> None:
    model = TiedModel()
    assert list(perturbable_parameters(model)) == ["embed.weight", "c_fc.weight"]
    before = state(model)
    with Perturbation(model, random_direction(model, 0)) as perturbation:
        perturbation.set(0.3)
        changed = {
            name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
        }
        assert changed == {"embed.weight", "head.weight", "c_fc.weight"}
        share = (model.embed.weight.detach() - before["embed.weight"]).norm() / before["embed.weight"].norm()
        assert float(share) == pytest.approx(0.3, rel=1e-5)  # tied weights are perturbed once
    assert equal(before, state(model))


@pytest.mark.parametrize("layout", list(MODELS))
@pytest.mark.parametrize("coordinate", [-0.5, 0.05, 0.2])
def test_relative_norm_is_the_coordinate(layout: str, coordinate: float) -> None:
    model = copy.deepcopy(MODELS[layout])
    before = state(model)
    with Perturbation(model, random_direction(model, 3)) as perturbation:
        perturbation.set(coordinate)
        for name, weight in perturbable_parameters(model).items():
            assert float((weight.detach() - before[name]).norm() / before[name].norm()) == pytest.approx(
                abs(coordinate), rel=1e-4
            )
    assert equal(before, state(model))


@pytest.mark.parametrize("layout", list(MODELS))
def test_row_normalisation(layout: str) -> None:
    model = MODELS[layout]
    modules = dict(model.named_modules())
    for name, step in random_direction(model, 1, normalisation="row").step.items():
        weight = perturbable_parameters(model)[name]
        if isinstance(modules[name.rpartition(".")[0]], Conv1D):
            step, weight = step.T, weight.T
        torch.testing.assert_close(step.norm(dim=1), weight.norm(dim=1), rtol=1e-4, atol=1e-5)


def test_direction_ignores_added_parameters() -> None:
    model = copy.deepcopy(MODELS["gpt2"])
    before = random_direction(model, 5).step
    model.transformer.register_parameter("another", nn.Parameter(torch.randn(3, 3)))  # type: ignore[union-attr]
    after = random_direction(model, 5).step
    assert set(after) - set(before) == {"transformer.another"}
    assert all(torch.equal(after[name], before[name]) for name in before)
    other = random_direction(model, 6).step
    assert not any(torch.equal(after[name], other[name]) for name in after)


def test_lines_and_planes_reach_checkpoints_exactly() -> None:
    model, one, two = [random_network("gpt2", d_vocab=12, seed=seed) for seed in range(3)]
    start = state(model)
    with Perturbation(model, direction_to(model, one)) as perturbation:
        for coordinate, expected in ((1.0, state(one)), (0.0, start), (0.37, None), (1.0, state(one))):
            perturbation.set(coordinate)
            assert expected is None or equal(state(model), expected)
    with Perturbation(model, direction_to(model, one), direction_to(model, two)) as perturbation:
        for point, expected in (((1.0, 0.0), state(one)), ((0.0, 1.0), state(two)), ((0.0, 0.0), start)):
            perturbation.set(*point)
            assert equal(state(model), expected)
    assert equal(state(model), start)
    with pytest.raises(ValueError, match="other names or shapes"):
        direction_to(model, MODELS["llama"])


def test_points_of_a_plane_equal_those_of_a_line() -> None:
    model = copy.deepcopy(MODELS["gpt2"])
    a, b = random_direction(model, 0), random_direction(model, 1)
    with Perturbation(model, b) as perturbation:
        perturbation.set(0.2)
        expected = state(model)
    with Perturbation(model, a, b) as perturbation:
        perturbation.set(0.4, -0.1)
        perturbation.set(0.0, 0.2)  # not a step from the last point
        assert equal(state(model), expected)
    with pytest.raises(ValueError, match="2 coordinates for 1"):
        Perturbation(model, a).set(0.1, 0.1)
    with pytest.raises(ValueError, match="moves 'nowhere'"):
        Perturbation(model, Direction({"nowhere": torch.zeros(2)}))


def test_weights_are_restored_after_an_error() -> None:
    model = copy.deepcopy(MODELS["llama"])
    before = state(model)

    def interrupted() -> None:
        with Perturbation(model, random_direction(model, 0)) as perturbation:
            perturbation.set(0.5)
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        interrupted()
    assert equal(before, state(model))


@pytest.mark.parametrize("layout", list(MODELS))
def test_ablation_direction_edits_the_weights(layout: str) -> None:
    model = copy.deepcopy(MODELS[layout])
    vector = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    direction = ablation_direction(model, vector)
    assert relative_norm(model, direction) == pytest.approx(1, rel=1e-5)
    tokens = torch.randint(3, 12, (4, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), ablate_directions(model, (vector / vector.norm())[:, None]):
        expected = model(input_ids=tokens).logits
    biased = any(name.endswith("c_proj.bias") for name, _ in model.named_parameters())
    if biased:  # which the edit of matrices leaves
        for name, parameter in model.named_parameters():
            if name.endswith("c_proj.bias"):
                parameter.data.zero_()
        with torch.no_grad(), ablate_directions(model, (vector / vector.norm())[:, None]):
            expected = model(input_ids=tokens).logits
    unit = vector / vector.norm()
    writer = (
        "transformer.h.0.mlp.c_proj.weight" if layout == "gpt2" else "model.layers.0.mlp.down_proj.weight"
    )
    weight = perturbable_parameters(model)[writer].detach()
    removed = (
        unit[None] * (weight @ unit)[:, None] if layout == "gpt2" else unit[:, None] * (unit @ weight)[None]
    )
    coordinate = float(-removed.norm() / direction.step[writer].norm())
    with torch.no_grad(), Perturbation(model, direction) as perturbation:
        perturbation.set(abs(coordinate))
        torch.testing.assert_close(model(input_ids=tokens).logits, expected, atol=1e-3, rtol=1e-3)


def test_worst_direction_of_a_linear_loss() -> None:
    model = copy.deepcopy(MODELS["gpt2"])
    target = random_direction(model, 9).step
    before = state(model)
    requires_grad = {name: p.requires_grad for name, p in model.named_parameters()}

    def loss(m: PreTrainedModel) -> torch.Tensor:
        weights = perturbable_parameters(m)
        return torch.stack([(weights[name] * target[name]).sum() for name in target]).sum()

    worst = worst_direction(model, loss, radius=0.1, steps=4)
    expected = rescale_to_norm(model, Direction(target))
    for name, step in worst.step.items():
        torch.testing.assert_close(step, expected.step[name], rtol=1e-3, atol=1e-4)
    assert equal(before, state(model))
    assert {name: p.requires_grad for name, p in model.named_parameters()} == requires_grad
    with pytest.raises(ValueError, match="no gradient"):
        worst_direction(model, lambda m: 0 * loss(m), radius=0.1)


def test_points_are_evaluated_once(tmp_path: Path) -> None:
    """Points in the file are read; a line that was not written whole is evaluated again."""
    model, path, calls = copy.deepcopy(MODELS["gpt2"]), tmp_path / "points.jsonl", []
    direction = random_direction(model, 0)

    def evaluate() -> dict[str, float]:
        calls.append(1)
        return {"norm": float(perturbable_parameters(model)["transformer.wte.weight"].detach().norm())}

    with Perturbation(model, direction) as perturbation:
        first = PointEvaluator(perturbation, evaluate, path).grid([-0.1, 0.0, 0.1])
    assert [row["coordinates"] for row in first] == [[-0.1], [0.0], [0.1]]
    assert len(calls) == 3
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]) + lines[2][:7])
    with Perturbation(model, direction) as perturbation:
        again = PointEvaluator(perturbation, evaluate, path, origin={"norm": -1.0}).grid([-0.1, 0.0, 0.1])
    assert len(calls) == 4
    assert again == [first[0], {"norm": -1.0, "coordinates": [0.0]}, first[2]]
    assert [json.loads(line)["state"]["coordinates"] for line in path.read_text().splitlines()] == [
        [-0.1],
        [0.0],
        [0.1],
    ]


def test_bracket() -> None:
    def failure(a: float) -> float:
        return float(abs(a) > 0.3141)

    assert find_bracket(failure, 0.5) == pytest.approx(0.4)
    assert find_bracket(failure, 0.5, first=-0.05) == pytest.approx(-0.4)
    assert find_bracket(lambda _: 0.0, 0.5) is None
