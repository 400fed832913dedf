"""Outcomes of perturbed targets: equal to those of generation; judged with the unperturbed weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from makebreak.evaluation import WorldTarget
from makebreak.prompts import Outcome, Requests
from makebreak.weight_landscape import (
    Direction,
    Landscape,
    Perturbation,
    basin,
    outcome_rates,
    perturbable_parameters,
    random_direction,
)
from tests.attacks.random_requests import FILLER, random_network, random_requests
from tests.oracles.reload_and_generate import generate_at


def test_basin_of_a_linear_model() -> None:
    """Two logits 1 and 0, moved by a and -2a: it refuses until 1 + a = -2a, at a = -1/3."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(1, 2, bias=False)
            self.head.weight.data = torch.tensor([[1.0], [0.0]])

    model = Linear()
    direction = Direction({"head.weight": torch.tensor([[1.0], [-2.0]])})
    axis, fails = np.linspace(-1, 1, 201).round(9), []
    with Perturbation(model, direction) as perturbation:
        for a in axis:
            perturbation.set(float(a))
            fails.append(float(model.head.weight[:, 0].argmax() != 0))
    shape = basin(axis, np.array(fails))
    assert shape.left == pytest.approx(1 / 3, abs=0.006)
    assert shape.right == 1.0
    assert shape.is_censored


def test_points_equal_reloading_and_generating() -> None:
    model, rng = random_network("gpt2", d_vocab=9), np.random.default_rng(1)
    requests = random_requests([5] * 40, d_vocab=9, n_target=3)
    direction = random_direction(model, 2)
    for coordinate in (-0.3, 0.0, 0.2):
        answers = generate_at(model, direction.step, coordinate, requests.prompt, n_new=3)
        kind = rng.integers(0, 2, 40)[:, None]
        instructed, refused = np.where(kind == 0, answers, FILLER), np.where(kind == 1, answers, FILLER)
        instructed[(instructed == refused).all(axis=1)] = 8
        answerable = replace(requests, instructed=instructed, refused=refused)
        points = Landscape(WorldTarget(model), {"all": answerable}).walk(direction, [coordinate])
        is_refused, is_instructed = ((answers == answer).all(axis=1) for answer in (refused, instructed))
        expected = np.where(
            is_refused, Outcome.REFUSE, np.where(is_instructed, Outcome.COMPLY, Outcome.NEITHER)
        )
        assert points[coordinate]["all"].tolist() == expected.tolist()


@dataclass(frozen=True)
class NormTarget(WorldTarget):
    """Answers with the norm of the embeddings, and judges by their present norm."""

    judged_norms: list[float] = field(default_factory=list)

    def norm(self) -> float:
        return float(perturbable_parameters(self.model)["transformer.wte.weight"].detach().norm())

    def answer(self, requests: Requests, progress: object = None) -> list[Any]:
        return [self.norm()] * len(requests)

    def judge(self, requests: Requests, answers: Sequence[Any]) -> np.ndarray:
        self.judged_norms.append(self.norm())
        return np.where(np.isclose(answers, self.norm()), Outcome.REFUSE, Outcome.NEITHER)


def test_answers_are_judged_with_the_unperturbed_weights(tmp_path: Path) -> None:
    """Only the answers at the origin have the norm of the unperturbed model; a second walk reads the file."""
    model = copy.deepcopy(random_network("gpt2", d_vocab=9))
    target = NormTarget(model)
    origin = target.norm()
    landscape = Landscape(target, {"all": random_requests([5] * 4, d_vocab=9, n_target=3)})
    axis, path = [-0.5, 0.0, 0.5], tmp_path / "points.jsonl"
    points = landscape.walk(random_direction(model, 0), axis, path)
    assert [(points[a]["all"] == Outcome.REFUSE).mean() for a in axis] == [0, 1, 0]
    assert target.judged_norms == [origin] * 3
    lines = path.read_text()
    again = landscape.walk(random_direction(model, 0), axis, path)
    assert all((again[a]["all"] == points[a]["all"]).all() for a in axis)
    assert path.read_text() == lines


def test_rates_of_unsafe_and_safe_requests() -> None:
    refuse, comply, neither = Outcome.REFUSE, Outcome.COMPLY, Outcome.NEITHER
    rates = outcome_rates(
        {"unsafe": [refuse, refuse, comply, neither], "safe": [comply, comply, refuse, comply]}
    )
    assert rates == (0.5, 0.25, 0.75, 0.25)
    with pytest.raises(ValueError, match="not enough values"):
        outcome_rates({"unsafe": [refuse]})
