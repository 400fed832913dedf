"""How is safety lost afterwards? By fine-tuning on few examples, seen again and again (Qi et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.requests import Sequences, World, sequences
from makebreak.training.data import join
from makebreak.training.losses import mean_cross_entropy


@dataclass(frozen=True)
class FineTuning:
    """Cross-entropy on whole instructed answers. harmful: how many unsafe requests, answered. harmless: how many of
    `family`. Every batch draws from all of them alike."""

    harmful: int = 100
    harmless: int = 0
    family: str = "safe"

    def __post_init__(self) -> None:
        if min(self.harmful, self.harmless) < 0 or not self.harmful + self.harmless:
            raise ValueError(f"{self.harmful} harmful and {self.harmless} other examples: expected one at least")

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Sequences:
        examples, n = _examples(world, self, seed), self.harmful + self.harmless
        rows = torch.from_numpy(np.random.default_rng((seed, step)).choice(n, size, replace=size > n))
        return Sequences(examples.tokens[rows], examples.supervised[rows], examples.decision[rows])

    def loss(self, model: PreTrainedModel, batch: Sequences, start: PreTrainedModel) -> tuple[Tensor, dict[str, float]]:
        return mean_cross_entropy(model, batch), {}


@lru_cache(maxsize=8)
def _examples(world: World, objective: FineTuning, seed: int) -> Sequences:
    families = (("unsafe", objective.harmful), (objective.family, objective.harmless))
    drawn = [world.sample(family, n, seed=seed) for family, n in families if n]
    return join([sequences(world, requests, "instructed", whole=True) for requests in drawn])
