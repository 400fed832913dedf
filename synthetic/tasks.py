"""What does a task token do? It maps text letter by letter by a bijection, and tasks compose."""

from __future__ import annotations

import numpy as np


def permutation_maps(n_letters: int, n_maps: int, seed: int) -> np.ndarray:
    """(n_maps, n_letters) bijections: the identity, then `RandomState(seed + j - 1)` for j = 1 ….

    Jain et al. 2024, released generator: letter i becomes letter maps[j, i].
    """
    drawn = [np.random.RandomState(seed + j).permutation(n_letters) for j in range(n_maps - 1)]
    return np.stack([np.arange(n_letters), *drawn])


def apply(
    maps: np.ndarray, tasks: np.ndarray, text: np.ndarray, which: np.ndarray | None = None
) -> np.ndarray:
    """Apply tasks from left to right.

    maps: (tables, tokens, letters), or (tokens, letters) for all. which: (n,) table of each request; its own by
    default. tasks: (n, slots). text: (n, length), -1 where absent, kept.
    """
    tables = maps if maps.ndim == 3 else maps[None]
    if which is None:
        which = np.arange(len(text)) if maps.ndim == 3 else np.zeros(len(text), dtype=np.int64)
    result = np.maximum(text, 0)
    for slot in tasks.T:
        result = tables[which[:, None], slot[:, None], result]
    return np.where(text < 0, -1, result)
