"""Pairs of models of a seed, and the sets of factors of a pair that the information is conditioned on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from makebreak.fragility.association import average_ranks
from makebreak.fragility.grid import COVARIATES, ModelGrid

CONDITIONING_SETS = (
    (),
    ("mechanism",),
    ("dose",),
    *((name,) for name in COVARIATES),
    COVARIATES,
    *(("dose", name) for name in COVARIATES),
    ("same_mechanism", "dose"),
    *(("same_mechanism", name) for name in COVARIATES),
)
"""Sets of at most two factors. A pair of mechanisms leaves too few pairs for a second factor, so that whether
the mechanism is the same takes its place there."""
N_CLASSES = 3
"""Classes of equal size of a covariate within a seed."""


class Conditions(NamedTuple):
    """Pairs of models, sorted by the values of a set of factors, each pair in one of its two orders."""

    order: Int[np.ndarray, " p"]
    """Indices of the pairs in the order of their values."""
    reverse: Bool[np.ndarray, " p"]
    """Pairs that are taken in the other order, so that a value and its mirror image are one; as sorted."""
    starts: Int[np.ndarray, " u"]
    """First pair of every value, as sorted."""
    symmetric: Bool[np.ndarray, " u"]
    """Values that are their own mirror image, at which both orders of a pair count."""


def model_pairs(present: Bool[np.ndarray, "s m d"]) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices of the models of every pair within a seed, each pair once."""
    firsts, seconds = [], []
    per_seed = present[0].size
    for seed, mask in enumerate(present):
        models = seed * per_seed + np.flatnonzero(mask.ravel())
        i, j = np.triu_indices(len(models), 1)
        firsts.append(models[i])
        seconds.append(models[j])
    return np.concatenate(firsts), np.concatenate(seconds)


def all_conditions(grid: ModelGrid) -> dict[tuple[str, ...], Conditions]:
    """The pairs of a grid by every conditioning set whose factors it has.

    Args:
        grid: The models.

    Returns:
        The pairs by set, in the order of `CONDITIONING_SETS`.
    """
    i, j = model_pairs(grid.present)
    codes = {"same_mechanism": (same := _same_mechanism(grid, i, j), same)}
    for axis, name in ((1, "mechanism"), (2, "dose")):
        place = np.broadcast_to(
            np.arange(grid.present.shape[axis]), np.moveaxis(grid.present, axis, -1).shape
        )
        values = np.moveaxis(place, -1, axis).ravel()
        n = grid.present.shape[axis]
        codes[name] = (values[i] * n + values[j], values[j] * n + values[i])
    for name in COVARIATES:
        if name in grid.predictors:
            codes[name] = _covariate_codes(grid.predictors[name], i, j)
    sets = [factors for factors in CONDITIONING_SETS if all(name in codes for name in factors)]
    return {factors: _conditions([codes[name] for name in factors], len(i)) for factors in sets}


def _same_mechanism(grid: ModelGrid, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    doses = grid.present.shape[2]
    return (i // doses == j // doses).astype(np.int64)


def _covariate_codes(
    values: Float[np.ndarray, "s m d"], i: np.ndarray, j: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Classes of both models and the sign of their difference, for both orders of each pair.

    Without the sign, a copy of the covariate would seem to inform about pairs of one class.
    """
    n = (~np.isnan(values)).sum(axis=(1, 2))[:, None, None]
    ranks = average_ranks(values.reshape(len(values), -1, 1)).reshape(values.shape)
    classes = np.floor((ranks - 0.5) / np.maximum(n, 1) * N_CLASSES)
    classes = np.nan_to_num(classes, nan=N_CLASSES).astype(np.int64).ravel()
    flat = values.ravel()
    sign = (flat[i] > flat[j]).astype(np.int64) - (flat[i] < flat[j])
    size = N_CLASSES + 1
    forward = (classes[i] * size + classes[j]) * 3 + 1 + sign
    backward = (classes[j] * size + classes[i]) * 3 + 1 - sign
    return forward, backward


def _conditions(codes: list[tuple[np.ndarray, np.ndarray]], n_pairs: int) -> Conditions:
    forward, backward = np.zeros(n_pairs, dtype=np.int64), np.zeros(n_pairs, dtype=np.int64)
    for one, other in codes:
        size = max(int(one.max()), int(other.max())) + 1 if n_pairs else 1
        forward, backward = forward * size + one, backward * size + other
    value = np.minimum(forward, backward)
    order = np.argsort(value, kind="stable")
    _, starts = np.unique(value[order], return_index=True)
    return Conditions(
        order=order,
        reverse=(backward < forward)[order],
        starts=starts,
        symmetric=(forward == backward)[order][starts],
    )
