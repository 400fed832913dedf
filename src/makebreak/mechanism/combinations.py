"""Which combinations of a base and a tuned model refuse, request by request.

A combination *refuses* if it has at least half of what fine-tuning added to the probability of the refusal.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.mechanism.additive import additive_log_odds
from makebreak.mechanism.stitching import Stitching
from makebreak.mechanism.verdict_rules import VERDICT_RULES


class RefusalCuts(NamedTuple):
    """Where the change of each judged request is complete and effective, and what happens there."""

    complete_at: np.ndarray
    """First cut where tuned blocks, on the base's states, no longer refuse; one beyond all cuts for none."""
    effective_at: np.ndarray
    """First cut where the base's upper part refuses on the tuned states; one beyond all cuts for none."""
    is_direct: np.ndarray
    """Whether the movement, added to the base's final states, refuses."""
    is_unspecific: np.ndarray
    """Whether a random movement of the same norm refuses."""
    is_between: np.ndarray
    """Cuts from the complete one up to the effective one, (cuts, requests)."""


class AdditiveRefusals(NamedTuple):
    """Whether each combination of `AdditiveLogOdds` refuses."""

    carried: np.ndarray
    """Changes are added to the base's final states."""
    carried_alone: np.ndarray
    """The same, where only the logit of the refusal is changed."""
    reacting: np.ndarray
    """The base's blocks react to the changes."""
    reacting_alone: np.ndarray
    """The same, where the reaction changes only the logit of the refusal."""


def find_cuts(stitching: Stitching, flips: np.ndarray) -> RefusalCuts:
    """Finds where the change of each request is complete and effective.

    Args:
        stitching: Result of `stitch` at all cuts.
        flips: Indices of the requests.

    Returns:
        The cuts, and what happens there.
    """
    complete_at = _first_cut(~_refuses(stitching, stitching.upper, flips))
    effective_at = _first_cut(_refuses(stitching, stitching.lower, flips))
    at_effect = np.minimum(effective_at, stitching.n_layers), np.arange(len(flips))
    cuts = np.arange(stitching.n_layers + 1)[:, None]
    return RefusalCuts(
        complete_at,
        effective_at,
        _refuses(stitching, stitching.direct, flips)[at_effect],
        _refuses(stitching, stitching.random, flips)[at_effect],
        (complete_at <= cuts) & (cuts < effective_at),
    )


def additive_refusals(
    stitching: Stitching,
    flips: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    *,
    base: PreTrainedModel,
    tuned: PreTrainedModel,
) -> AdditiveRefusals:
    """Whether sums of changes that tuned blocks make between two cuts refuse.

    Args:
        stitching: Result of `stitch` for the same models.
        flips: Indices of the requests.
        starts: The lower cut of each; -1 for a request that is not run, and for which all is False.
        stops: The upper cut of each.
        base: The model before fine-tuning.
        tuned: The model after it.

    Returns:
        What refuses, by request.
    """
    refuses = np.zeros((4, len(flips)), dtype=bool)
    for start, stop in sorted({*zip(starts.tolist(), stops.tolist(), strict=True)}):
        if start < 0:
            continue
        rows = np.flatnonzero((starts == start) & (stops == stop))
        sums = additive_log_odds(stitching, flips[rows], start, stop, base=base, tuned=tuned)
        ends = refusal_ends(stitching, flips[rows])
        refuses[:, rows] = [_reaches(values.numpy(), *ends) for values in sums]
    return AdditiveRefusals(*refuses)


def _refuses(stitching: Stitching, values: Tensor, flips: np.ndarray) -> np.ndarray:
    """Whether each combination refuses, from its log-odds, (cuts, flips)."""
    return _reaches(values.numpy()[:, flips], *refusal_ends(stitching, flips))


def refusal_ends(stitching: Stitching, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of the answer in base and tuned model."""
    return stitching.base_log_odds.numpy()[rows], stitching.tuned_log_odds.numpy()[rows]


def _reaches(values: np.ndarray, base: np.ndarray, tuned: np.ndarray) -> np.ndarray:
    """Whether log-odds give the least share of the gain in probability."""
    p, p_base, p_tuned = expit(values), expit(base), expit(tuned)
    return p - p_base >= VERDICT_RULES.min_refusal_share * (p_tuned - p_base)


def _first_cut(holds: np.ndarray) -> np.ndarray:
    """First cut, along the first axis, where something holds; the number of cuts if there is none."""
    return np.where(holds.any(axis=0), holds.argmax(axis=0), len(holds))
