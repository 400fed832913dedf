"""AUROC of τ that class means of unlimited requests would give, in closed form for normal activations.

The difference of estimated means is the true one, δ, and noise of covariance c Σ, with c the
`sampling_variance` and Σ the covariance within a class. The noise separates nothing, but adds c tr(Σ²) to the
variance along the difference, so that the distance d' of the classes in standard deviations is divided by
√(1 + c tr(Σ²) / δᵀΣδ). With means of 500 requests, 64 isotropic dimensions and d' = 1 the AUROC is .736 in
place of .760.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from makebreak.geometry.class_means import ClassMeans
from makebreak.stats import auroc, auroc_variance

_DISTANCES = np.linspace(0, 8, 401)
"""Distances d' that an interval may contain; the largest is an AUROC of 1 to eight digits."""
_N_VARIANCES = 61
"""Variances along δ that are tried with each distance."""


class AsymptoticAuroc(NamedTuple):
    """AUROC of τ by exact class means."""

    value: float | None
    """Estimate; None where the difference of the means is no larger than its noise."""
    low: float
    """Lower end of the interval, at least .5: exact means cannot separate worse than chance."""
    high: float
    """Upper end of the interval."""


class _Moments(NamedTuple):
    """Moments of held-out activations, as far as the AUROC depends on them."""

    auroc: float
    """AUROC of τ by the estimated means."""
    variance: float
    """Variance along the estimated difference δ̂ of the means, δ̂ᵀΣδ̂."""
    square: float
    """tr(Σ²), unbiased."""
    fourth: float
    """tr(Σ⁴) of the estimated Σ."""
    ratios: tuple[float, float]
    """δ̂ᵀΣ²δ̂ and δ̂ᵀΣ³δ̂ in units of δ̂ᵀΣδ̂."""
    range: tuple[float, float]
    """Smallest and largest eigenvalue of Σ."""
    degrees_of_freedom: int
    """Those of Σ."""


def asymptotic_auroc(
    means: ClassMeans,
    safe: Float[Tensor, "n_safe d"],
    unsafe: Float[Tensor, "n_unsafe d"],
    confidence: float = 0.95,
) -> AsymptoticAuroc:
    """AUROC of τ that class means of unlimited requests would give, with an interval.

    The interval inverts a test: a distance d' is in it if some variance along δ, between the smallest and the
    largest eigenvalue of Σ, makes both the AUROC and the variance along the estimated difference plausible.
    It therefore holds where δ is lost in the noise of the means, too, and is wide there.

    Args:
        means: The class means.
        safe: Held-out safe activations, which with the unsafe ones give the AUROC and Σ.
        unsafe: Held-out unsafe activations.
        confidence: Smallest coverage of the interval for normal activations.

    Returns:
        The AUROC and its interval over the requests that give the means and those that are scored.
    """
    moments = _moments(means, safe, unsafe)
    value = _value(moments, means.sampling_variance)
    if moments.range[1] <= 0 or moments.variance <= 0:
        return AsymptoticAuroc(value, 0.5, 1.0)  # activations, or both means, are all the same
    low, high = np.maximum(moments.range, 1e-6 * moments.range[1])
    distance, variance = _DISTANCES[:, None], np.geomspace(low, high, _N_VARIANCES)[None]
    deviation = _deviation(moments, means.sampling_variance, (len(safe), len(unsafe)), distance, variance)
    deviation = deviation.min(axis=1)
    plausible = _DISTANCES[deviation <= max(stats.chi2.ppf(confidence, df=2), deviation.min())]
    ends = stats.norm.cdf(plausible[[0, -1]] / 2**0.5)
    return AsymptoticAuroc(value, float(ends[0]), float(ends[1]) if plausible[-1] < _DISTANCES[-1] else 1.0)


def _value(moments: _Moments, c: float) -> float | None:
    signal = moments.variance - c * moments.square
    if moments.auroc in (0.0, 1.0):
        return moments.auroc
    if signal <= 0:
        return None
    return float(stats.norm.cdf(stats.norm.ppf(moments.auroc) * (moments.variance / signal) ** 0.5))


def _deviation(
    moments: _Moments, c: float, n: tuple[int, int], distance: np.ndarray, variance: np.ndarray
) -> np.ndarray:
    """Squared deviation of AUROC and δ̂ᵀΣδ̂ from those of a true distance d' and variance along δ.

    With noise ε of the difference, δ̂ᵀΣδ̂ has the errors 2 εᵀΣδ + (εᵀΣε - c tr(Σ²)) and that of Σ, and the
    distance along δ̂, δ̂ᵀδ / √(δ̂ᵀΣδ̂), those of εᵀδ and of δ̂ᵀΣδ̂. The AUROC has its error over requests as well.
    """
    signal = (distance * variance) ** 2  # δᵀΣδ
    expected = signal + c * moments.square
    expected = np.maximum(expected, 1e-12 * moments.variance)
    along = distance * np.sqrt(signal / expected)
    value = stats.norm.cdf(along / 2**0.5)
    slope = stats.norm.pdf(along / 2**0.5) / 2**0.5
    second, third = moments.ratios
    spread = 4 * c * third * signal + 2 * c**2 * moments.fourth
    shift = -along / (2 * expected)
    along_spread = (
        c * signal / expected + shift**2 * spread + 4 * c * second * signal * shift / np.sqrt(expected)
    )
    joint = slope * (2 * c * second * signal / np.sqrt(expected) + shift * spread)
    of_value = slope**2 * along_spread + auroc_variance(value, *n)
    of_variance = spread + 2 * moments.variance**2 / moments.degrees_of_freedom
    a, b = moments.auroc - value, moments.variance - expected
    determinant = of_value * of_variance - joint**2
    return (of_variance * a**2 - 2 * joint * a * b + of_value * b**2) / np.maximum(determinant, 1e-300)


def _moments(means: ClassMeans, safe: Tensor, unsafe: Tensor) -> _Moments:
    safe, unsafe = safe.double(), unsafe.double()
    value = auroc(positive=means.tau(safe).numpy(), negative=means.tau(unsafe).numpy())
    residuals = torch.cat([safe - safe.mean(dim=0), unsafe - unsafe.mean(dim=0)])
    n, (m, d) = len(residuals) - 2, residuals.shape
    gram = residuals @ residuals.T if m < d else residuals.T @ residuals
    eigenvalues = torch.linalg.eigvalsh(gram).clamp(min=0) / n
    trace, scatter = float(eigenvalues.sum()) * n, float(eigenvalues.square().sum()) * n**2
    square = (scatter - trace**2 / n) / ((n - 1) * (n + 2))  # Bai and Saranadasa 1996
    first = residuals @ (means.unsafe - means.safe)  # n δ̂ᵀΣδ̂ is its square
    second = residuals.T @ first / n
    third = residuals @ second
    variance = float(first.square().sum()) / n
    energies = float(second.square().sum()), float(third.square().sum()) / n
    least = 0.0 if m - 2 < d else float(eigenvalues[0])
    return _Moments(
        auroc=value,
        variance=variance,
        square=square,
        fourth=float(eigenvalues.pow(4).sum()),
        ratios=(energies[0] / variance, energies[1] / variance) if variance else (0.0, 0.0),
        range=(least, float(eigenvalues[-1])),
        degrees_of_freedom=n,
    )
