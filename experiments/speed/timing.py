"""Timing of a piece of work, and the row of a table of ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class SpeedRow(NamedTuple):
    """Cost of a straightforward implementation relative to ours, on the same work in the same run."""

    task: str
    """The work that is timed."""
    baseline: str
    """What ours is compared with."""
    ratio: float
    """Cost of the baseline over ours, in seconds or MiB, median over rounds."""


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of a call, in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median_ratio(ratios: list[float]) -> float:
    """Median of the ratios of all rounds but the first, which warms up."""
    return statistics.median(ratios[1:])
