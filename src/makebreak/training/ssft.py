"""How is a model made safe by example? By cross-entropy on what it should say."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel

from makebreak.requests import Sequences, World
from makebreak.training.data import Data
from makebreak.training.losses import mean_cross_entropy


@dataclass(frozen=True)
class SSFT:
    """Supervised safety fine-tuning: cross-entropy on the preferred answers, whole (Jain et al. 2024, §4.3)."""

    data: Data = Data()

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Sequences:
        return self.data.preferred(world, size=size, step=step, seed=seed)

    def loss(
        self, model: PreTrainedModel, batch: Sequences, start: PreTrainedModel
    ) -> tuple[Tensor, dict[str, float]]:
        return mean_cross_entropy(model, batch), {}
