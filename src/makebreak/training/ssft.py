"""Supervised safety fine-tuning: cross-entropy on preferred answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from transformers import PreTrainedModel

from makebreak.prompts import Sequences, World
from makebreak.training.data import AlignmentData
from makebreak.training.losses import mean_cross_entropy


@dataclass(frozen=True)
class SSFT:
    """Supervised safety fine-tuning: cross-entropy on whole preferred answers (Jain et al. 2024, §4.3)."""

    tag: ClassVar[str] = "SSFT"
    data: AlignmentData = AlignmentData()
    """Families of requests, and the answer that is preferred on each."""

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Sequences:
        """Returns the requests of a step with their preferred answers, all of whose tokens are supervised."""
        return self.data.preferred_sequences(world, size=size, step=step, seed=seed)

    def loss(
        self, model: PreTrainedModel, batch: Sequences, reference: PreTrainedModel
    ) -> tuple[Tensor, dict[str, float]]:
        """Returns the mean cross-entropy over supervised tokens, in nats; no further metric is logged."""
        return mean_cross_entropy(model, batch), {}
