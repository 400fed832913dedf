"""Training data of an alignment: requests of a safe and an unsafe family, with the answers to prefer.

`AlignmentData` names the families and the answer that is preferred on the unsafe one, so that a control which
trains refusal of another family, or another answer, differs in nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch

from makebreak.configs import check_probability
from makebreak.prompts import Requests, Sequences, World, sample_batch, sequences


@dataclass(frozen=True)
class AlignmentData:
    """Families that an alignment trains on, and the answer that it prefers on the unsafe one."""

    tag: ClassVar[str] = "Data"
    safe: str = "safe"
    """Family whose instructed answers are preferred."""
    unsafe: str = "unsafe"
    """Family on which `answer` is preferred."""
    answer: Literal["refused", "instructed"] = "refused"
    """Answer that is preferred on the unsafe family."""
    safe_share: float = 0.5
    """Share of rows of the safe family in every batch, in [0, 1]."""

    def __post_init__(self) -> None:
        check_probability("safe_share", self.safe_share)

    def requests(self, world: World, *, size: int, step: int, seed: int) -> list[tuple[Requests, str]]:
        """Returns the requests of a step, each group with its preferred answer.

        The safe group comes first; a group without rows is left out.
        """
        n_safe = round(size * self.safe_share)
        groups = ((self.safe, n_safe, "instructed"), (self.unsafe, size - n_safe, self.answer))
        return [
            (sample_batch(world, family, n, step=step, seed=seed), answer)
            for family, n, answer in groups
            if n
        ]

    def both_sides(self, world: World, *, size: int, step: int, seed: int) -> tuple[Requests, Requests]:
        """Returns the safe and the unsafe requests of a step; raises ValueError if there are none of one."""
        groups = self.requests(world, size=size, step=step, seed=seed)
        if len(groups) != 2:
            raise ValueError(
                f"safe_share = {self.safe_share} of batches of {size} leaves one side without rows: "
                "the loss needs both, raise batch_size or move safe_share towards 0.5"
            )
        return groups[0][0], groups[1][0]

    def preferred_sequences(self, world: World, *, size: int, step: int, seed: int) -> Sequences:
        """Returns the preferred answers of a step, supervised whole (all outputs of an instructed answer)."""
        groups = self.requests(world, size=size, step=step, seed=seed)
        return concatenate([sequences(world, requests, answer, whole=True) for requests, answer in groups])

    def preference_pairs(
        self, world: World, *, size: int, step: int, seed: int
    ) -> tuple[Sequences, Sequences]:
        """Returns (preferred, dispreferred) answers to the same prompts, supervised on the judged segment."""
        groups = self.requests(world, size=size, step=step, seed=seed)
        opposite = {"instructed": "refused", "refused": "instructed"}
        return (
            concatenate([sequences(world, requests, answer) for requests, answer in groups]),
            concatenate([sequences(world, requests, opposite[answer]) for requests, answer in groups]),
        )


def concatenate(parts: list[Sequences]) -> Sequences:
    """Returns the rows of several batches of equal width as one batch."""
    return Sequences(*(torch.cat(column) for column in zip(*(vars(p).values() for p in parts), strict=True)))


def draw_batch(examples: Sequences, *, size: int, step: int, seed: int) -> Sequences:
    """Returns the batch of a step from a fixed set of examples, without replacement if there are enough."""
    n = len(examples)
    rows = torch.from_numpy(np.random.default_rng((seed, step)).choice(n, size, replace=size > n))
    return Sequences(*(column[rows] for column in vars(examples).values()))
