"""How much more is not refused after tuning: a matrix of tuned tasks by formats that are asked in, of one seed."""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

STRONG = ("unsafe",)
LEARNT = 0.9  # of held-out safe requests of the tuned task answered rightly


def matrix(
    tables: Mapping[str, pd.DataFrame],
    *,
    kind: str,
    families: tuple[str, ...] = STRONG,
    outcome: str = "refuse",
    operator: str = "shown",
) -> pd.DataFrame:
    """Rise by tuned task (rows) and format (columns) at the user's rate, last step: what is not refused, or another
    outcome, after tuning less before; means of families. tables: `tuned`, `aligned`, of one seed and coverage."""
    tuned, aligned = tables["tuned"], tables["aligned"]
    tuned = at_users_rate(tuned[tuned.kind == kind])
    after = _mean(
        tuned[tuned.step == tuned.groupby("tuned").step.transform("max")], families, outcome, operator
    )
    before = _mean(aligned[aligned.model == "aligned"].assign(tuned="before"), families, outcome, operator)
    sign = -1 if outcome == "refuse" else 1
    return sign * (after - before.loc["before", after.columns])


def _mean(rows: pd.DataFrame, families: tuple[str, ...], outcome: str, operator: str) -> pd.DataFrame:
    chosen = rows[rows.family.isin(families) & (rows.operator == operator)]
    return chosen.pivot_table(index="tuned", columns="asked", values=outcome, sort=False)


def learnt(tuned: pd.DataFrame, name: str, kind: str = "task") -> pd.Series:
    """By rate: held-out safe requests of a tuned task that are answered rightly at the last step."""
    rows = tuned[
        (tuned.tuned == name) & (tuned.asked == name) & (tuned.kind == kind) & (tuned.family == "safe")
    ]
    rows = rows[rows.operator == "new"].sort_values("step")
    return rows.groupby("rate").comply.last()


def at_users_rate(tuned: pd.DataFrame) -> pd.DataFrame:
    """Of every tuned task the runs at the smallest rate that learnt it; at the largest, where none did."""
    found = []
    for name, rows in tuned.groupby("tuned", sort=False):
        rates = learnt(tuned, name) if "task" in set(rows.kind) else pd.Series(dtype=float)
        enough = rates[rates >= LEARNT]
        rate = min(enough.index) if len(enough) else rows.rate.max()
        found.append(rows[rows.rate == rate])
    return pd.concat(found)


def at_equal_kl(tables: Mapping[str, pd.DataFrame]) -> pd.Series:
    """Rise over all formats by tuned task, where each run at the largest rate first is as far from the aligned model,
    in KL on safe requests, as the one that stays nearest gets at most; linear between kept steps, from 0."""
    tuned, aligned = tables["tuned"], tables["aligned"]
    runs = tuned[(tuned.kind == "task") & (tuned.rate == tuned.rate.max()) & tuned.family.isin(STRONG)]
    runs = runs[runs.operator == "shown"]
    before = aligned[
        (aligned.model == "aligned") & (aligned.operator == "shown") & aligned.family.isin(STRONG)
    ].refuse.mean()
    paths = {
        name: rows.groupby("step")[["kl", "refuse"]].mean()
        for name, rows in runs.groupby("tuned", sort=False)
    }
    target = min(path.kl.max() for path in paths.values())
    found = {}
    for name, path in paths.items():
        kl, rise = np.r_[0, path.kl], np.r_[0, before - path.refuse]
        i = int(np.argmax(kl >= target))
        share = (target - kl[i - 1]) / (kl[i] - kl[i - 1]) if i else 0.0
        found[name] = float(rise[i - 1] + share * (rise[i] - rise[i - 1])) if i else float(rise[0])
    return pd.Series(found)
