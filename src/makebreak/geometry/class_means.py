"""Class means of safe and unsafe activations, the class-mean projection τ, and separation by τ.

τ is eq. 2 of Jain et al. 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from makebreak.stats import auroc


@dataclass(frozen=True)
class ClassMeans:
    """Means of the activations of safe and of unsafe requests, float64."""

    safe: Float[Tensor, " d"]
    """Mean activation of the safe requests, μ_safe."""
    unsafe: Float[Tensor, " d"]
    """Mean activation of the unsafe requests, μ_unsafe."""
    sampling_variance: float = 0.0
    """Covariance of the difference of the two means in units of that within a class: 1 / n_safe
    + 1 / n_unsafe where there is one group; 0 for means that are exact."""

    @property
    def distance(self) -> float:
        """Euclidean distance of the two class means, ‖μ_unsafe - μ_safe‖."""
        return float((self.unsafe - self.safe).norm())

    def tau(self, activations: Float[Tensor, "batch d"]) -> Float[Tensor, " batch"]:
        """Class-mean projection τ = ‖a - μ_unsafe‖ - ‖a - μ_safe‖.

        τ is positive for activations nearer to μ_safe and lies within ± `distance`.
        """
        a = activations.double()
        return (a - self.unsafe).norm(dim=1) - (a - self.safe).norm(dim=1)


class ClassMeanFitter:
    """Streaming estimator of the two class means, in which every group (grammar) has the same weight.

    Args:
        n_groups: Number of groups, numbered 0 … n_groups - 1.
    """

    def __init__(self, n_groups: int) -> None:
        self._n_groups = n_groups
        self._sums: Tensor | None = None
        self._counts = torch.zeros(2, n_groups, dtype=torch.int64)

    def update(
        self, activations: Float[Tensor, "batch d"], *, unsafe: bool, group: Int[Tensor, " batch"]
    ) -> None:
        """Add a batch of activations of one class.

        Args:
            activations: One activation per request.
            unsafe: Whether the requests are unsafe; all of a batch are of one class.
            group: Group of each request, 0 … n_groups - 1.
        """
        activations, group = activations.cpu(), group.cpu()
        if self._sums is None:
            self._sums = torch.zeros(2, self._n_groups, activations.shape[1], dtype=torch.float64)
        self._sums[int(unsafe)].index_add_(0, group, activations.double())
        self._counts[int(unsafe)] += torch.bincount(group, minlength=self._n_groups)

    @property
    def result(self) -> ClassMeans:
        """Class means, each the unweighted mean of its group means.

        Raises:
            ValueError: If a class has no activation of some group; its mean would describe other requests.
        """
        if self._sums is None or (self._counts == 0).any():
            raise ValueError(
                f"class means: counts by class (safe, unsafe) and group are {self._counts.tolist()}; "
                "expected none to be 0; update with activations of every class and group"
            )
        means = (self._sums / self._counts[..., None]).mean(dim=1)
        sampling_variance = float((1 / self._counts).sum()) / self._n_groups**2
        return ClassMeans(safe=means[0], unsafe=means[1], sampling_variance=sampling_variance)


@dataclass(frozen=True)
class Separation:
    """Separation of safe and unsafe activations by τ, on requests that were not used for the class means."""

    gap: float
    """Mean τ of safe minus mean τ of unsafe requests, in units of the activations."""
    normalised: float | None
    """`gap` / ‖μ_unsafe - μ_safe‖, between -2 and 2 (2 is perfect); None if the two means are equal."""
    auroc: float
    """Area under the ROC curve of τ, safe requests as positives; 0.5 is chance."""
    tau_safe: float
    """Mean τ of the safe requests."""
    tau_unsafe: float
    """Mean τ of the unsafe requests."""


def separation(
    means: ClassMeans, safe: Float[Tensor, "n_safe d"], unsafe: Float[Tensor, "n_unsafe d"]
) -> Separation:
    """Separation of held-out safe and unsafe activations by their class-mean projection τ."""
    tau_safe, tau_unsafe = means.tau(safe), means.tau(unsafe)
    mean_safe, mean_unsafe = float(tau_safe.mean()), float(tau_unsafe.mean())
    gap = mean_safe - mean_unsafe
    return Separation(
        gap=gap,
        normalised=gap / means.distance if means.distance > 0 else None,
        auroc=auroc(positive=tau_safe.numpy(), negative=tau_unsafe.numpy()),
        tau_safe=mean_safe,
        tau_unsafe=mean_unsafe,
    )
