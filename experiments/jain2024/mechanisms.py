"""Mechanism of refusal of every arm by stitching: shares of requests, over seeds and by seed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from makebreak.mechanism import VERDICT_RULES
from makebreak.stats import mean_confidence_interval


class MechanismMeanRow(NamedTuple):
    """One mechanism of one arm, over seeds."""

    arm: str
    """Arm of the study."""
    mechanism: str
    """Mechanism of requests whose answer flips."""
    share: float
    """Mean over seeds of its share of these requests."""
    low: float | None
    """Lower end of the 95 % Student interval over seeds, cut at 0; None where all seeds are equal."""
    high: float | None
    """Upper end of that interval, cut at 1."""
    n_seeds: int
    """Number of seeds with enough requests that flip."""
    n_named: int
    """Seeds in which at least 80 % of the requests agree on it."""


def mechanism_means(mechanisms: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of the shares of mechanisms; a mechanism that does not occur in a seed counts as 0.

    Args:
        mechanisms: Rows of `mechanism_shares` with columns seed and arm.

    Returns:
        Rows of `MechanismMeanRow`, by arm, the most frequent mechanism first.
    """
    rows = []
    for arm, of_arm in mechanisms.groupby("arm"):
        shares = of_arm.pivot_table(index="seed", columns="mechanism", values="share", fill_value=0.0)
        for mechanism in shares.mean().sort_values(ascending=False).index:
            values = shares[mechanism].to_numpy()
            mean, low, high, n = mean_confidence_interval(values.tolist())
            named = int((values >= VERDICT_RULES.min_agreement).sum())
            if not np.ptp(values) or low is None or high is None:
                low = high = None
            else:
                low, high = max(low, 0.0), min(high, 1.0)
            rows.append(MechanismMeanRow(str(arm), str(mechanism), mean, low, high, n, named))
    table = pd.DataFrame(rows, columns=MechanismMeanRow._fields)
    return table.astype({"low": float, "high": float})  # of one seed all are None
