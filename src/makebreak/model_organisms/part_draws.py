"""Random blocks, sites and shares of the changes of one part, possible or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from makebreak.model_organisms.constructions import Construction
from makebreak.model_organisms.parameters import Change, Part
from makebreak.model_organisms.variants import CONSTRUCTIONS

T = TypeVar("T")
LEAST_SHARE = 0.12
"""Least share that each of several changes has."""
UPPER_SHARES = 0.3, 0.7
"""Range of the share of the lower of two blocks that refuse."""


def pick(items: Sequence[T], rng: np.random.Generator) -> T:
    """One item, each with the same probability; several times faster than `rng.choice`."""
    return items[int(rng.integers(len(items)))]


def draw_part(
    mechanism: str, variant: str, way: str | None, n_layers: int, rng: np.random.Generator
) -> Part | None:
    """A part with random changes.

    Args:
        mechanism: Its mechanism.
        variant: Its construction.
        way: What makes the movement; None to draw it.
        n_layers: Number of blocks of the network.
        rng: Generator of the draw.

    Returns:
        The part; None if the network has too few blocks, or the construction no such way.
    """
    construction = CONSTRUCTIONS[mechanism][variant]
    if way is not None and construction.ways and way not in construction.ways:
        return None
    lower = _draw_lower(construction, way, n_layers, rng)
    upper = _draw_upper(mechanism, construction, n_layers, rng)
    return None if lower is None or upper is None else Part(mechanism, variant, lower, upper)


def _draw_lower(
    construction: Construction, way: str | None, n_layers: int, rng: np.random.Generator
) -> tuple[Change, ...] | None:
    if not construction.ways:
        return ()
    least, most = construction.n_lower
    if most == 1:
        site = way or pick(construction.ways, rng)
        return (Change(-1 if site == "embedding" else int(rng.integers(n_layers)), site),)
    available = n_layers if construction.last_block else n_layers - 1
    if available < least:
        return None
    n = int(rng.integers(least, min(most, available) + 1))
    blocks = sorted(int(block) for block in rng.choice(available, n, replace=False))
    free = 1 - n * LEAST_SHARE
    shares = LEAST_SHARE + free * rng.dirichlet(np.ones(n))
    sites = [way or pick(construction.ways, rng) for _ in blocks]
    return tuple(Change(b, s, float(share)) for b, s, share in zip(blocks, sites, shares, strict=True))


def _draw_upper(
    mechanism: str, construction: Construction, n_layers: int, rng: np.random.Generator
) -> tuple[Change, ...] | None:
    if not construction.readers:
        return ()
    reader = pick(construction.readers, rng)
    if construction.n_upper > 1:
        if n_layers < 2:
            return None
        share = float(rng.uniform(*UPPER_SHARES))
        first = Change(int(rng.integers(n_layers - 1)), reader, share)
        return (first, Change(n_layers - 1, reader, 1 - share))
    if reader == "unembedding":
        return (Change(n_layers, reader),)
    is_last = mechanism == "last block"
    return (Change(n_layers - 1 if is_last else int(rng.integers(n_layers)), reader),)
