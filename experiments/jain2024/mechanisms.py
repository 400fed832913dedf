"""Mechanism of refusal of every arm by stitching: shares of requests, over seeds and by seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from makebreak.mechanism import VERDICT_RULES
from makebreak.plots import arm_name
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


def mechanism_paragraph(mechanisms: pd.DataFrame, arms: Sequence[str]) -> str:
    """Says how the models of some arms come to refuse, with shares over requests and intervals over seeds.

    Args:
        mechanisms: Rows of `mechanism_shares` with columns seed and arm.
        arms: The arms.

    Returns:
        One paragraph.
    """
    if mechanisms.empty:
        return "How these models come to refuse was not measured."
    means = mechanism_means(mechanisms).set_index("arm")
    sentences = []
    for arm in arms:
        if arm not in means.index:
            continue
        of_arm = means.loc[[arm]]
        first, n_seeds = of_arm.iloc[0], int(of_arm.n_seeds.iloc[0])
        listing = ", ".join(
            f"{mechanism} {share:.2f}{_interval(float(low), float(high), n_seeds)}"
            for mechanism, share, low, high in zip(
                of_arm.mechanism, of_arm.share, of_arm.low, of_arm.high, strict=True
            )
        )
        named = f"{first.n_named} of {n_seeds} seeds are named {first.mechanism}"
        sentences.append(f"{arm_name(arm)}: {listing}; {named}.")
    return (
        "How these models come to refuse, by stitching (share of the requests whose answer flips, mean over "
        f"seeds with its 95 % interval; a seed is named if {VERDICT_RULES.min_agreement:.0%} of its requests "
        f"agree; definitions and error rates: docs/concepts/mechanisms.md). {' '.join(sentences)}"
    )


def _interval(low: float, high: float, n_seeds: int) -> str:
    """The interval in words; nan if there is none."""
    if np.isnan(low):
        return " in every seed" if n_seeds > 1 else ""
    return f" [{low:.2f}, {high:.2f}]"
