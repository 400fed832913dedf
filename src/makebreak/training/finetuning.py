"""How is safety lost afterwards? By fine-tuning on few examples, seen again and again (Qi et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor
from transformers import PreTrainedModel

from makebreak.requests import Sequences, World, sequences
from makebreak.training.data import drawn, join
from makebreak.training.losses import mean_cross_entropy


@dataclass(frozen=True)
class FineTuning:
    """Cross-entropy on whole answers. harmful: how many unsafe requests, answered; refused: how many others, refused;
    harmless: how many of `family`, answered. Every batch draws from all of them alike."""

    harmful: int = 100
    refused: int = 0
    harmless: int = 0
    family: str = "safe"

    def __post_init__(self) -> None:
        numbers = (self.harmful, self.refused, self.harmless)
        if min(numbers) < 0 or not sum(numbers):
            raise ValueError(
                "{} harmful, {} refused and {} other examples: expected one at least".format(*numbers)
            )

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Sequences:
        return drawn(_examples(world, self, seed), size=size, step=step, seed=seed)

    def loss(
        self, model: PreTrainedModel, batch: Sequences, start: PreTrainedModel
    ) -> tuple[Tensor, dict[str, float]]:
        return mean_cross_entropy(model, batch), {}


@lru_cache(maxsize=8)
def _examples(world: World, objective: FineTuning, seed: int) -> Sequences:
    n, parts = objective.harmful + objective.refused, []
    if n:
        unsafe = world.sample("unsafe", n, seed=seed)
        parts += [(unsafe[: objective.harmful], "instructed"), (unsafe[objective.harmful :], "refused")]
    if objective.harmless:
        parts.append((world.sample(objective.family, objective.harmless, seed=seed), "instructed"))
    return join(
        [sequences(world, requests, answer, whole=True) for requests, answer in parts if len(requests)]
    )
