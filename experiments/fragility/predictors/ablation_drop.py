"""Fall of the refusal margin where the best single direction is ablated."""

from __future__ import annotations

from experiments.fragility.predictors.margin import margin
from experiments.fragility.predictors.samples import both_classes
from makebreak.evaluation import first_tokens, log_odds, next_token_log_probs
from makebreak.mechanism import ablate_directions, mean_differences
from makebreak.model_zoo import Subject


def ablation_drop(subject: Subject) -> float:
    """Refusal margin minus the least margin under ablation of one layer's difference of means, nats.

    The refusal direction of Arditi et al. 2024, without their criteria on harmless requests.
    """
    classes = both_classes(subject)
    refusal, margins = first_tokens(classes.unsafe, "refused"), []
    for vector in mean_differences(subject.model, classes):
        if vector.norm() > 0:
            with ablate_directions(subject.model, (vector / vector.norm())[:, None]):
                log_probs = next_token_log_probs(subject.model, classes.unsafe, narrow=True)
            margins.append(float(log_odds(log_probs, refusal).mean()))
    return margin(subject) - min(margins)
