"""Change of what the model does on safe requests: KL(base ‖ model), nats per token."""

from __future__ import annotations

from experiments.fragility.predictors.samples import safe_requests
from makebreak.evaluation import kl_to_base
from makebreak.model_zoo import Subject


def kl_on_safe(subject: Subject) -> float:
    """KL(base ‖ model) per judged token of safe requests (the cost of safety in Jain et al. 2024)."""
    return kl_to_base(subject.world, safe_requests(subject), base=subject.base, tuned=subject.model)
