"""Rank of refusal: directions whose joint ablation leaves fewer than half of the requests refused."""

from __future__ import annotations

from experiments.fragility.predictors.samples import both_classes
from makebreak.mechanism import refusal_rank_rows
from makebreak.model_zoo import Subject

_MOST_DIRECTIONS = 3
_N_REQUESTS = 24


def refusal_rank(subject: Subject) -> float:
    """Upper bound of the rank of refusal by greedy ablation; 4 where three directions are not enough.

    Ablation of refusal directions as in Arditi et al. 2024 and Wollschläger et al. 2025.
    """
    classes = both_classes(subject, _N_REQUESTS)
    rows = refusal_rank_rows(
        subject.model, classes, classes.unsafe, max_directions=_MOST_DIRECTIONS, seed=subject.recipe.seed
    )
    last = rows[-1]
    return float(last.n_directions if last.refusal_rate < 0.5 else _MOST_DIRECTIONS + 1)
