"""Do exactly those weights move that should, by exactly as much, and do they come back?"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from makebreak.landscape import (
    Direction,
    Points,
    Walk,
    ablation,
    at_norm,
    bracket,
    edge,
    movable,
    random_direction,
    relative_norm,
    toward,
    worst_direction,
)
from makebreak.mechanism import ablated
from tests.attacks.asked import answering

MODELS = {name: answering(name, d_vocab=12) for name in ("gpt2", "llama")}


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class RMSNorm(nn.Module):
    """A norm whose gain has two dimensions, as per-head ones have."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 4))


class Named(nn.Module):
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


def test_matrices_move_and_nothing_else() -> None:
    model = Named()
    assert list(movable(model)) == ["embed.weight", "c_fc.weight"]
    before = state(model)
    with Walk(model, random_direction(model, 0)) as walk:
        walk.to(0.3)
        moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
        assert moved == {"embed.weight", "head.weight", "c_fc.weight"}
        once = (model.embed.weight.detach() - before["embed.weight"]).norm() / before["embed.weight"].norm()
        assert float(once) == pytest.approx(0.3, rel=1e-5)  # tied weights are not moved twice
    assert same(before, state(model))


@pytest.mark.parametrize("layout", list(MODELS))
@pytest.mark.parametrize("at", [-0.5, 0.05, 0.2])
def test_the_relative_norm_is_the_coordinate(layout: str, at: float) -> None:
    model = copy.deepcopy(MODELS[layout])
    before = state(model)
    with Walk(model, random_direction(model, 3)) as walk:
        walk.to(at)
        for name, weight in movable(model).items():
            assert float((weight.detach() - before[name]).norm() / before[name].norm()) == pytest.approx(
                abs(at), rel=1e-4
            )
    assert same(before, state(model))


@pytest.mark.parametrize("layout", list(MODELS))
def test_by_row_every_output_has_its_own_norm(layout: str) -> None:
    model = MODELS[layout]
    modules = dict(model.named_modules())
    for name, step in random_direction(model, 1, per="row").step.items():
        weight = movable(model)[name]
        if isinstance(modules[name.rpartition(".")[0]], Conv1D):
            step, weight = step.T, weight.T
        torch.testing.assert_close(step.norm(dim=1), weight.norm(dim=1), rtol=1e-4, atol=1e-5)


def test_a_direction_is_the_same_after_a_parameter_is_added() -> None:
    model = copy.deepcopy(MODELS["gpt2"])
    before = random_direction(model, 5).step
    model.transformer.register_parameter("another", nn.Parameter(torch.randn(3, 3)))  # type: ignore[union-attr]
    after = random_direction(model, 5).step
    assert set(after) - set(before) == {"transformer.another"}
    assert all(torch.equal(after[name], before[name]) for name in before)
    other = random_direction(model, 6).step
    assert not any(torch.equal(after[name], other[name]) for name in after)


def test_lines_reach_both_ends_exactly_and_a_plane_all_three() -> None:
    made = [answering("gpt2", d_vocab=12, seed=seed) for seed in range(3)]
    model, one, two = made
    start = state(model)
    with Walk(model, toward(model, one)) as walk:
        for at, expected in ((1.0, state(one)), (0.0, start), (0.37, None), (1.0, state(one))):
            walk.to(at)
            assert expected is None or same(state(model), expected)
    with Walk(model, toward(model, one), toward(model, two)) as walk:
        for at, expected in (((1.0, 0.0), state(one)), ((0.0, 1.0), state(two)), ((0.0, 0.0), start)):
            walk.to(*at)
            assert same(state(model), expected)
    assert same(state(model), start)
    with pytest.raises(ValueError, match="other names or shapes"):
        toward(model, MODELS["llama"])


def test_a_point_of_a_plane_is_that_of_its_line() -> None:
    model = copy.deepcopy(MODELS["gpt2"])
    a, b = random_direction(model, 0), random_direction(model, 1)
    with Walk(model, b) as walk:
        walk.to(0.2)
        expected = state(model)
    with Walk(model, a, b) as walk:
        walk.to(0.4, -0.1)
        walk.to(0.0, 0.2)  # not a step from the last point
        assert same(state(model), expected)
    with pytest.raises(ValueError, match="2 coordinates for 1"):
        Walk(model, a).to(0.1, 0.1)
    with pytest.raises(ValueError, match="moves 'nowhere'"):
        Walk(model, Direction({"nowhere": torch.zeros(2)}))


