"""Conditional mutual information of Jiang et al. 2020 (arXiv 1912.02178, 2.2.2), corrected for chance.

The variables are the signs of the difference of the predictor and of the outcome over pairs of models of one
seed. Their mutual information given the factors of a pair, divided by the conditional entropy of the
outcome's sign, is 1 for a predictor that decides which model is more robust and 0 for one that adds nothing
to the factors. The paper takes the minimum over all sets of at most two factors. Its estimate from finite
samples is positive without any association, the more so the finer the factors. Here the mean over
permutations of trajectories within a seed (`permutation`) is therefore subtracted for every set, and again
from the minimum over sets.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import xlogy

from makebreak.fragility.grid import ModelGrid
from makebreak.fragility.pairs import Conditions, all_conditions, model_pairs
from makebreak.fragility.permutation import flat_index, trajectory_permutations

N_PERMUTATIONS = 100
"""Permutations that the information is corrected by."""
SIGNS = (-1, 0, 1)
"""Signs of a difference."""


class Information(NamedTuple):
    """Information of one predictor about one outcome; None where undefined."""

    excess: float | None
    """Least over conditioning sets of the normalised information minus its mean over permutations, minus the
    mean of that minimum over permutations."""
    p_value: float | None
    """Share of permutations with at least this minimum."""


class InformationTest:
    """Conditional mutual information over the pairs of models of one grid.

    Args:
        grid: The models.
    """

    def __init__(self, grid: ModelGrid):
        self._grid = grid
        self._pairs = model_pairs(grid.present)
        self._conditions = all_conditions(grid)
        self._outcomes = _one_hot(
            _signs(np.stack([y.ravel() for y in grid.outcomes.values()], axis=1), self._pairs)
        )

    def __call__(self, predictor: str) -> dict[str, Information]:
        """Information of a predictor about every outcome.

        Args:
            predictor: Name of the predictor; sets that hold it fixed are left out.

        Returns:
            The information by outcome.
        """
        x = self._grid.predictors[predictor]
        random = np.random.default_rng(0)
        sources = trajectory_permutations(~np.isnan(x), N_PERMUTATIONS, "trajectories", random)
        shuffled = x.ravel()[flat_index(sources).reshape(N_PERMUTATIONS, -1)].T
        signs = _one_hot(_signs(np.column_stack([x.ravel(), shuffled]), self._pairs))
        values = np.stack(
            [
                normalised_information(pair_counts(signs, self._outcomes, conditions))
                for factors, conditions in self._conditions.items()
                if predictor not in factors
            ]
        )
        least = (values - values[:, 1:].mean(axis=1, keepdims=True)).min(axis=0)
        excess = least[0] - least[1:].mean(axis=0)
        extreme = (least[1:] >= least[0] - 1e-9).sum(axis=0)
        p_values = (1 + extreme) / (1 + N_PERMUTATIONS)
        return {
            name: Information(float(excess[i]), float(p_values[i]))
            if self._defined(x, y)
            else Information(None, None)
            for i, (name, y) in enumerate(self._grid.outcomes.items())
        }

    def _defined(self, x: np.ndarray, y: np.ndarray) -> bool:
        """Whether predictor and outcome vary over the models of a seed that have both."""
        both = ~(np.isnan(x) | np.isnan(y))
        return any(
            np.ptp(x[seed][mask]) > 0 and np.ptp(y[seed][mask]) > 0
            for seed, mask in enumerate(both)
            if mask.any()
        )


def pair_counts(
    x: Float[np.ndarray, "p a k"], y: Float[np.ndarray, "p a o"], conditions: Conditions
) -> Float[np.ndarray, "u a k a o"]:
    """Number of ordered pairs by condition, sign of the predictor and sign of the outcome.

    Args:
        x: Indicators of the signs (`SIGNS`, second axis) of k predictors over pairs.
        y: Indicators of the signs of outcomes.
        conditions: The pairs by the values of a set of factors.

    Returns:
        The counts.
    """
    sorted_x, sorted_y = (_reversed(signs[conditions.order], conditions.reverse) for signs in (x, y))
    ends = [*conditions.starts[1:], len(conditions.order)][: len(conditions.starts)]
    shape = (len(SIGNS), x.shape[2], len(SIGNS), y.shape[2])
    counts = np.empty((len(ends), *shape), dtype=np.float32)
    for u, (start, end) in enumerate(zip(conditions.starts, ends, strict=True)):
        left, right = (signs[start:end].reshape(end - start, -1) for signs in (sorted_x, sorted_y))
        counts[u] = (left.T @ right).reshape(shape)
    mirror = counts[:, ::-1, :, ::-1]
    return counts + np.where(conditions.symmetric[:, None, None, None, None], mirror, counts)


def normalised_information(counts: Float[np.ndarray, "u a k a o"]) -> Float[np.ndarray, "k o"]:
    """Conditional mutual information of both signs over the conditional entropy of the outcome's sign.

    Args:
        counts: Result of `pair_counts`.

    Returns:
        One number between 0 and 1 per predictor and outcome; 0 where the condition determines the outcome.
    """
    joint = _entropy_terms(counts, (0, 1, 3))
    of_x = _entropy_terms(counts.sum(axis=3), (0, 1))
    of_y = _entropy_terms(counts.sum(axis=1), (0, 2))
    of_condition = _entropy_terms(counts.sum(axis=(1, 3)), (0,))
    entropy = of_condition - of_y
    information = joint + of_condition - of_x - of_y
    usable = entropy > 1e-6 * np.maximum(of_condition, 1.0)
    return np.where(usable, information / np.where(usable, entropy, 1.0), 0.0)


def _entropy_terms(counts: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return xlogy(counts, counts).sum(axis=axes, dtype=np.float64)


def _signs(values: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Signs of the difference over pairs; 2 where a value is undefined."""
    left, right = values[pairs[0]], values[pairs[1]]
    signs = (left > right).astype(np.int8) - (left < right).astype(np.int8)
    signs[np.isnan(left) | np.isnan(right)] = 2
    return signs


def _one_hot(signs: np.ndarray) -> np.ndarray:
    return np.stack([signs == sign for sign in SIGNS], axis=1).astype(np.float32)


def _reversed(one_hot: np.ndarray, reverse: np.ndarray) -> np.ndarray:
    one_hot[reverse] = one_hot[reverse][:, ::-1]
    return one_hot
