"""What measures on samples of requests share: their number, and the split for class means."""

from __future__ import annotations

from dataclasses import dataclass

from makebreak.configs import check_positive
from makebreak.mechanism import (
    SafeUnsafeRequests,
)
from makebreak.model_zoo import Subject


@dataclass(frozen=True)
class SampledMeasure:
    """Size of a measure on requests."""

    n: int = 500
    """Number of requests per family."""

    def __post_init__(self) -> None:
        check_positive(n=self.n)


def fit_and_score(subject: Subject, n: int) -> tuple[SafeUnsafeRequests, SafeUnsafeRequests]:
    """Safe and unsafe requests that directions are fitted to, and others that they are scored on."""
    fit, score = (
        SafeUnsafeRequests(subject.sample("safe", n, split), subject.sample("unsafe", n, split))
        for split in ("fit", "score")
    )
    return fit, score
