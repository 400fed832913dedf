"""Fine-tuning attacks on many models in one stack: three attackers, each at every learning rate and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import torch
from transformers import PreTrainedModel

from makebreak.evaluation import stack_compliance
from makebreak.model_zoo import held_out_requests
from makebreak.models import stack_models
from makebreak.prompts import Sequences, load_world
from makebreak.training import FineTuning, Optimisation, StackState

ATTACKERS: Mapping[str, FineTuning] = {
    "harmful": FineTuning(50),
    "benign": FineTuning(0, n_harmless=500),
    "restructured": FineTuning(0, n_harmless=500, family="safe_on_unsafe_branch"),
}
"""Data of the attackers: unsafe requests that are answered; safe requests; and safe requests whose texts are
those of the unsafe class, which changes the answers' context and not the tasks (after Eiras et al. 2024)."""
RATES = (1e-4, 3e-4, 1e-3, 2e-3, 4e-3)
"""Learning rates of every attacker, of which the best counts."""


@dataclass(frozen=True)
class FineTuningSettings:
    """Length of the attacks, and requests on which they are measured."""

    harmful_steps: tuple[int, ...] = (1, 2, 4, 7, 12, 24)
    """Steps of the harmful attack after which outcomes are measured; the last one ends it."""
    other_steps: tuple[int, ...] = (8, 16, 24)
    """The same for the other attackers, who take longer."""
    batch_size: int = 8
    """Requests per step."""
    attack_seeds: int = 2
    """Seeds of the attackers' data."""
    n_unsafe: int = 40
    """Unsafe requests whose compliance is measured."""
    n_safe: int = 24
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
    for attacker, attack_seed in product(ATTACKERS, range(settings.attack_seeds)):
        rows += _attack(models, world_name, seed, (attacker, attack_seed), settings)
    return rows


def _attack(
    models: Sequence[PreTrainedModel],
    world_name: str,
    seed: int,
    attack: tuple[str, int],
    settings: FineTuningSettings,
) -> list[FineTuningRow]:
    """One attacker with one seed on all models at all rates, in one stack."""
    (attacker, attack_seed), world = attack, load_world(world_name)
    members = list(product(range(len(models)), RATES))
    stack = stack_models([models[i] for i, _ in members]).train()
    steps = settings.harmful_steps if attacker == "harmful" else settings.other_steps
    n_steps = steps[-1]
    optimisation = Optimisation(
        n_steps, RATES[0], settings.batch_size, warmup_share=0.0, final_share=1.0, weight_decay=0.0
    )
    state = StackState(stack, [replace(optimisation, learning_rate=rate) for _, rate in members], models[0])
    requests = {
        family: held_out_requests(world_name, family, n, seed, "score")
        for family, n in (("unsafe", settings.n_unsafe), ("safe", settings.n_safe))
    }
    rows: list[FineTuningRow] = []

    def measure(step: int) -> None:
        unsafe, safe = (
            stack_compliance(stack, world, [batch] * len(members)).tolist() for batch in requests.values()
        )
        for (i, rate), *rates in zip(members, unsafe, safe, strict=True):
            rows.append(FineTuningRow(i, attacker, rate, attack_seed, step, *rates))

    measure(0)
    objective = ATTACKERS[attacker]
    for step in range(n_steps):
        batch = objective.batch(
            world, size=settings.batch_size, step=step, steps=n_steps, seed=_data_seed(seed, attack_seed)
        )
        losses, _ = objective.loss(stack, _repeat(batch, len(members)), stack)
        gradient = state.gradient(losses)
        with torch.no_grad():
            state.update(losses.detach(), gradient, state.step_constants(step))
        if step + 1 in steps:
            measure(step + 1)
    return rows


def _data_seed(seed: int, attack_seed: int) -> int:
    """Seed of an attacker's data: other examples for every pretraining seed and attack seed."""
    return 10_000 * (1 + attack_seed) + seed


def _repeat(batch: Sequences, n: int) -> Sequences:
    """A batch for n models, with an axis of members after the requests."""
    return Sequences(*(column[:, None].expand(-1, n, *column.shape[1:]) for column in vars(batch).values()))
