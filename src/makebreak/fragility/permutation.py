"""Permutation tests of the rank correlation within seed and dose.

The doses of a mechanism are kept steps of one alignment, and so depend on one another. A permutation
therefore moves whole trajectories, all doses of a mechanism, among the mechanisms of a seed. Where a
trajectory lacks a dose, the next one along the cycle of the permutation takes its place at that dose, so that
every permutation keeps the models and ranks of each seed and dose.

Seeds are permuted independently. The null distribution of the mean over seeds is that of a sum of independent
terms, and is drawn from the `N_PERMUTATIONS` values of each seed in `N_COMBINATIONS` combinations: p-values
as small as 1e-5 remain after Holm's adjustment over hundreds of pairs (Holm 1979), which 1/1001 would not. A
single seed has nothing to combine, and is permuted `N_COMBINATIONS` times.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from makebreak.fragility.association import unit_ranks

N_PERMUTATIONS = 2000
"""Permutations of every seed."""
N_COMBINATIONS = 100_000
"""Combinations of the permutations of different seeds."""
TOLERANCE = 1e-9
"""Difference below which two correlations are equal."""


class PermutationTest(NamedTuple):
    """P-values of one rank correlation under three nulls; None where the correlation is undefined."""

    trajectories: float | None
    """Whole trajectories permuted among the mechanisms of a seed, independently per seed: the test of the
    study."""
    models: float | None
    """Models permuted within seed and dose, as if doses were independent: too small for trajectories."""
    mechanisms: float | None
    """Whole trajectories permuted in the same way in all seeds: whether the association would be expected for
    other mechanisms, where the mechanisms of every seed have the same order by construction."""


def permutation_tests(
    x: Float[np.ndarray, "s m d"],
    outcomes: Mapping[str, Float[np.ndarray, "s m d"]],
    claims: Mapping[str, int],
) -> dict[str, PermutationTest]:
    """Tests of one predictor against every outcome.

    Args:
        x: Predictor; NaN where undefined.
        outcomes: Values by name.
        claims: Sign of the correlation that is claimed for each outcome; 0 for a two-sided test.

    Returns:
        The tests by outcome.
    """
    groups: dict[bytes, list[str]] = {}
    for name, y in outcomes.items():
        groups.setdefault((~(np.isnan(x) | np.isnan(y))).tobytes(), []).append(name)
    tests = {}
    for mask, names in groups.items():
        ranks = {name: unit_ranks(x, outcomes[name]) for name in names}
        weights = np.stack([_weights(*ranks[name]) for name in names])
        null = [
            _seed_values(ranks[names[0]][0], weights, _index(mask, x.shape, kind))
            for kind in ("trajectories", "models", "mechanisms")
        ]
        for i, name in enumerate(names):
            claim, value = claims[name], float((ranks[name][0] * weights[i]).sum())
            if not weights[i].any():
                tests[name] = PermutationTest(None, None, None)
                continue
            independent = [_p_value(value, _combine(of_seeds[:, :, i]), claim) for of_seeds in null[:2]]
            joint = _p_value(value, null[2][:, :, i].sum(axis=0), claim)
            tests[name] = PermutationTest(independent[0], independent[1], joint)
    return tests


def trajectory_permutations(
    mask: Bool[np.ndarray, "s m d"], n: int, kind: str, random: np.random.Generator
) -> Int[np.ndarray, "n s m d"]:
    """Mechanism whose value each model receives, in random permutations.

    Args:
        mask: Models that take part.
        n: Number of permutations.
        kind: `trajectories`, `models` or `mechanisms`, as the fields of `PermutationTest`.
        random: Source of the permutations.

    Returns:
        Indices along the second axis, which permute the models that take part; others keep their own.
    """
    s, m, d = mask.shape
    sizes = {"trajectories": (s, 1), "models": (s, d), "mechanisms": (1, 1)}[kind]
    orders = random.permuted(np.tile(np.arange(m), (n, *sizes, 1)), axis=-1)
    steps = np.broadcast_to(np.moveaxis(orders, -1, 2), (n, s, m, d))
    sources = np.where(mask, steps, np.arange(m)[:, None])
    k, i, j, o = np.nonzero(~mask[np.arange(s)[:, None, None], sources, np.arange(d)] & mask)
    while len(k):
        sources[k, i, j, o] = steps[k, i, sources[k, i, j, o], o]
        again = ~mask[i, sources[k, i, j, o], o]
        k, i, j, o = k[again], i[again], j[again], o[again]
    return sources


def flat_index(sources: Int[np.ndarray, "n s m d"]) -> Int[np.ndarray, "n s k"]:
    """Indices into the flat array of a predictor, models of a seed along the last axis."""
    n, s, m, d = sources.shape
    flat = (np.arange(s)[:, None, None] * m + sources) * d + np.arange(d)
    return flat.reshape(n, s, m * d)


@lru_cache(maxsize=9)
def _index(mask: bytes, shape: tuple[int, int, int], kind: str) -> np.ndarray:
    defined = np.frombuffer(mask, dtype=bool).reshape(shape)
    n = N_PERMUTATIONS if len(defined) > 1 else N_COMBINATIONS
    return flat_index(trajectory_permutations(defined, n, kind, np.random.default_rng(0)))


@lru_cache(maxsize=4)
def _combinations(n_seeds: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, N_PERMUTATIONS, size=(n_seeds, N_COMBINATIONS))


def _weights(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Ranks of the outcome times the weight of their seed and dose in the mean correlation."""
    usable = x.any(axis=1) & y.any(axis=1)
    bands = usable.sum(axis=1, keepdims=True)
    weight = usable / np.maximum(bands, 1) / max(int((bands > 0).sum()), 1)
    return y * weight[:, None, :]


def _seed_values(x: np.ndarray, weights: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Terms of the mean correlation under every permutation, seed × permutation × outcome."""
    flat, by_seed = x.ravel(), weights.reshape(len(weights), len(x), -1)
    return np.stack([flat[index[:, i]] @ by_seed[:, i].T for i in range(len(x))])


def _combine(values: np.ndarray) -> np.ndarray:
    """Sums over seeds of permutations that are drawn independently; those of a single seed as they are."""
    if len(values) == 1:
        return values[0]
    total = np.zeros(N_COMBINATIONS)
    for of_seed, draws in zip(values, _combinations(len(values)), strict=True):
        total += of_seed[draws]
    return total


def _p_value(value: float, null: np.ndarray, claim: int) -> float:
    if claim:
        extreme = (claim * null >= claim * value - TOLERANCE).sum()
    else:
        extreme = (np.abs(null) >= abs(value) - TOLERANCE).sum()
    return float((1 + extreme) / (1 + len(null)))
