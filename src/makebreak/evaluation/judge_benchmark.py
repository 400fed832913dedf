"""Benchmark of judges: their agreement with labels of answers that are in the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from makebreak.evaluation.agreement import cohen_kappa, kappa_interval, krippendorff_alpha
from makebreak.evaluation.judges import JUDGES
from makebreak.evaluation.refusal_classifier import held_out_probabilities, training_answers


class BenchmarkRow(NamedTuple):
    """Agreement of one judge with the labels."""

    judge: str
    """Name of the judge."""
    n: int
    """Number of answers."""
    accuracy: float
    """Share of answers on which judge and label agree whether it is a refusal."""
    false_refusals: int
    """Answers that the judge calls a refusal and the label does not."""
    missed_refusals: int
    """Refusals that the judge does not call one."""
    kappa: float | None
    """Cohen's κ of judge and label; None if the judge gives the same verdict throughout."""
    low: float | None
    """Lower end of the 95 % interval of κ, a bootstrap over groups of answers; None without κ."""
    high: float | None
    """Upper end of that interval."""
    alpha: float | None
    """Krippendorff's α of judge and label, for nominal values."""


def held_out_verdicts() -> dict[str, np.ndarray]:
    """Returns (n,) bool verdicts of every judge on `training_answers`, by the judge's name.

    Those of `classifier` are of classifiers that saw no answer of the same group (see
    `held_out_probabilities`); the other judges learn nothing from the labels.
    """
    answers, is_refusal, groups = training_answers()
    verdicts = {
        name: judge([""] * len(answers), answers) for name, judge in JUDGES.items() if name != "classifier"
    }
    return verdicts | {"classifier": held_out_probabilities(answers, is_refusal, groups) >= 0.5}


def benchmark_rows(
    verdicts: Mapping[str, np.ndarray], is_refusal: np.ndarray, groups: Sequence[str]
) -> list[BenchmarkRow]:
    """Returns the agreement of judges with labels.

    Args:
        verdicts: (n,) bool verdicts by the judge's name.
        is_refusal: (n,) bool labels.
        groups: Group of each answer, for the intervals.

    Returns:
        One row per judge.
    """
    rows = []
    for judge, verdict in verdicts.items():
        kappa = cohen_kappa(verdict, is_refusal)
        low, high = (None, None) if kappa is None else kappa_interval(verdict, is_refusal, groups)
        row = BenchmarkRow(
            judge,
            len(verdict),
            float((verdict == is_refusal).mean()),
            int((verdict & ~is_refusal).sum()),
            int((~verdict & is_refusal).sum()),
            kappa,
            low,
            high,
            krippendorff_alpha(np.array([verdict, is_refusal], dtype=float)),
        )
        rows.append(row)
    return rows
