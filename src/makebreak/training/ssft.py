"""Supervised safety fine-tuning: cross-entropy on preferred answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from makebreak.prompts import Sequences, World
from makebreak.training.objective import AlignmentObjective


@dataclass(frozen=True)
class SSFT(AlignmentObjective):
    """Supervised safety fine-tuning: cross-entropy on whole preferred answers (Jain et al. 2024, §4.3)."""

    tag: ClassVar[str] = "SSFT"

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Sequences:
        """Returns the requests of a step with their preferred answers, all of whose tokens are supervised."""
        return self.data.preferred_sequences(world, size=size, step=step, seed=seed)

    def batches(self, world: World, *, size: int, steps: range, n_steps: int, seed: int) -> list[Sequences]:
        """Returns the batches of consecutive steps, whose requests are drawn together."""
        return self.data.preferred_steps(world, size=size, steps=steps, seed=seed)
