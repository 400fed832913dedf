"""Stitching of base and model at inner cuts, shared by two predictors."""

from __future__ import annotations

from experiments.fragility.predictors.samples import unsafe_requests
from makebreak.mechanism import stitch
from makebreak.model_zoo import Subject
from makebreak.models import n_layers

_N_REQUESTS = 32


def stitching_shares(subject: Subject) -> tuple[float | None, float | None]:
    """Shares of the rise of the refusal margin that the lower and the upper part carry alone, mean over cuts.

    None where alignment has not raised the margin.
    """
    requests = unsafe_requests(subject, _N_REQUESTS)
    cuts = range(1, n_layers(subject.model))
    result = stitch(base=subject.base, tuned=subject.model, requests=requests, cuts=cuts, seed=0)
    base, tuned = result.base_log_odds.mean(), result.tuned_log_odds.mean()
    if not tuned > base:
        return None, None
    lower, upper = ((part.mean() - base) / (tuned - base) for part in (result.lower, result.upper))
    return float(lower), float(upper)
