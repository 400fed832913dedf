"""How is a model tuned on a user's examples with a provider's safety examples among them?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.configs import check_probability
from makebreak.defences.mitigations import SAMPLE, Part, Safety, mitigation
from makebreak.requests import Requests, Sequences, World, sequences
from makebreak.training import drawn, join, mean_cross_entropy

_OF_SAFETY = 500_000  # seeds of safety examples, so that they are other contents than the user's


@dataclass(frozen=True)
class Mixed:
    """Cross-entropy on whole answers to `examples` examples, drawn alike: the user's, of a family, and among them a
    share `rate` of what a mitigation writes (one of `MITIGATIONS`, or MODULE:FUNCTION).

    Refusals are taught to their first STOP: as many tokens in every format. answers: `instructed`, or `shuffled` among
    the user's, a control of what the answers say.
    """

    user: str
    examples: int
    mitigation: str = "none"
    rate: float = 0.0
    answers: Literal["instructed", "shuffled"] = "instructed"

    def __post_init__(self) -> None:
        check_probability("rate", self.rate)
        if (self.mitigation == "none") != (self.safety_examples == 0):
            raise ValueError(
                f"mitigation {self.mitigation!r}, {self.rate:g} of {self.examples} examples: expected 'none' where "
                "that is no example, and another where it is one or more"
            )

    @property
    def safety_examples(self) -> int:
        return round(self.rate * self.examples)

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Sequences:
        return drawn(mixed_set(world, self, seed), size=size, step=step, seed=seed)

    def loss(
        self, model: PreTrainedModel, batch: Sequences, start: PreTrainedModel
    ) -> tuple[Tensor, dict[str, float]]:
        return mean_cross_entropy(model, batch), {}


@lru_cache(maxsize=8)
def mixed_set(world: World, objective: Mixed, seed: int) -> Sequences:
    """All examples: the user's first, then the safety examples.

    Raises ValueError where a mitigation writes another number than the rate says.
    """
    user = world.sample(objective.user, objective.examples - objective.safety_examples, seed=seed)
    parts: list[Part] = []
    if objective.safety_examples:
        safety = Safety(world, objective.safety_examples, seed + _OF_SAFETY)
        parts = mitigation(objective.mitigation)(safety, user[:SAMPLE])
        written = sum(len(requests) for requests, _ in parts)
        if written != objective.safety_examples:
            raise ValueError(
                f"mitigation {objective.mitigation!r} wrote {written} examples: expected {objective.safety_examples}"
            )
    if objective.answers == "shuffled":
        user = replace(user, instructed=np.roll(user.instructed, 1, axis=0))
    every = [(user, "instructed"), *((_to_first_stop(world, requests), answer) for requests, answer in parts)]
    return join([sequences(world, requests, answer, whole=True) for requests, answer in every])


def _to_first_stop(world: World, requests: Requests) -> Requests:
    stop, pad = world.vocabulary.id("<stop>"), world.vocabulary.id("<pad>")
    before = np.cumsum(requests.refused == stop, axis=1) - (requests.refused == stop)
    return replace(requests, refused=np.where(before > 0, pad, requests.refused))
