"""How do methods differ where they have come equally far? At equal margin, at equal KL, and at the end."""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

import numpy as np
import pandas as pd

from experiments.jain2024.presets import METHODS
from experiments.jain2024.values import Values, by_claim, mean
from makebreak.zoo import at_equal

COLUMNS = (
    *("margin", "kl_on_safe", "weight_change", "unsafe.refuse", "safe.comply", "token-matched.normalised"),
    *("null_share.unsafe", "null_share.safe", "half.lower_share", "half.unheard"),
)


def equal(zoo: pd.DataFrame) -> pd.DataFrame:
    """One row per seed, method and `on`: the end of the run, or where it first has the margin, or the KL to the base on
    safe requests, that every run of every method reaches.

    zoo: the study's. Columns: seed, arm, on, at (steps since the base), then `COLUMNS`; empty where a run's base has
    none and it is there before the first kept step.
    """
    runs = zoo[zoo.arm.isin(METHODS)]
    ends = runs.sort_values("at").groupby(["seed", "arm"]).tail(1)
    columns = [name for name in COLUMNS if name in zoo]
    found = [ends[["seed", "arm", "at", *columns]].assign(on="end")]
    lines = pd.concat([zoo[zoo.arm == "base"], runs])
    for on in ("margin", "kl_on_safe"):
        value = runs.groupby(["seed", "arm"])[on].max().min()
        others = [name for name in columns if name != on]
        rows = at_equal(lines, on, columns=others, value=value).merge(ends[["key", "arm"]], on="key")
        found.append(rows.rename(columns={"at_step": "at"})[["seed", "arm", "at", *columns]].assign(on=on))
    order = ["seed", "arm", "on", "at", *columns]
    return pd.concat(found)[order].sort_values(["on", "seed", "arm"], ignore_index=True)


def of_equal(table: pd.DataFrame) -> Values:
    """Values of the claims about methods that have come equally far."""
    at = table.set_index(["on", "seed", "arm"])
    found: Values = {}
    for on, name in (("margin", "margin"), ("kl_on_safe", "kl")):
        rows = []
        for seed in sorted(table.seed.unique()):
            of = at.loc[on, seed]
            gap = of["token-matched.normalised"]
            row = {f"C2.order_{name}": np.min([gap["dpo"], gap["unlearning"]]) - gap["ssft"]}
            if on == "margin":
                row["M1.margin"] = mean(
                    {m: of["null_share.unsafe"][m] - of["null_share.safe"][m] for m in METHODS}
                )
                given = of["half.lower_share"] if "half.lower_share" in of else dict.fromkeys(METHODS, np.nan)
                row["M3.margin"] = mean({m: given[m] for m in METHODS})
            rows.append(row)
        found |= by_claim(rows)
    return found
