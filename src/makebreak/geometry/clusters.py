"""How far apart do activations of two kinds of request lie (Jain et al. 2024, eq. 2)?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from makebreak.stats import auroc


@dataclass(frozen=True)
class Clusters:
    """Means of safe and unsafe activations, (d,), float64."""

    safe: Float[Tensor, " d"]
    unsafe: Float[Tensor, " d"]

    @property
    def distance(self) -> float:
        """‖μ_unsafe - μ_safe‖."""
        return float((self.unsafe - self.safe).norm())

    def tau(self, activations: Float[Tensor, "batch d"]) -> Float[Tensor, " batch"]:
        """‖a - μ_unsafe‖ - ‖a - μ_safe‖: positive on the safe side, within ± `distance`."""
        a = activations.double()
        return (a - self.unsafe).norm(dim=1) - (a - self.safe).norm(dim=1)


class ClusterMeans:
    """Streams activations into the means of both kinds, every group (grammar) weighing the same."""

    def __init__(self, n_groups: int) -> None:
        self._n_groups = n_groups
        self._sums: Tensor | None = None
        self._counts = torch.zeros(2, n_groups, dtype=torch.int64)

    def update(
        self, activations: Float[Tensor, "batch d"], *, unsafe: bool, group: Int[Tensor, " batch"]
    ) -> None:
        """Add activations of one kind; `group` is 0 … n_groups - 1 for each."""
        if self._sums is None:
            self._sums = torch.zeros(2, self._n_groups, activations.shape[1], dtype=torch.float64)
        self._sums[int(unsafe)].index_add_(0, group, activations.double())
        self._counts[int(unsafe)] += torch.bincount(group, minlength=self._n_groups)

    @property
    def result(self) -> Clusters:
        """Raises ValueError where a kind lacks a group: its mean would be of other requests."""
        if self._sums is None or (self._counts == 0).any():
            raise ValueError(
                f"cluster means: counts by kind and group are {self._counts.tolist()}; expected none to be 0"
            )
        means = (self._sums / self._counts[..., None]).mean(dim=1)
        return Clusters(safe=means[0], unsafe=means[1])


@dataclass(frozen=True)
class Separation:
    """How well τ separates two kinds, on requests that did not make the means.

    gap: E τ(safe) - E τ(unsafe), activation units. normalised: gap / ‖μ_unsafe - μ_safe‖ (between -2 and 2, 2 at
    best). auroc: of τ. tau_safe, tau_unsafe: means of τ.
    """

    gap: float
    normalised: float | None
    auroc: float
    tau_safe: float
    tau_unsafe: float


def separation(
    clusters: Clusters, safe: Float[Tensor, "n_safe d"], unsafe: Float[Tensor, "n_unsafe d"]
) -> Separation:
    tau_safe, tau_unsafe = clusters.tau(safe), clusters.tau(unsafe)
    means = float(tau_safe.mean()), float(tau_unsafe.mean())
    gap = means[0] - means[1]
    normalised = gap / clusters.distance if clusters.distance > 0 else None
    return Separation(gap, normalised, auroc(positive=tau_safe.numpy(), negative=tau_unsafe.numpy()), *means)
