"""Sampling that all worlds share: splits of texts by a stable hash, and repeated draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from synthetic.draws import hash_rows

SPLITS = ("train", "fit", "score", "any")
"""Splits of texts; `any` samples from all three."""
HELD_OUT_SHARE = 0.10
"""Share of all texts that no training shows: half of them `fit`, half `score`."""
MAX_ATTEMPTS = 2000
"""Draws of one request before sampling gives up."""
_HELD_OUT_ATTEMPTS_PER_CALL = 16  # one text in twenty is of a held-out split


def check_sample_arguments(
    name: str, families: Mapping[str, str], *, family: str, n: int, split: str
) -> None:
    """Raises ValueError if the world `name` lacks the family, the split is unknown, or n is below 1."""
    if family not in families:
        raise ValueError(
            f"family {family!r} does not exist in world {name!r}: expected one of {', '.join(families)}"
        )
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    if n < 1:
        raise ValueError(f"n = {n}: expected at least one request")


def split_indices(*columns: np.ndarray) -> np.ndarray:
    """Index into SPLITS of each text, (n,), by a stable hash: 90 % train, 5 % fit, 5 % score."""
    share = (hash_rows(*columns) >> np.uint64(11)) * 2.0**-53
    return np.where(share >= HELD_OUT_SHARE, 0, np.where(share >= HELD_OUT_SHARE / 2, 1, 2))


def is_in_split(split: str, *columns: np.ndarray) -> np.ndarray:
    """Whether each text, given by the rows of integer columns, is of a split, (n,) bool."""
    if split == "any":
        return np.ones(len(columns[0]), dtype=bool)
    return split_indices(*columns) == SPLITS.index(split)


def rejection_sample(
    n: int,
    draw: Callable[[np.ndarray, range], tuple[dict[str, np.ndarray], np.ndarray]],
    *,
    family: str,
    split: str,
) -> dict[str, np.ndarray]:
    """Columns of `n` requests, each from the first of its attempts that is accepted.

    Args:
        n: Number of requests.
        draw: Called with rows and a range of attempts; returns columns and whether each draw is accepted, for
            (attempts x rows) draws, all rows of the first attempt first.
        family: Name of the family, for errors.
        split: Split that draws are accepted from; several attempts are made at once for the small ones.

    Returns:
        The columns.

    Raises:
        ValueError: If a request has no accepted draw.
    """
    columns: dict[str, np.ndarray] = {}
    missing = np.arange(n)
    attempts_per_call = _HELD_OUT_ATTEMPTS_PER_CALL if split in ("fit", "score") else 1
    for first_attempt in range(0, MAX_ATTEMPTS, attempts_per_call):
        proposals, accepted = draw(missing, range(first_attempt, first_attempt + attempts_per_call))
        accepted = accepted.reshape(attempts_per_call, len(missing))
        is_done = accepted.any(axis=0)
        rows = (accepted.argmax(axis=0) * len(missing) + np.arange(len(missing)))[is_done]
        for name, column in proposals.items():
            if name not in columns:
                columns[name] = np.zeros((n, *column.shape[1:]), column.dtype)
            columns[name][missing[is_done]] = column[rows]
        missing = missing[~is_done]
        if not len(missing):
            return columns
    raise ValueError(
        f"family {family!r}, split {split!r}: {len(missing)} of {n} requests found no acceptable draw"
    )
