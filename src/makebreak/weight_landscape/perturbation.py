"""Perturbation of a model's weights along directions, and evaluation at points, each stored once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from makebreak.store import StateLines
from makebreak.weight_landscape.directions import Direction

Point = tuple[float, ...]
"""Coordinates of a point, one per direction."""
_DECIMALS = 9
"""Decimals to which coordinates are rounded."""


class Perturbation:
    """Context in which the weights of a model can be set to points along directions.

    with Perturbation(model, first, second) as perturbation: perturbation.set(0.1, -0.2)

    The weights at a point are T0 + Σ a d, computed from the origin T0 and never from the last point. When the
    context ends, they are what they were before, bit for bit.

    Args:
        model: The model to perturb; its weights do not change before `set`.
        *directions: One or more directions.

    Raises:
        ValueError: If a direction has a parameter that the model lacks, or has in another shape.
    """

    def __init__(self, model: nn.Module, *directions: Direction) -> None:
        self.directions = directions
        parameters = dict(model.named_parameters())
        names = dict.fromkeys(name for direction in directions for name in direction.step)
        for name in names:
            for direction in directions:
                step = direction.step.get(name)
                if name not in parameters or (step is not None and step.shape != parameters[name].shape):
                    raise ValueError(
                        f"a direction moves {name!r}: expected a parameter of this {type(model).__name__}, "
                        "and of its shape"
                    )
        self._weights = {name: parameters[name] for name in names}
        self._origin = {name: weight.detach().clone() for name, weight in self._weights.items()}

    def __enter__(self) -> Perturbation:
        return self

    def __exit__(self, *_: object) -> None:
        self.set(*[0.0] * len(self.directions))

    @torch.no_grad()
    def set(self, *coordinates: float) -> None:
        """Sets the weights to a point.

        Args:
            *coordinates: One coordinate per direction.

        Raises:
            ValueError: If there are more or fewer coordinates than directions.
        """
        if len(coordinates) != len(self.directions):
            raise ValueError(f"{len(coordinates)} coordinates for {len(self.directions)} directions")
        terms = [(a, direction) for a, direction in zip(coordinates, self.directions, strict=True) if a]
        for name, weight in self._weights.items():
            start = self._origin[name]
            if len(terms) == 1 and terms[0][1].end is not None:
                torch.lerp(start, terms[0][1].end[name], terms[0][0], out=weight.data)  # exact at 0 and 1
                continue
            weight.copy_(start)
            for a, direction in terms:
                if name in direction.step:
                    weight.add_(direction.step[name], alpha=a)


class PointEvaluator:
    """Evaluations of a perturbed model at points, stored in a file with one JSON object per line.

    A point that is in the file is not evaluated again, unless its line or one before it is damaged
    (`makebreak.store.StateLines`).

    Args:
        perturbation: The perturbation.
        evaluate: Evaluates the model as it is now; returns values by column, as JSON.
        path: File of the points; None keeps them in memory only.
        origin: Values at the origin, if they are known from another direction of the same model.
    """

    def __init__(
        self,
        perturbation: Perturbation,
        evaluate: Callable[[], dict[str, Any]],
        path: Path | None = None,
        *,
        origin: dict[str, Any] | None = None,
    ) -> None:
        self.perturbation, self._evaluate = perturbation, evaluate
        self._lines = None if path is None else StateLines(path)
        stored = [] if self._lines is None else self._lines.read()
        self._rows: dict[Point, dict[str, Any]] = {tuple(row.pop("coordinates")): row for row in stored}
        if origin is not None:
            self._rows[(0.0,) * len(perturbation.directions)] = origin

    def __call__(self, *coordinates: float) -> dict[str, Any]:
        """Values at a point, by column."""
        point = tuple(round(float(a), _DECIMALS) + 0.0 for a in coordinates)
        if point not in self._rows:
            self.perturbation.set(*point)
            row = self._evaluate()
            if self._lines is not None:
                self._lines.append({"coordinates": list(point), **row})
            self._rows[point] = row
        return self._rows[point]

    def grid(self, *axes: Sequence[float]) -> list[dict[str, Any]]:
        """Values at all points of a grid, the last axis fastest; the weights are restored afterwards.

        Args:
            *axes: Coordinates along each direction.

        Returns:
            One row per point: its `coordinates`, and the values by column.
        """
        tensors = [torch.tensor(list(axis), dtype=torch.float64) for axis in axes]
        points = torch.cartesian_prod(*tensors).reshape(-1, len(axes))
        with self.perturbation:
            return [{"coordinates": point, **self(*point)} for point in points.tolist()]

    def along(
        self, axis: Sequence[float], progress: Callable[[int], object] = lambda _: None
    ) -> dict[float, dict[str, Any]]:
        """Values at points of one direction, by coordinate; the weights are restored afterwards.

        Args:
            axis: Coordinates along the direction.
            progress: Called with 1 after every point.

        Returns:
            Values by column at each coordinate.
        """
        rows = {}
        with self.perturbation:
            for coordinate in axis:
                rows[coordinate] = self(coordinate)
                progress(1)
        return rows


def find_bracket(
    value: Callable[[float], float], level: float, *, first: float = 0.05, limit: float = 2.0
) -> float | None:
    """Finds a point beyond the crossing of a level, by doubling the distance from the origin.

    Args:
        value: A function that is below the level at 0.
        level: The level.
        first: First point; its sign is the side that is searched.
        limit: Largest distance.

    Returns:
        The first of `first`, 2 `first`, 4 `first`, ... at which the value is above the level; None if there
        is none.
    """
    point = first
    while abs(point) <= limit:
        if value(point) > level:
            return point
        point *= 2
    return None
