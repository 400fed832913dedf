"""Fall of the refusal margin when all matrices are rounded to four bits."""

from __future__ import annotations

from experiments.fragility.compression import quantise
from experiments.fragility.predictors.margin import margin
from makebreak.model_zoo import Subject
from makebreak.weight_landscape import Perturbation


def quantisation_gap(subject: Subject) -> float:
    """Refusal margin minus that with weights of four bits, nats (Zhang et al. 2024, arXiv 2410.16454)."""
    with Perturbation(subject.model, quantise(subject.model, bits=4)) as perturbation:
        perturbation.set(1.0)
        quantised = margin(subject)
    return margin(subject) - quantised
