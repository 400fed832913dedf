"""Thresholds by which the mechanism of refusal is named, and the names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VerdictRules:
    """Thresholds of the verdict."""

    min_flips: int = 10
    """Fewest requests whose answer flips and that are judged."""
    min_flip_rate: float = 0.05
    """Least share of requests whose answer flips and that are judged."""
    min_gain: float = 0.1
    """Least gain of the refusal's probability by fine-tuning at which a request that flips is judged."""
    min_refusal_share: float = 0.5
    """Least share of the refusal's probability gain at which a combination of both models refuses."""
    max_silent_share: float = 0.02
    """Largest KL(base ‖ base under the movement) of a silent movement at the complete cut, as a share of
    KL(base ‖ tuned)."""
    min_reaction: float = 0.5
    """Least share of the largest KL between the two cuts at which the base reacts to the movement."""
    min_reader_skill: float = 0.2
    """Least skill of a reader of the base's own final states."""
    max_answer_share: float = 0.5
    """Largest share of that skill that is left where the answer is erased; *unread* where the interval of the
    share contains it."""
    min_agreement: float = 0.8
    """Least share of requests that agree on the mechanism that is named."""


VERDICT_RULES = VerdictRules()
MECHANISMS = (
    "silence",
    "route",
    "rewrite",
    "erase",
    "written directly",
    "last block",
    "redundant",
    "unread",
    "unspecific",
)
"""What a request's refusal can come from."""
OPEN_MECHANISMS = {
    "unread": "rewrite or erase, which readers of the base's answers do not tell apart",
    "unspecific": "any movement of this size makes the base refuse",
}
"""Those that leave open where the refusal comes from, and why."""
NOT_JUDGED = "not judged"
"""In place of a mechanism: refusal gains too little probability, or too few requests can be judged."""
