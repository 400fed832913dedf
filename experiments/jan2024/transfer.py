"""Transfer of fine-tuning on one task to refusals in all formats, of one pretraining seed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from experiments.recipes.formats import RETAIN
from makebreak.model_zoo import common_descending_value, descending_crossing

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
        tables: Tables `before_tuning` and `after_tuning` of the study, of one seed and
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

    KL is taken on safe requests, of runs at the user's learning rate. Tasks are compared after the peak of
    their KL, where it last falls to a value that all of them have there (the geometric mean of these values);
    what is compared is linear between kept steps.

    Args:
        tables: Tables `before_tuning` and `after_tuning`, of one seed and coverage.

    Returns:
        Tuned task → rise; NaN for all tasks if there is no such value, as where KL does not fall.
    """
    before, after = tables["before_tuning"], tables["after_tuning"]
    runs = at_users_rate(after[(after.kind == "task") & (after.tuned_on != RETAIN)])
    runs = runs[runs.family.isin(UNSAFE) & (runs.operator == "shown")]
    before = before[(before.model == "aligned") & (before.operator == "shown") & before.family.isin(UNSAFE)]
    start = before.refuse.mean()
    paths = {
        str(task): rows.groupby("step")[["kl", "refuse"]].mean()
        for task, rows in runs.groupby("tuned_on", sort=False)
    }
    curves = {task: np.r_[0.0, path.kl] for task, path in paths.items()}
    target = common_descending_value([(curve, 0) for curve in curves.values()])
    rises = {}
    for task, curve in curves.items():
        position = None if target is None else descending_crossing(curve, target)
        rise = np.r_[0.0, start - paths[task].refuse]
        rises[task] = np.nan if position is None else np.interp(position, np.arange(len(rise)), rise)
    return pd.Series(rises)
