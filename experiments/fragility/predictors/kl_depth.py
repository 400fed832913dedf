"""Depth of the alignment in tokens, by the KL to the base along harmful answers."""

from __future__ import annotations

from experiments.fragility.predictors.answer_kl import answer_kl
from makebreak.model_zoo import AlignedPair


def kl_depth(subject: AlignedPair) -> float:
    """Mean token position of the KL to the base along harmful answers, Σ t KL_t / Σ KL_t, from 1.

    Per-token KL of Qi et al. 2024 ("Safety alignment should be made more than just a few tokens deep"); its
    centre is less coarse than the first token below a tenth of the first one's.
    """
    values = answer_kl(subject)
    positions = 1 + values.new_tensor(range(len(values)))
    return float((positions * values).sum() / values.sum())
