"""Landscapes of models on an accelerator: the same directions, the same outcomes along them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from makebreak.evaluation import WorldTarget, score_targets
from makebreak.prompts import target_sequences
from makebreak.weight_landscape import (
    Direction,
    Landscape,
    ablation_direction,
    direction_to,
    fold_norms,
    outcome_rates,
    random_direction,
    relative_norm,
    worst_direction,
)
from tests.device.both import assert_same_on
from tests.training.short_runs import WORLD, network

REQUESTS = {family: WORLD.sample(family, 6, seed=1000) for family in ("unsafe", "safe")}
OTHER = network(4)


def _loss(model: PreTrainedModel) -> torch.Tensor:
    return score_targets(model, target_sequences(REQUESTS["unsafe"], "instructed")).nll.mean()


DIRECTIONS: dict[str, Callable[[PreTrainedModel], Direction]] = {
    "random": lambda model: random_direction(model, 0),
    "random by row": lambda model: random_direction(model, 0, normalisation="row"),
    "other model": lambda model: direction_to(model, OTHER.to(model.device)),  # type: ignore[arg-type]
    "other model on the CPU": lambda model: direction_to(model, OTHER.cpu()),  # type: ignore[arg-type]
    "worst": lambda model: worst_direction(model, _loss, radius=0.1, steps=2),
    "ablation": lambda model: ablation_direction(model, torch.arange(32.0)),
}


@pytest.mark.parametrize("name", DIRECTIONS)
def test_walks(device: torch.device, name: str) -> None:
    def walk(model: PreTrainedModel) -> object:
        direction = DIRECTIONS[name](model)
        assert {tensor.device for tensor in direction.step.values()} == {model.device}
        points = Landscape(WorldTarget(model), REQUESTS).walk(direction, [-0.5, 0.0, 0.5])
        step = {name: tensor.detach().cpu() for name, tensor in direction.step.items()}
        rates = [outcome_rates(outcomes) for outcomes in points.values()]
        return step, relative_norm(model, direction), points, rates

    assert_same_on(device, walk, network(3).eval())


def test_folded_norms(device: torch.device) -> None:
    def weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
        return {name: tensor.cpu() for name, tensor in fold_norms(model).state_dict().items()}

    assert_same_on(device, weights, network(3).eval())
