"""What are the mean, covariance and second moment of vectors that stream by?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """n vectors; mean (d,), covariance (d, d) with divisor n, float64."""

    n: int
    mean: Float[Tensor, " d"]
    covariance: Float[Tensor, "d d"]

    @property
    def second(self) -> Float[Tensor, "d d"]:
        """E[x xᵀ], about zero."""
        return self.covariance + torch.outer(self.mean, self.mean)


class MomentFitter:
    """Welford's update by batches: memory is d², whatever the number of vectors."""

    def __init__(self) -> None:
        self._n = 0
        self._mean: Tensor | None = None
        self._scatter: Tensor | None = None

    def update(self, vectors: Float[Tensor, "batch d"]) -> None:
        """Add a batch. Raises ValueError for vectors of another width."""
        x = vectors.double().cpu()
        if not len(x):
            return
        if self._mean is None or self._scatter is None:
            self._mean, self._scatter = x.new_zeros(x.shape[1]), x.new_zeros(x.shape[1], x.shape[1])
        if x.shape[1] != len(self._mean):
            raise ValueError(
                f"vectors of width {x.shape[1]}: expected {len(self._mean)}, that of those before"
            )
        self._n += len(x)
        before = x - self._mean
        self._mean = self._mean + before.sum(dim=0) / self._n
        self._scatter = self._scatter + before.T @ (x - self._mean)

    @property
    def result(self) -> Moments:
        """Raises ValueError where nothing was added."""
        if self._mean is None or self._scatter is None:
            raise ValueError("moments of no vectors are undefined: update with some first")
        return Moments(self._n, self._mean, (self._scatter + self._scatter.T) / (2 * self._n))