def test_weights_come_back_after_an_error() -> None:
    model = copy.deepcopy(MODELS["llama"])
    before = state(model)

    def interrupted() -> None:
        with Walk(model, random_direction(model, 0)) as walk:
            walk.to(0.5)
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        interrupted()
    assert same(before, state(model))


@pytest.mark.parametrize("layout", list(MODELS))
def test_taking_a_direction_out_is_the_edit_of_the_weights(layout: str) -> None:
    model = copy.deepcopy(MODELS[layout])
    vector = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    found = ablation(model, vector)
    assert relative_norm(model, found) == pytest.approx(1, rel=1e-5)
    tokens = torch.randint(3, 12, (4, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), ablated(model, (vector / vector.norm())[:, None]):
        expected = model(input_ids=tokens).logits
    biased = any(name.endswith("c_proj.bias") for name, _ in model.named_parameters())
    if biased:  # which the edit of matrices leaves
        for name, parameter in model.named_parameters():
            if name.endswith("c_proj.bias"):
                parameter.data.zero_()
        with torch.no_grad(), ablated(model, (vector / vector.norm())[:, None]):
            expected = model(input_ids=tokens).logits
    unit = vector / vector.norm()
    writer = (
        "transformer.h.0.mlp.c_proj.weight" if layout == "gpt2" else "model.layers.0.mlp.down_proj.weight"
    )
    weight = movable(model)[writer].detach()
    taken = (
        unit[None] * (weight @ unit)[:, None] if layout == "gpt2" else unit[:, None] * (unit @ weight)[None]
    )
    at = float(-taken.norm() / found.step[writer].norm())
    with torch.no_grad(), Walk(model, found) as walk:
        walk.to(abs(at))
        torch.testing.assert_close(model(input_ids=tokens).logits, expected, atol=1e-3, rtol=1e-3)


def test_the_worst_direction_of_a_linear_loss_is_its_gradient() -> None:
    model = copy.deepcopy(MODELS["gpt2"])
    target = random_direction(model, 9).step
    before = state(model)
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}

    def loss(m: PreTrainedModel) -> torch.Tensor:
        own = movable(m)
        return torch.stack([(own[name] * target[name]).sum() for name in target]).sum()

    found = worst_direction(model, loss, radius=0.1, steps=4)
    expected = at_norm(model, Direction(target))
    for name, step in found.step.items():
        torch.testing.assert_close(step, expected.step[name], rtol=1e-3, atol=1e-4)
    assert same(before, state(model))
    assert {name: p.requires_grad for name, p in model.named_parameters()} == wanted
    with pytest.raises(ValueError, match="no gradient"):
        worst_direction(model, lambda m: 0 * loss(m), radius=0.1)


def test_no_point_is_measured_twice_and_a_torn_line_is_measured_again(tmp_path: Path) -> None:
    model, kept, seen = copy.deepcopy(MODELS["gpt2"]), tmp_path / "points.jsonl", []
    direction = random_direction(model, 0)

    def measure() -> dict[str, float]:
        seen.append(1)
        return {"norm": float(movable(model)["transformer.wte.weight"].detach().norm())}

    with Walk(model, direction) as walk:
        first = Points(walk, measure, kept).grid([-0.1, 0.0, 0.1])
    assert [row["at"] for row in first] == [[-0.1], [0.0], [0.1]]
    assert len(seen) == 3
    lines = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join(lines[:2]) + lines[2][:7])
    with Walk(model, direction) as walk:
        again = Points(walk, measure, kept, origin={"norm": -1.0}).grid([-0.1, 0.0, 0.1])
    assert len(seen) == 4
    assert again == [first[0], {"norm": -1.0, "at": [0.0]}, first[2]]
    assert [json.loads(line)["at"] for line in kept.read_text().splitlines()] == [[-0.1], [0.0], [0.1]]


def test_edges_are_found_by_bracket_and_bisection() -> None:
    def failure(a: float) -> float:
        return float(abs(a) > 0.3141)

    outside = bracket(failure, 0.5)
    assert outside == pytest.approx(0.4)
    assert outside is not None
    assert edge(failure, 0.5, 0.0, outside, halvings=12) == pytest.approx(0.3141, abs=1e-4)
    assert bracket(failure, 0.5, first=-0.05) == pytest.approx(-0.4)
    assert bracket(lambda _: 0.0, 0.5) is None
