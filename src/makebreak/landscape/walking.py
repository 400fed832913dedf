"""What does a model do at each point on the way? Points are written at once, and never measured twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from makebreak.landscape.directions import Direction

Point = tuple[float, ...]


class Walk:
    """with Walk(model, d1, d2) as walk: walk.to(0.1, -0.2); …

    Every point is T0 + Σ a d, never a step from the last one. Behind the context the weights are what they were, bit
    for bit. Raises ValueError for a direction of other parameters, or another number of coordinates.
    """

    def __init__(self, model: nn.Module, *directions: Direction) -> None:
        self.directions = directions
        own = dict(model.named_parameters())
        names = dict.fromkeys(name for direction in directions for name in direction.step)
        for name in names:
            for direction in directions:
                step = direction.step.get(name)
                if name not in own or (step is not None and step.shape != own[name].shape):
                    raise ValueError(
                        f"a direction moves {name!r}, which this {type(model).__name__} has not as it is"
                    )
        self._weights = {name: own[name] for name in names}
        self._origin = {name: weight.detach().clone() for name, weight in self._weights.items()}

    def __enter__(self) -> Walk:
        return self

    def __exit__(self, *_: object) -> None:
        self.to(*[0.0] * len(self.directions))

    @torch.no_grad()
    def to(self, *at: float) -> None:
        if len(at) != len(self.directions):
            raise ValueError(f"{len(at)} coordinates for {len(self.directions)} directions")
        moves = [(a, direction) for a, direction in zip(at, self.directions, strict=True) if a]
        for name, weight in self._weights.items():
            start = self._origin[name]
            if len(moves) == 1 and moves[0][1].end is not None:
                torch.lerp(start, moves[0][1].end[name], moves[0][0], out=weight.data)  # exact at 0 and 1
                continue
            weight.copy_(start)
            for a, direction in moves:
                if name in direction.step:
                    weight.add_(direction.step[name], alpha=a)


class Points:
    """Measures at points, kept in a file of one line each; a torn last line is measured again."""

    def __init__(
        self,
        walk: Walk,
        measure: Callable[[], dict[str, Any]],
        kept: Path | None = None,
        *,
        origin: dict[str, Any] | None = None,
    ) -> None:
        """kept: the file. origin: what was measured there on another walk of the same model."""
        self.walk, self._measure, self._kept = walk, measure, kept
        self._found: dict[Point, dict[str, Any]] = {}
        if kept is not None and kept.is_file():
            lines = [line for line in kept.read_text().splitlines(keepends=True) if line.endswith("}\n")]
            kept.write_text("".join(lines))
            self._found = {tuple(row["at"]): row for row in map(json.loads, lines)}
        if origin is not None:
            at = [0.0] * len(walk.directions)
            self._found[tuple(at)] = origin | {"at": at}

    def __call__(self, *at: float) -> dict[str, Any]:
        """What is measured at a point, and `at`."""
        point = tuple(round(float(a), 9) + 0.0 for a in at)
        if point not in self._found:
            self.walk.to(*point)
            row = {"at": list(point), **self._measure()}
            if self._kept is not None:
                with self._kept.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            self._found[point] = row
        return self._found[point]

    def grid(self, *axes: Sequence[float]) -> list[dict[str, Any]]:
        """All points of a grid, in reading order."""
        coordinates = torch.cartesian_prod(*(torch.tensor(list(axis), dtype=torch.float64) for axis in axes))
        return [self(*point) for point in coordinates.reshape(-1, len(axes)).tolist()]


def bracket(
    value: Callable[[float], float], level: float, *, first: float = 0.05, most: float = 2.0
) -> float | None:
    """The first of ±first, ±2 first, … at which a value that begins below a level is above it; None if none is."""
    at = first
    while abs(at) <= most:
        if value(at) > level:
            return at
        at *= 2
    return None


def edge(
    value: Callable[[float], float], level: float, inside: float, outside: float, *, halvings: int = 6
) -> float:
    """Where a value passes a level, by bisection between a point below it and one above."""
    for _ in range(halvings):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if value(middle) > level else (middle, outside)
    return (inside + outside) / 2
