"""Mean τ of safe minus that of unsafe requests, units of the activations, last layer (Jain et al. 2024, Fig. 3)."""

from __future__ import annotations

from experiments.fragility.predictors.clusters import separations
from makebreak.model_zoo import Subject


def tau_gap(subject: Subject) -> float | None:
    """Mean τ of safe minus that of unsafe requests, units of the activations, at the end of text in the last MLP (Jain et al. 2024)."""
    return separations(subject)[-1].gap
