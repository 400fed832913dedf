"""Batches of a stack of runs, or of one run: made several steps at once, in small integers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from makebreak.prompts import Sequences, World
from makebreak.training.objective import Objective

_REQUESTS_PER_CHUNK = 8192
"""Requests of a member that are drawn together, at most: many cost little more than few."""
_STEPS_PER_CHUNK = (8, 128)
"""Least and most steps whose batches are made together."""
_BYTES_PER_PART = 2**20
"""Size of what a process hands over at once: shared memory may be small."""


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
        least, most = _STEPS_PER_CHUNK
        self.plan = plan
        self.n_steps = min(max(_REQUESTS_PER_CHUNK // plan.batch_size, least), most)
        """Steps of a chunk."""
        n_bytes = 2 * self.n_steps * plan.batch_size * plan.world.sequence_length
        self.n_members = min(max(_BYTES_PER_PART // n_bytes, 1), len(plan.objectives))
        """Members whose batches are made by one process."""
        self.n_parts = -(-len(plan.objectives) // self.n_members)
        """Parts of a chunk, by members."""

    def __getitem__(self, number: int) -> _Chunk:
        plan, (chunk, part) = self.plan, divmod(number, self.n_parts)
        steps = range(chunk * self.n_steps, min((chunk + 1) * self.n_steps, plan.steps))
        own = slice(part * self.n_members, (part + 1) * self.n_members)
        members, is_tuple = [], False
        for objective, seed in zip(plan.objectives[own], plan.seeds[own], strict=True):
            batches = objective.batches(
                plan.world, size=plan.batch_size, steps=steps, n_steps=plan.steps, seed=seed
            )
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
        small = dtype if name == "tokens" else torch.int32  # others are positions
        columns[name] = column if column.dtype == torch.bool else column.to(small)
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
    chunks = _Chunks(plan)
    first_chunk, n_chunks = first_step // chunks.n_steps, -(-plan.steps // chunks.n_steps)
    loader = DataLoader(
        chunks,
        batch_size=None,
        sampler=range(first_chunk * chunks.n_parts, n_chunks * chunks.n_parts),
        num_workers=n_workers,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # the global generator is left as it is
    )
    step, waiting = first_chunk * chunks.n_steps, []
    with warnings.catch_warnings():  # Python 3.12 warns of forks; these processes make batches with numpy
        warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
        iterator = iter(loader)
    for chunk in iterator:
        waiting.append([_move(part, device) for part in chunk.parts])
        if len(waiting) < chunks.n_parts:
            continue
        parts = [_join_members(part) for part in zip(*waiting, strict=True)]
        waiting = []
        for i in range(len(parts[0]["tokens"])):
            if step >= first_step:
                batch = tuple(_sequences(part, i) for part in parts)
                yield batch if chunk.is_tuple else batch[0]
            step += 1


def single_batches(
    plan: BatchPlan, device: torch.device, *, first_step: int = 0, n_workers: int = 0
) -> Iterator[Any]:
    """Batches of one run, step by step, as its objective makes them.

    Args:
        plan: What the batches depend on, with one member.
        device: Where they are put.
        first_step: Step of the first batch.
        n_workers: Number of processes that make batches ahead, several steps at once; 0 makes each batch in
            this process when it is needed.

    Yields:
        `Sequences`, or a tuple of them.
    """
    [objective], [seed] = plan.objectives, plan.seeds
    if not n_workers:
        for step in range(first_step, plan.steps):
            batch = objective.batch(plan.world, size=plan.batch_size, step=step, steps=plan.steps, seed=seed)
            yield tuple(part.to(device) for part in batch) if isinstance(batch, tuple) else batch.to(device)
        return
    for batch in stack_batches(plan, device, first_step=first_step, n_workers=n_workers):
        yield tuple(map(_only_member, batch)) if isinstance(batch, tuple) else _only_member(batch)


def _only_member(batch: Sequences) -> Sequences:
    """The batch of a stack of one member, without the axis of members."""
    return Sequences(*(column.squeeze(1) for column in vars(batch).values()))


def default_workers(device: torch.device) -> int:
    """Number of processes that make batches: none beside training on a CPU, else all cores but one."""
    return 0 if device.type == "cpu" else max(len(os.sched_getaffinity(0)) - 1, 1)


def _move(part: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: column.to(device, non_blocking=True) for name, column in part.items()}


def _join_members(parts: tuple[dict[str, Tensor], ...]) -> dict[str, Tensor]:
    """One part of the batches of all members, of those of some members each."""
    for name, column in parts[0].items():
        shapes = {tuple(part[name].select(2, 0).shape) for part in parts}
        if len(shapes) > 1:
            raise ValueError(f"batches of a stack have the shapes {sorted(shapes)}: expected equal ones")
        assert column.ndim > 2
    return {name: torch.cat([part[name] for part in parts], dim=2) for name in parts[0]}


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
