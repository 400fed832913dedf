"""What does an alignment see? Requests of a safe family and of an unsafe one, with the answers to prefer and to avoid.

Which families these are, and what is taught on the unsafe one, is `Data`: a control that teaches the null elsewhere, or
another answer, differs in nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from makebreak.configs import check_probability
from makebreak.requests import Requests, Sequences, World, sampled, sequences


@dataclass(frozen=True)
class Data:
    """safe: a family to answer. unsafe: the family that is taught `answer`. safe_share: of safe rows in every batch."""

    safe: str = "safe"
    unsafe: str = "unsafe"
    answer: Literal["refused", "instructed"] = "refused"
    safe_share: float = 0.5

    def __post_init__(self) -> None:
        check_probability("safe_share", self.safe_share)

    def requests(self, world: World, *, size: int, step: int, seed: int) -> list[tuple[Requests, str]]:
        """The requests of a step with the answer to teach, safe ones first; a family without rows is left out."""
        n_safe = round(size * self.safe_share)
        shares = ((self.safe, n_safe, "instructed"), (self.unsafe, size - n_safe, self.answer))
        return [
            (sampled(world, family, n, step=step, seed=seed), answer) for family, n, answer in shares if n
        ]

    def preferred(self, world: World, *, size: int, step: int, seed: int) -> Sequences:
        """The answers to teach, whole: all outputs where the answer is the instructed one."""
        parts = self.requests(world, size=size, step=step, seed=seed)
        return join([sequences(world, requests, answer, whole=True) for requests, answer in parts])

    def pairs(self, world: World, *, size: int, step: int, seed: int) -> tuple[Sequences, Sequences]:
        """(preferred, dispreferred) sequences of the same prompts; supervised is the judged segment."""
        parts = self.requests(world, size=size, step=step, seed=seed)
        other = {"instructed": "refused", "refused": "instructed"}
        return (
            join([sequences(world, requests, answer) for requests, answer in parts]),
            join([sequences(world, requests, other[answer]) for requests, answer in parts]),
        )


def join(parts: list[Sequences]) -> Sequences:
    return Sequences(*(torch.cat(column) for column in zip(*(vars(p).values() for p in parts), strict=True)))


def drawn(examples: Sequences, *, size: int, step: int, seed: int) -> Sequences:
    """The batch of a step from examples that are seen again and again: none twice, where there are enough."""
    n = len(examples)
    rows = torch.from_numpy(np.random.default_rng((seed, step)).choice(n, size, replace=size > n))
    return Sequences(*(column[rows] for column in vars(examples).values()))
