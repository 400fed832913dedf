"""What does a task token do? It maps text letter by letter by a bijection, and tasks compose."""

from __future__ import annotations

import numpy as np


def permutation_maps(n_letters: int, n_maps: int, seed: int) -> np.ndarray:
    """(n_maps, n_letters) bijections: the identity, then `RandomState(seed + j - 1)` for j = 1 ….

    Jain et al. 2024, released generator: letter i becomes letter maps[j, i].
    """
    drawn = [np.random.RandomState(seed + j).permutation(n_letters) for j in range(n_maps - 1)]
    return np.stack([np.arange(n_letters), *drawn])


def apply(maps: np.ndarray, tasks: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Apply tasks from left to right.

    maps: (n, tokens, letters), one table per request, or (tokens, letters) for all.
    tasks: (n, slots). text: (n, length), -1 where absent, kept.
    """
    table = maps if maps.ndim == 3 else np.broadcast_to(maps, (len(text), *maps.shape))
    result = text
    for slot in tasks.T:
        chosen = table[np.arange(len(text)), slot]
        result = np.where(text < 0, -1, np.take_along_axis(chosen, np.maximum(result, 0), axis=1))
    return result
