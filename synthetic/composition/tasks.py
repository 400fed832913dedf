"""Task tokens as bijections of letters, and their composition."""

from __future__ import annotations

import numpy as np


def permutation_maps(n_letters: int, n_maps: int, seed: int) -> np.ndarray:
    """Bijections of letters: the identity, then `RandomState(seed + j - 1)` for j = 1, 2 ....

    Args:
        n_letters: Number of letters.
        n_maps: Number of bijections, the identity included.
        seed: Seed of the first bijection that is not the identity.

    Returns:
        Integers, (n_maps, n_letters): map j sends letter i to maps[j, i] (released generator of Jain et al.
        2024).
    """
    permutations = [np.random.RandomState(seed + j).permutation(n_letters) for j in range(n_maps - 1)]
    return np.stack([np.arange(n_letters), *permutations])


def apply_tasks(
    maps: np.ndarray, tasks: np.ndarray, text: np.ndarray, table_index: np.ndarray | None = None
) -> np.ndarray:
    """Text after its tasks, applied letter by letter from left to right.

    Args:
        maps: Bijections, (tables, tokens, letters), or (tokens, letters) if all requests share one table.
        tasks: Task tokens, (n, slots).
        text: Letters, (n, length), -1 where absent.
        table_index: Table of each request, (n,); None for table i of request i, or the only table.

    Returns:
        Letters, (n, length), -1 where the text is absent.
    """
    tables = maps if maps.ndim == 3 else maps[None]
    if table_index is None:
        table_index = np.arange(len(text)) if maps.ndim == 3 else np.zeros(len(text), dtype=np.int64)
    result = np.maximum(text, 0)
    for slot in tasks.T:
        result = tables[table_index[:, None], slot[:, None], result]
    return np.where(text < 0, -1, result)
