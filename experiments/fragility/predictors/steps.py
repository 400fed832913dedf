"""Length of the alignment: optimisation steps."""

from __future__ import annotations

from makebreak.model_zoo import Subject


def steps(subject: Subject) -> float:
    """Number of optimisation steps of the alignment, the dose of the study."""
    return float(subject.step)
