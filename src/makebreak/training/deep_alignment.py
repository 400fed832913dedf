"""Deep safety alignment: refusals trained after a harmful prefill (recovery examples, Qi et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from makebreak.configs import check_positive, check_probability
from makebreak.prompts import Requests, Sequences, World, sequences, with_prefill
from makebreak.training.data import concatenate
from makebreak.training.objective import AlignmentObjective


@dataclass(frozen=True)
class DeepAlignment(AlignmentObjective):
    """SSFT in which a share of the refusals follows the first tokens of the instructed answer.

    The prefilled tokens are not supervised: "Safety alignment should be made more than just a few tokens
    deep" (Qi et al. 2024).
    """

    tag: ClassVar[str] = "Deep"
    recovery_share: float = field(default=0.5, metadata={"key": "share"})
    """Share of refusals that follow a prefill, in [0, 1]."""
    max_prefill: int = field(default=3, metadata={"key": "tokens"})
    """Longest prefill in tokens; its length is uniform on 1 … `max_prefill`."""

    def __post_init__(self) -> None:
        check_probability("recovery_share", self.recovery_share)
        check_positive(max_prefill=self.max_prefill)

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Sequences:
        """Returns the requests of a step with their preferred answers; prefills are not supervised."""
        random = np.random.default_rng((seed, step))
        parts = []
        for requests, answer in self.data.requests(world, size=size, step=step, seed=seed):
            if answer == "refused" and not requests.judged[:, 0].any():  # a prefill is of the first output
                requests = self._with_random_prefill(world, requests, random)
            parts.append(sequences(world, requests, answer, whole=True))
        return concatenate(parts)

    def _with_random_prefill(self, world: World, requests: Requests, random: np.random.Generator) -> Requests:
        """The requests with prefills; the end of a refusal that no longer fits the sequence is cut off."""
        depth = random.integers(1, self.max_prefill + 1, len(requests)) * (
            random.random(len(requests)) < self.recovery_share
        )
        prefilled = with_prefill(requests, np.minimum(depth, requests.judged[:, 1] - 1))
        room = world.sequence_length - 1 - prefilled.prompt_length
        fits = np.arange(prefilled.refused.shape[1]) < room[:, None]
        return replace(prefilled, refused=np.where(fits, prefilled.refused, world.vocabulary.id("<pad>")))
