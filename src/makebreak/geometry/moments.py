"""Mean, covariance and second moment of streamed vectors, in memory that does not grow with their number."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """First and second moments of a sample of vectors, float64."""

    n: int
    """Number of vectors."""
    mean: Float[Tensor, " d"]
    """Mean vector."""
    covariance: Float[Tensor, "d d"]
    """Covariance about the mean, with divisor n."""

    @property
    def second_moment(self) -> Float[Tensor, "d d"]:
        """Second moment about zero, E[x xᵀ]."""
        return self.covariance + torch.outer(self.mean, self.mean)


class MomentFitter:
    """Streaming estimator of `Moments` by Welford's update, batch by batch; its memory is d²."""

    def __init__(self) -> None:
        self._n = 0
        self._mean: Tensor | None = None
        self._scatter: Tensor | None = None

    def update(self, vectors: Float[Tensor, "batch d"]) -> None:
        """Add a batch of vectors; an empty batch changes nothing.

        Args:
            vectors: One vector per row; the first batch sets the width d.

        Raises:
            ValueError: If the width differs from that of earlier batches.
        """
        x = vectors.double().cpu()
        if not len(x):
            return
        if self._mean is None or self._scatter is None:
            self._mean, self._scatter = x.new_zeros(x.shape[1]), x.new_zeros(x.shape[1], x.shape[1])
        if x.shape[1] != len(self._mean):
            raise ValueError(
                f"vectors of width {x.shape[1]}: expected {len(self._mean)}, the width of earlier batches"
            )
        self._n += len(x)
        centred = x - self._mean
        self._mean = self._mean + centred.sum(dim=0) / self._n
        self._scatter = self._scatter + centred.T @ (x - self._mean)

    @property
    def result(self) -> Moments:
        """Moments of all vectors so far.

        Raises:
            ValueError: If no vector was added.
        """
        if self._mean is None or self._scatter is None:
            raise ValueError("moments of no vectors are undefined: add vectors with update first")
        return Moments(self._n, self._mean, (self._scatter + self._scatter.T) / (2 * self._n))
