"""Read gain of the update on unsafe over safe requests."""

from __future__ import annotations

import math

import numpy as np

from experiments.fragility.predictors.samples import both_classes
from experiments.fragility.predictors.updates import input_updates
from makebreak.mechanism import end_of_text_activations
from makebreak.model_zoo import Subject


def read_gain(subject: Subject) -> float | None:
    """Log of ‖ΔW_in a‖ / ‖a‖ on unsafe over safe requests, mean over layers (Jain et al. 2024, Fig. 5)."""
    classes, ratios = both_classes(subject), []
    for name, update in input_updates(subject).items():
        site = name.partition(".mlp.")[0] + ".mlp.hook_in"
        states = [end_of_text_activations(subject.model, requests, [site])[0] for requests in classes]
        safe, unsafe = (float(((a @ update.T).norm(dim=1) / a.norm(dim=1)).mean()) for a in states)
        ratios.append(math.log(unsafe / safe))
    return float(np.mean(ratios)) if ratios else None
