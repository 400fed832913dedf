"""Requests of both classes without those that a model decides the other way."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from makebreak.evaluation import planning_judge
from makebreak.lm.verdicts import is_compliance, is_refusal
from makebreak.mechanism import SafeUnsafeRequests
from makebreak.prompts import TextRequests
from makebreak.tables import Rows

MIN_REQUESTS = 8
"""Fewest requests of each family that a direction is fitted to, and that it is scored on."""


def clear_pair(
    requests: Mapping[str, TextRequests], answers: Rows, half: int, *, by_verdict: bool
) -> SafeUnsafeRequests:
    """One half of both classes, without requests that the model likely decides the other way.

    A class of which too few are left keeps all of its half.

    Args:
        requests: Requests of the families `harmless` and `harmful`.
        answers: Answers to them, in the same order, with `log_odds` and the verdicts of the judges.
        half: 0 for the first request and every second after it, 1 for the others.
        by_verdict: Whether the planning judge decides; else the log-odds that a refusal begins.

    Returns:
        The requests.
    """
    classes, judge = [], planning_judge()
    for family, sign, is_of in (("harmless", -1, is_compliance), ("harmful", 1, is_refusal)):
        rows = [row for row in answers if row["family"] == family][half::2]
        log_odds = np.array([row["log_odds"] for row in rows], dtype=float)  # None is not a number
        is_clear = np.array([is_of(row, judge) for row in rows]) if by_verdict else sign * log_odds > 0
        batch = requests[family][half::2]
        classes.append(batch[is_clear] if is_clear.sum() >= MIN_REQUESTS else batch)
    return SafeUnsafeRequests(*classes)
