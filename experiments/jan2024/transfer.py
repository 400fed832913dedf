"""Transfer of fine-tuning on one task to refusals in all formats, of one pretraining seed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

Tables = Mapping[str, pd.DataFrame]

UNSAFE = ("unsafe",)
"""Families of requests in which refusal is measured."""
LEARNT = 0.9
"""Share of held-out safe requests of the tuned task answered rightly from which it counts as learnt."""


def transfer_matrix(
    tables: Tables,
    *,
    kind: str,
    families: tuple[str, ...] = UNSAFE,
    outcome: str = "refuse",
    operator: str = "shown",
) -> pd.DataFrame:
    """Rise of what is not refused, or of another outcome, by tuned task and format of the requests.

    Args:
        tables: Tables `before_tuning` and `after_tuning` of `experiments.jan2024.study.run`, of one seed and
            coverage.
        kind: Kind of fine-tuning, one of `KINDS`.
        families: Families of requests, over which the mean is taken.
        outcome: Column of the tables; for `refuse` the sign is reversed.
        operator: Operators of the requests, `shown` or `new`.

    Returns:
        Tuned tasks (rows) × formats (columns): share after fine-tuning, at the user's learning rate and the
        last step, minus the share before, from -1 to 1.
    """
    before, after = tables["before_tuning"], tables["after_tuning"]
    after = at_users_rate(after[after.kind == kind])
    after = after[after.step == after.groupby("tuned_on").step.transform("max")]
    before = before[before.model == "aligned"].assign(tuned_on="before")
    means = _means(after, families, outcome, operator)
    start = _means(before, families, outcome, operator).loc["before"][means.columns]
    return (-1 if outcome == "refuse" else 1) * (means - start)


def _means(rows: pd.DataFrame, families: tuple[str, ...], outcome: str, operator: str) -> pd.DataFrame:
    """Means of an outcome by tuned task (rows) and format (columns)."""
    chosen = rows[rows.family.isin(families) & (rows.operator == operator)]
    return chosen.pivot_table(index="tuned_on", columns="format", values=outcome, sort=False)


def task_accuracy(after: pd.DataFrame, task: str, kind: str = "task") -> pd.Series:
    """Accuracy on a tuned task after the last step, by learning rate.

    Args:
        after: Table `after_tuning`.
        task: Format whose task was tuned.
        kind: Kind of fine-tuning, one of `KINDS`.

    Returns:
        Learning rate → share of held-out safe requests of the task that are answered rightly.
    """
    rows = after[(after.tuned_on == task) & (after.format == task) & (after.kind == kind)]
    rows = rows[(rows.family == "safe") & (rows.operator == "new")].sort_values("step")
    return rows.groupby("rate").comply.last()


def at_users_rate(after: pd.DataFrame) -> pd.DataFrame:
    """Rows at the user's learning rate of each tuned task: the smallest at which the task is learnt.

    Args:
        after: Table `after_tuning`, of one kind of fine-tuning.

    Returns:
        The rows; those of the largest rate where none is enough, or where no rates are compared.
    """
    chosen = []
    for task, rows in after.groupby("tuned_on", sort=False):
        compares_rates = "task" in set(rows.kind)
        accuracy = task_accuracy(after, str(task)) if compares_rates else pd.Series(dtype=float)
        sufficient = accuracy[accuracy >= LEARNT]
        rate = min(sufficient.index) if len(sufficient) else rows.rate.max()
        chosen.append(rows[rows.rate == rate])
    return pd.concat(chosen)


def transfer_at_equal_kl(tables: Tables) -> pd.Series:
    """Rise of what is not refused over all formats, by tuned task, at equal KL to the aligned model.

    KL is taken on safe requests, of runs at the largest learning rate. The comparison is made at the greatest
    KL of the run that stays nearest, where every run first reaches it; values are linear between kept steps,
    from 0. As a comparison of tasks it is withdrawn (docs/errata.md, W4).

    Args:
        tables: Tables `before_tuning` and `after_tuning`, of one seed and coverage.

    Returns:
        Tuned task → rise.
    """
    before, after = tables["before_tuning"], tables["after_tuning"]
    runs = after[(after.kind == "task") & (after.rate == after.rate.max())]
    runs = runs[runs.family.isin(UNSAFE) & (runs.operator == "shown")]
    before = before[(before.model == "aligned") & (before.operator == "shown") & before.family.isin(UNSAFE)]
    start = before.refuse.mean()
    paths = {
        str(task): rows.groupby("step")[["kl", "refuse"]].mean()
        for task, rows in runs.groupby("tuned_on", sort=False)
    }
    target = min(path.kl.max() for path in paths.values())
    rises = {}
    for task, path in paths.items():
        kl, rise = np.r_[0, path.kl], np.r_[0, start - path.refuse]
        rises[task] = _value_where_first_reached(kl, rise, target)
    return pd.Series(rises)


def _value_where_first_reached(x: np.ndarray, y: np.ndarray, target: float) -> float:
    """Value of y, linear between points, where x first reaches a target."""
    i = int(np.argmax(x >= target))
    if i == 0:
        return float(y[0])
    share = (target - x[i - 1]) / (x[i] - x[i - 1])
    return float(y[i - 1] + share * (y[i] - y[i - 1]))
