"""Training data of an alignment: requests of a safe and an unsafe family, with the answers to prefer.

`AlignmentData` names the families and the answer that is preferred on the unsafe one, so that a control which
trains refusal of another family, or another answer, differs in nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch

from makebreak.configs import check_probability
from makebreak.prompts import Requests, Sequences, World, sample_batch, sequences


class _Group(NamedTuple):
    """Requests of one family in a batch."""

    family: str
    """Name of the family."""
    n: int
    """Number of rows."""
    answer: str
    """Answer that is preferred."""
    whole: bool
    """Whether the preferred answer is supervised whole, or only on its judged segment."""


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

    unsafe_second: str | None = field(default=None, metadata={"omit": None})
    """Family of the unsafe rows that are judged on their second output (`prob_comp1_train` in Jain et al.
    2024); `answer` is preferred there, and no output before it is supervised. None for no such rows."""
    second_share: float = field(default=0.2, metadata={"omit": 0.2})
    """Share of the rows of the unsafe side that are of `unsafe_second`, in [0, 1]."""

    def __post_init__(self) -> None:
        check_probability("safe_share", self.safe_share)
        check_probability("second_share", self.second_share)

    def requests(self, world: World, *, size: int, step: int, seed: int) -> list[tuple[Requests, str]]:
        """Returns the requests of a step, each group with its preferred answer.

        The safe group comes first, that of `unsafe_second` last; a group without rows is left out.
        """
        return [
            (sample_batch(world, group.family, group.n, step=step, seed=seed), group.answer)
            for group in self._groups(size)
        ]

    def _groups(self, size: int) -> list[_Group]:
        """Groups that have rows in a batch."""
        n_safe = round(size * self.safe_share)
        n_second = round((size - n_safe) * self.second_share) if self.unsafe_second else 0
        groups = [
            _Group(self.safe, n_safe, "instructed", whole=True),
            _Group(self.unsafe, size - n_safe - n_second, self.answer, whole=True),
            _Group(self.unsafe_second or "", n_second, self.answer, whole=False),
        ]
        return [group for group in groups if group.n]

    def instructed_sides(
        self, world: World, *, size: int, step: int, seed: int, whole: bool
    ) -> tuple[Sequences, Sequences]:
        """Returns the instructed answers to the safe and to the unsafe requests of a step.

        Args:
            world: Source of the requests.
            size: Number of requests.
            step: Step of training, from 0.
            seed: Seed of the run.
            whole: Whether answers to unsafe requests are supervised whole; those to safe ones are.

        Returns:
            The sequences of both sides.

        Raises:
            ValueError: If one side has no rows.
        """
        n_safe = round(size * self.safe_share)
        if n_safe in (0, size):
            raise ValueError(
                f"safe_share = {self.safe_share} of batches of {size} leaves one side without rows: "
                "the loss needs both, raise batch_size or move safe_share towards 0.5"
            )
        (safe, _), *unsafe = self.requests(world, size=size, step=step, seed=seed)
        return sequences(world, safe, "instructed", whole=True), concatenate(
            [sequences(world, requests, "instructed", whole=whole) for requests, _ in unsafe]
        )

    def preferred_sequences(self, world: World, *, size: int, step: int, seed: int) -> Sequences:
        """Returns the preferred answers of a step, supervised whole (all outputs of an instructed answer).

        Of requests that are judged on their second output, the judged segment alone is supervised.
        """
        requests = self.requests(world, size=size, step=step, seed=seed)
        parts = zip(requests, self._groups(size), strict=True)
        return concatenate(
            [sequences(world, rows, answer, whole=group.whole) for (rows, answer), group in parts]
        )

    def preferred_steps(self, world: World, *, size: int, steps: range, seed: int) -> list[Sequences]:
        """Returns `preferred_sequences` of consecutive steps, whose requests are drawn together."""
        parts = []
        for family, n, answer, whole in self._groups(size):
            requests = world.sample(family, n * len(steps), seed=seed, start=n * steps.start)
            parts.append(sequences(world, requests, answer, whole=whole))
        return split_steps(parts, len(steps))

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


def split_steps(groups: list[Sequences], n_steps: int) -> list[Sequences]:
    """Returns the batch of each step, in which the rows of a group follow those of the group before it.

    Args:
        groups: Sequences of equal width; the rows of each are those of all steps, one step after the other.
        n_steps: Number of steps.

    Returns:
        The batches.
    """
    by_step = [[column.unflatten(0, (n_steps, -1)) for column in vars(group).values()] for group in groups]
    columns = [torch.cat(parts, dim=1) for parts in zip(*by_step, strict=True)]
    return [Sequences(*(column[step] for column in columns)) for step in range(n_steps)]


def draw_batch(examples: Sequences, *, size: int, step: int, seed: int) -> Sequences:
    """Returns the batch of a step from a fixed set of examples, without replacement if there are enough."""
    n = len(examples)
    rows = torch.from_numpy(np.random.default_rng((seed, step)).choice(n, size, replace=size > n))
    return Sequences(*(column[rows] for column in vars(examples).values()))
