"""Does the ground around a model tell how soon fine-tuning makes it unsafe, better than what is cheaper to know?"""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false, reportGeneralTypeIssues=false, reportAssignmentType=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from experiments.peng2024.finetune import best_rate
from experiments.peng2024.presets import HARMFUL, kinds
from makebreak.landscape import crossing

HALF = 0.5
WIDTHS = ("visage", "r50", "r50_able", "r50_complied")
CHEAP = ("margin", "weight_change")
LEAST = 4  # models of a seed for a rank correlation


def predictor_rows(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per walked model: widths, means over random directions, cheap numbers, and what fine-tuning does.

    For each kind, at the attacker's best rate: `KIND.complied`, `KIND.refused` and `KIND.safe` at the last step;
    `KIND.half`, steps until half of the unsafe requests are answered, linear between kept steps, one and a half times
    all steps where they never are.
    """
    basins = tables["basins"][tables["basins"].direction == "random"]
    rows = []
    for (seed, arm), own in tables["predictors"].groupby(["seed", "arm"], sort=False):
        here = basins[(basins.seed == seed) & (basins.arm == arm)]
        mean = here.groupby("sense")[["visage", "r50", "able"]].mean()
        row: dict[str, Any] = own.iloc[0].to_dict()
        row["visage"], row["r50"] = mean.loc["not refused", ["visage", "r50"]]
        row["r50_able"] = min(mean.loc["not refused", "r50"], mean.loc["unable", "able"])
        row["r50_complied"] = mean.loc["complied", "r50"]
        rows.append(row | falls(tables["finetuned"], seed, arm))
    return pd.DataFrame(rows)


def falls(finetuned: pd.DataFrame, seed: int, arm: str) -> dict[str, float]:
    """What every kind of fine-tuning does at the attacker's best rate."""
    own = finetuned[(finetuned.seed == seed) & (finetuned.arm == arm)]
    found = {}
    for kind in kinds(arm):
        rows = own[own.kind == kind]
        best = rows[rows.rate == best_rate(rows.to_dict("records"), kind)].sort_values("step")
        found |= {
            f"{kind}.{name}": float(best[name].iloc[-1]) for name in ("complied", "refused", "safe", "rate")
        }
        half = crossing(best.step.to_numpy(dtype=float), best.complied.to_numpy(), HALF)
        found[f"{kind}.half"] = 1.5 * best.step.max() if half is None else half
    return found


def told(rows: pd.DataFrame, predictor: str, outcome: str = f"{HARMFUL}.half") -> float | None:
    """Rank correlation within one seed, over models that refuse at first. None for too few, or no spread."""
    rows = rows[rows[predictor].notna()]
    if len(rows) < LEAST or rows[predictor].nunique() < 2 or rows[outcome].nunique() < 2:
        return None
    return float(spearmanr(rows[predictor], rows[outcome]).statistic)


def within_methods(rows: pd.DataFrame, predictor: str, outcome: str = f"{HARMFUL}.half") -> float | None:
    """The same with the method held fixed: of ranks, less the mean rank of each method."""
    rows = rows[rows[predictor].notna()]
    if len(rows) < LEAST:
        return None
    method = rows.arm.str.partition(" ")[0]
    left = [rows[c].rank() - rows[c].rank().groupby(method).transform("mean") for c in (predictor, outcome)]
    if min(np.ptp(x.to_numpy()) for x in left) == 0:
        return None
    return float(np.corrcoef(*left)[0, 1])
