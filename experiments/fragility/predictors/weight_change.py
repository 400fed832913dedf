"""Size of the update: Frobenius norm of ΔW over all matrices."""

from __future__ import annotations

from makebreak import model_zoo
from makebreak.model_zoo import AlignedPair


def weight_change(subject: AlignedPair) -> float:
    """‖ΔW‖, the distance from initialisation of Jiang et al. 2020 with the base as the initial model."""
    return model_zoo.weight_change(base=subject.base, tuned=subject.model)
