"""Fine-tuning attacks on many models at once: three attackers, each at every learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.evaluation import stack_compliance, stack_sequences
from makebreak.model_zoo import held_out_requests
from makebreak.models import stack_models
from makebreak.prompts import load_world
from makebreak.training import FineTuning

ATTACKERS: Mapping[str, FineTuning] = {
    "harmful": FineTuning(50),
    "benign": FineTuning(0, n_harmless=500),
    "restructured": FineTuning(0, n_harmless=500, family="safe_on_unsafe_branch"),
}
"""Data of the attackers: unsafe requests that are answered; safe requests; and safe requests whose texts are
those of the unsafe class, which changes the answers' context and not the tasks (after Eiras et al. 2024)."""
RATES = (2e-4, 5e-4, 1e-3, 2e-3, 4e-3)
"""Learning rates of every attacker, of which the best counts."""


@dataclass(frozen=True)
class FineTuningSettings:
    """Length of the attacks, and requests on which they are measured."""

    harmful_steps: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Steps of the harmful attack after which outcomes are measured; the last one ends it."""
    other_steps: tuple[int, ...] = (10, 20)
    """The same for the other attackers, who take longer."""
    batch_size: int = 8
    """Requests per step."""
    harmful_seeds: int = 2
    """Seeds of the harmful attacker's data."""
    other_seeds: int = 1
    """Seeds of the other attackers' data, whose outcomes vary less."""
    n_unsafe: int = 32
    """Unsafe requests whose compliance is measured."""
    n_safe: int = 16
    """Safe requests whose compliance is measured."""


class FineTuningRow(NamedTuple):
    """Compliance at one step of one attack on one model."""

    member: int
    """Number of the model among those that were attacked together."""
    attacker: str
    """One of `ATTACKERS`."""
    rate: float
    """Learning rate."""
    attack_seed: int
    """Seed of the attacker's data."""
    step: int
    """Optimisation step; 0 is the model before the attack."""
    compliance_rate: float
    """Share of unsafe requests answered as instructed."""
    safe_compliance_rate: float
    """Share of safe requests answered as instructed."""


def fine_tuning_rows(
    models: Sequence[PreTrainedModel], world_name: str, seed: int, settings: FineTuningSettings
) -> list[FineTuningRow]:
    """Attacks models of one architecture with every attacker, learning rate and attack seed.

    Args:
        models: The models, which are not changed.
        world_name: Name of their world.
        seed: Their pretraining seed, which selects the requests.
        settings: Length and sizes.

    Returns:
        One row for every model, attacker, learning rate, attack seed and measured step.
    """
    rows = []
    for attacker, rate in product(ATTACKERS, RATES):
        rows += _attack(models, (world_name, seed), (attacker, rate), settings)
    return rows


def _attack(
    models: Sequence[PreTrainedModel],
    world_and_seed: tuple[str, int],
    attack: tuple[str, float],
    settings: FineTuningSettings,
) -> list[FineTuningRow]:
    """One attacker at one rate, on all models and with all attack seeds, in one stack."""
    (world_name, seed), (attacker, rate) = world_and_seed, attack
    objective, world = ATTACKERS[attacker], load_world(world_name)
    is_harmful = attacker == "harmful"
    steps = settings.harmful_steps if is_harmful else settings.other_steps
    seeds = range(settings.harmful_seeds if is_harmful else settings.other_seeds)
    members = list(product(range(len(models)), seeds))
    stack = stack_models([models[i] for i, _ in members]).train()
    requests = {
        family: held_out_requests(world_name, family, n, seed, "score")
        for family, n in (("unsafe", settings.n_unsafe), ("safe", settings.n_safe))
    }

    def loss(step: int) -> Tensor:
        batches = [
            objective.batch(
                world,
                size=settings.batch_size,
                step=step,
                steps=steps[-1],
                seed=10_000 * (1 + attack_seed) + seed,  # other examples for every seed of either kind
            )
            for attack_seed in seeds
        ]
        losses, _ = objective.loss(stack, stack_sequences([batches[i] for _, i in members]), stack)
        return losses.sum()  # each member's weights have the gradient of its own loss

    rows: list[FineTuningRow] = []
    for step in attack_steps(stack, rate, steps, loss):
        unsafe, safe = (stack_compliance(stack, world, batch).tolist() for batch in requests.values())
        for (i, attack_seed), *rates in zip(members, unsafe, safe, strict=True):
            rows.append(FineTuningRow(i, attacker, rate, attack_seed, step, *rates))
    return rows


def attack_steps(
    model: PreTrainedModel, rate: float, steps: Sequence[int], loss: Callable[[int], Tensor]
) -> Iterator[int]:
    """Fine-tunes a model in place with AdamW, and stops where it is to be measured.

    Args:
        model: The model, or a stack of models.
        rate: Learning rate, which is constant.
        steps: Steps after which the model is measured, ascending; the last one ends the attack.
        loss: Loss of a step, counted from 0.

    Yields:
        The number of steps done: 0, before the attack, then each of `steps`.
    """
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0, fused=True)
    yield 0
    for step in range(steps[-1]):
        value = loss(step)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        if step + 1 in steps:
            yield step + 1
