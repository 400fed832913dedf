"""Comparison of safety-tuned models with control models, which do not learn safety.

Any fine-tuning changes a network. Every safety-tuned run is therefore compared, seed by seed, with other
models that were trained from the same base: the base itself, a sham control, a remap control, a new benign
operator, and continued pretraining. Where several runs could be one control, the one with the nearest ‖ΔW‖ is
taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from makebreak.configs import nearest
from makebreak.model_zoo.table import IDENTITY
from makebreak.stats import mean_confidence_interval

CONTROLS: dict[str, Callable[[str], str]] = {
    "base": lambda mechanism: "base",
    "sham": lambda mechanism: ">".join(f"{stage}:sham_unsafe" for stage in mechanism.split(">")),
    "remap": lambda mechanism: "ssft:remapped_unsafe",
    "new operator": lambda mechanism: "ssft:new_operator",
    "continued": lambda mechanism: "continued",
}
"""Mechanism of each control, from the mechanism of the run that is compared with it."""
NO_CONTROL = "none"
"""Value of the column `control` in rows that hold a run's own value."""
_RUN = [name for name in IDENTITY if name != "seed"]


class ControlRow(NamedTuple):
    """Value of a column for one kind of safety-tuned run, or its difference to one control."""

    world: str
    """World of the runs."""
    pretraining: str
    """Family of requests that the base was pretrained on."""
    mechanism: str
    """Alignment stages of the runs."""
    settings: str
    """Settings of the last stage's objective."""
    learning_rate: float
    """Learning rate of the last stage."""
    weight_decay: float
    """Weight decay of the last stage."""
    steps: int
    """Steps of the last stage."""
    control: str
    """`none` for the value itself, otherwise the control (a key of `CONTROLS`) that is subtracted."""
    estimate: float
    """Mean over seeds of the value, or of value minus control paired by seed, in units of the column."""
    low: float | None
    """Lower end of the 95 % Student interval over pretraining seeds; None for one seed."""
    high: float | None
    """Upper end of the interval; None for one seed."""
    n_seeds: int
    """Number of seeds."""
    weight_change_ratio: float | None
    """‖ΔW‖ of the run over that of its control, mean over seeds; None if the control's is 0, and for the
    value."""


def compare_with_controls(zoo: pd.DataFrame, column: str) -> pd.DataFrame:
    """Compares a column of the zoo table between safety-tuned runs and their controls.

    Args:
        zoo: The zoo table, with the columns of `SafetyMeasure`.
        column: What is compared; of every run the last step counts.

    Returns:
        A table of `ControlRow`: for each kind of safety-tuned run its value, then its difference to every
        control of which there is a run.

    Raises:
        ValueError: If the table has no such column.
    """
    if column not in zoo:
        raise ValueError(f"column {column!r} is not in the table; {nearest(column, list(zoo.columns))}")
    last = zoo[(zoo.step == zoo.steps) & zoo[column].notna()]
    is_safety = (last.mechanism != "base") & ~last.mechanism.str.contains(":|^continued", regex=True)
    rows = []
    for names, runs in last[is_safety].groupby(_RUN, sort=False):
        run_names = dict(zip(_RUN, list(names), strict=True))
        rows.append(run_names | {"control": NO_CONTROL} | _estimate(runs[column].tolist()))
        for control, control_mechanism in CONTROLS.items():
            controls = last[last.mechanism == control_mechanism(str(run_names["mechanism"]))]
            pairs = _pairs(runs, controls)
            if pairs:
                differences = [float(run[column] - other[column]) for run, other in pairs]
                ratio = {"weight_change_ratio": _weight_change_ratio(pairs)}
                rows.append(run_names | {"control": control} | _estimate(differences) | ratio)
    return pd.DataFrame(
        [ControlRow(**{"weight_change_ratio": None} | row) for row in rows], columns=ControlRow._fields
    )


def _pairs(runs: pd.DataFrame, controls: pd.DataFrame) -> list[tuple[pd.Series, pd.Series]]:
    """Every run that has a control of the same base, with the one whose ‖ΔW‖ is nearest."""
    pairs = []
    for _, run in runs.iterrows():
        same_base = controls[
            (controls.world == run.world)
            & (controls.seed == run.seed)
            & (controls.pretraining == run.pretraining)
        ]
        if not same_base.empty:
            distance = (same_base.weight_change - run.weight_change).abs()
            pairs.append((run, same_base.loc[distance.idxmin()]))
    return pairs


def _weight_change_ratio(pairs: list[tuple[pd.Series, pd.Series]]) -> float | None:
    ratios = [
        run.weight_change / control.weight_change for run, control in pairs if control.weight_change > 0
    ]
    return sum(ratios) / len(ratios) if ratios else None


def _estimate(values: list[float]) -> dict[str, float | int | None]:
    interval = mean_confidence_interval(values)
    return {"estimate": interval.mean, "low": interval.low, "high": interval.high, "n_seeds": interval.n}
