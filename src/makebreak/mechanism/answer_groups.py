"""Readings of the base's answer for groups of requests that fine-tuning changes at the same cuts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from makebreak.mechanism.answer_reader import reader_skill
from makebreak.mechanism.stitching import Stitching
from makebreak.mechanism.verdict_rules import VERDICT_RULES

MIN_READ = 50
"""Fewest requests of the same cuts from which the base's answers are read."""


class AnswerShares(NamedTuple):
    """Share of the readers' skill that is left where the base reacts to the movement; nan if not read."""

    share: Float[np.ndarray, " flips"]
    """The share, equal for all requests of a group."""
    low: Float[np.ndarray, " flips"]
    """Lower end of its 95 % bootstrap interval."""
    high: Float[np.ndarray, " flips"]
    """Upper end."""

    @property
    def is_erased(self) -> Bool[np.ndarray, " flips"]:
        """Whether the answer is gone, for enough of the group.

        A share that is left can be a part of every answer, or the answers of a part of the requests. So the
        interval must be below the limit, and must reach the share at which enough requests have lost theirs.
        """
        rules = VERDICT_RULES
        return (self.high < rules.max_answer_share) & (self.low <= 1 - rules.min_agreement)

    @property
    def is_kept(self) -> Bool[np.ndarray, " flips"]:
        """Whether the answer is still there, by the same interval."""
        rules = VERDICT_RULES
        return (self.low > rules.max_answer_share) & (self.high >= rules.min_agreement)


def answer_shares(
    stitching: Stitching, flips: Int[np.ndarray, " flips"], cuts: Int[np.ndarray, "2 flips"], seed: int
) -> AnswerShares:
    """Reads the base's answer in groups of requests with the same two cuts.

    A mixture of mechanisms differs in these cuts. Readers need many requests: those of a group of fewer than
    `MIN_READ` join the nearest group that has them, or the largest one.

    Args:
        stitching: The stitching.
        flips: Indices of the requests that are judged.
        cuts: Cut at which each of them is read, and at which it is effective; -1 for no reading.
        seed: Seed of the readers.

    Returns:
        One share per request, with its interval.
    """
    columns, is_open = np.full((3, len(flips)), np.nan), cuts[0] >= 0
    groups, counts = np.unique(cuts[:, is_open], axis=1, return_counts=True)
    if not len(counts):
        return AnswerShares(*columns)
    large = groups[:, counts >= MIN_READ] if counts.max() >= MIN_READ else groups[:, [counts.argmax()]]
    nearest = np.abs(cuts[:, :, None] - large[:, None, :]).sum(axis=0).argmin(axis=1)
    for i, cut in enumerate(large[0]):
        is_read = is_open & (nearest == i)
        rows = flips[is_read]
        skill = reader_skill(
            stitching.base_final.numpy()[rows],
            stitching.lower_final[cut].numpy()[rows],
            stitching.base_tokens.numpy()[rows],
            seed,
        )
        if skill is not None and skill.base >= VERDICT_RULES.min_reader_skill:
            columns[:, is_read] = np.array(
                [[skill.hybrid / skill.base], [skill.share_low], [skill.share_high]]
            )
    return AnswerShares(*columns)
