"""Batches of a stack of runs: those of every single run, made several steps at once, in small integers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from makebreak.prompts import Sequences, World
from makebreak.training.objective import Objective

STEPS_PER_CHUNK = 8
"""Steps whose batches are made together: as many as a world's requests are drawn for at once."""


class BatchPlan(NamedTuple):
    """All that the batches of a stack depend on."""

    world: World
    """Source of the requests."""
    objectives: tuple[Objective, ...]
    """Objective of each member."""
    seeds: tuple[int, ...]
    """Seed of each member's batches."""
    batch_size: int
    """Requests per member and step."""
    steps: int
    """Steps of a run."""


class _Chunk(NamedTuple):
    """Batches of several steps: each part of a batch as tensors (steps, batch, members, ...)."""

    parts: list[dict[str, Tensor]]
    """Columns of `Sequences` of each part."""
    is_tuple: bool
    """Whether an objective's batch is a tuple of parts, or the only part."""


class _Chunks(Dataset[_Chunk]):
    """Chunks of a plan by number; any process makes any of them."""

    def __init__(self, plan: BatchPlan) -> None:
        self.plan = plan

    def __getitem__(self, number: int) -> _Chunk:
        plan = self.plan
        steps = range(number * STEPS_PER_CHUNK, min((number + 1) * STEPS_PER_CHUNK, plan.steps))
        members, is_tuple = [], False
        for objective, seed in zip(plan.objectives, plan.seeds, strict=True):
            batches = [
                objective.batch(plan.world, size=plan.batch_size, step=step, steps=plan.steps, seed=seed)
                for step in steps
            ]
            is_tuple = isinstance(batches[0], tuple)
            members.append([batch if is_tuple else (batch,) for batch in batches])
        dtype = torch.uint8 if len(plan.world.vocabulary) <= 256 else torch.int32
        return _Chunk([_stack_part(members, part, dtype) for part in range(len(members[0][0]))], is_tuple)


def _stack_part(members: list[list[Any]], part: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """One part of the batches of all members and steps, (steps, batch, members, ...) by column."""
    columns = {}
    for name in vars(members[0][0][part]):
        rows = [torch.stack([getattr(batch[part], name) for batch in batches]) for batches in members]
        shapes = {tuple(row.shape) for row in rows}
        if len(shapes) > 1:
            raise ValueError(f"batches of a stack have the shapes {sorted(shapes)}: expected equal ones")
        column = torch.stack(rows, dim=2)
        columns[name] = column if column.dtype == torch.bool else column.to(dtype)
    return columns


def stack_batches(
    plan: BatchPlan, device: torch.device, *, first_step: int = 0, n_workers: int = 0
) -> Iterator[Any]:
    """Batches of a stack, step by step: the single runs' own, with an axis of members after the requests.

    Args:
        plan: What the batches depend on.
        device: Where they are put, several steps at once.
        first_step: Step of the first batch.
        n_workers: Number of processes that make batches ahead; 0 makes them in this process.

    Yields:
        `Sequences`, or a tuple of them.

    Raises:
        ValueError: If the batches of two members have different shapes.
    """
    first_chunk, n_chunks = first_step // STEPS_PER_CHUNK, -(-plan.steps // STEPS_PER_CHUNK)
    loader = DataLoader(
        _Chunks(plan),
        batch_size=None,
        sampler=range(first_chunk, n_chunks),
        num_workers=n_workers,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # the global generator is left as it is
    )
    step = first_chunk * STEPS_PER_CHUNK
    for chunk in loader:
        parts = [
            {name: column.to(device, non_blocking=True) for name, column in part.items()}
            for part in chunk.parts
        ]
        for i in range(len(parts[0]["tokens"])):
            if step >= first_step:
                batch = tuple(_sequences(part, i) for part in parts)
                yield batch if chunk.is_tuple else batch[0]
            step += 1


def _sequences(part: dict[str, Tensor], step: int) -> Sequences:
    columns = {name: column[step] for name, column in part.items()}
    return Sequences(**{n: c if c.dtype == torch.bool else c.long() for n, c in columns.items()})


def check_stackable(objectives: Sequence[Objective]) -> None:
    """Raises ValueError unless the objectives are of one class, with equal settings where `loss` needs it."""
    first = objectives[0]
    for i, objective in enumerate(objectives):
        if type(objective) is not type(first):
            raise ValueError(f"member {i} has the objective {objective.method}, member 0 {first.method}")
        for name, value in objective.shared_settings().items():
            if value != getattr(first, name):
                expected = f"expected {getattr(first, name)!r}, that of member 0"
                raise ValueError(f"member {i} has {objective.method}.{name} = {value!r}: {expected}")
