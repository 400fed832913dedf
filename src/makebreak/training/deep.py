"""How is a refusal made deeper than its first token? By examples that recover from a harmful beginning."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.configs import check_positive, check_probability
from makebreak.requests import Requests, Sequences, World, begun, sequences
from makebreak.training.data import Data, join
from makebreak.training.losses import mean_cross_entropy


@dataclass(frozen=True)
class Deep:
    """SSFT in which a share of refusals comes behind 1 … `tokens` tokens of the right answer, which are not taught
    (recovery examples, Qi et al. 2024, "Safety alignment should be made more than just a few tokens deep")."""

    data: Data = Data()
    share: float = 0.5
    tokens: int = 3

    def __post_init__(self) -> None:
        check_probability("share", self.share)
        check_positive(tokens=self.tokens)

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Sequences:
        parts = self.data.requests(world, size=size, step=step, seed=seed)
        random = np.random.default_rng((seed, step))
        return join(
            [
                sequences(
                    world,
                    self._begun(world, requests, random) if answer == "refused" else requests,
                    answer,
                    whole=True,
                )
                for requests, answer in parts
            ]
        )

    def _begun(self, world: World, requests: Requests, random: np.random.Generator) -> Requests:
        """What then has no room at the end of the refusal is left out."""
        depth = random.integers(1, self.tokens + 1, len(requests)) * (
            random.random(len(requests)) < self.share
        )
        found = begun(requests, np.minimum(depth, requests.judged[:, 1] - 1))
        room = world.sequence_length - 1 - found.prompt_length
        fits = np.arange(found.refused.shape[1]) < room[:, None]
        return replace(found, refused=np.where(fits, found.refused, world.vocabulary.id("<pad>")))

    def loss(
        self, model: PreTrainedModel, batch: Sequences, start: PreTrainedModel
    ) -> tuple[Tensor, dict[str, float]]:
        return mean_cross_entropy(model, batch), {}
