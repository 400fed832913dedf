"""Is what a measure finds about safety, or does any tuning of that size do it? A column of the zoo beside its controls.

Every safety-tuned run is compared, seed by seed, with what else was made of the same base: the base itself, sham
safety, a remap twin, a new benign operator, continued pretraining. Where several runs could be a rung, it is the one
that moved the weights nearest as far.
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from makebreak.configs import nearest
from makebreak.stats import over_seeds
from makebreak.zoo.table import IDENTITY

RUNGS: dict[str, Callable[[str], str]] = {
    "base": lambda mechanism: "base",
    "sham": lambda mechanism: ">".join(f"{stage}:sham_unsafe" for stage in mechanism.split(">")),
    "remap": lambda mechanism: "ssft:remapped_unsafe",
    "new operator": lambda mechanism: "ssft:new_operator",
    "continued": lambda mechanism: "continued",
}
_RUN = [name for name in IDENTITY if name != "seed"]


def ladder(zoo: pd.DataFrame, column: str) -> pd.DataFrame:
    """One row per kind of safety-tuned run and rung: its value (rung `value`), then value minus that of each control.

    Columns: IDENTITY but for the seed, rung, estimate, low, high (95 % Student interval over pretraining seeds,
    paired), n_seeds, and `moved`, ‖ΔW‖ of the run over that of its control, mean of seeds. Of every run, the last step.
    Rungs of which there is no run are left out. Raises ValueError for an unknown column.
    """
    if column not in zoo:
        raise ValueError(f"column {column!r} is not in the table; {nearest(column, list(zoo.columns))}")
    last = zoo[(zoo.step == zoo.steps) & zoo[column].notna()]
    safety = last[(last.mechanism != "base") & ~last.mechanism.str.contains(":|^continued", regex=True)]
    rows = []
    for names, runs in safety.groupby(_RUN, sort=False):
        said = dict(zip(_RUN, names, strict=True))
        rows.append(said | {"rung": "value"} | _estimate(runs[column].tolist()) | {"moved": None})
        for rung, of in RUNGS.items():
            controls = last[last.mechanism == of(said["mechanism"])]
            pairs = [pair for _, run in runs.iterrows() if (pair := _beside(run, controls)) is not None]
            if pairs:
                differences = [float(run[column] - control[column]) for run, control in pairs]
                moved = [
                    run.weight_change / control.weight_change
                    for run, control in pairs
                    if control.weight_change > 0
                ]
                mean = sum(moved) / len(moved) if moved else None
                rows.append(said | {"rung": rung} | _estimate(differences) | {"moved": mean})
    return pd.DataFrame(rows, columns=[*_RUN, "rung", "estimate", "low", "high", "n_seeds", "moved"])


def _beside(run: pd.Series, controls: pd.DataFrame) -> tuple[pd.Series, pd.Series] | None:
    """The run and the control of the same base that moved nearest as far."""
    same = controls[(controls.world == run.world) & (controls.seed == run.seed)]
    same = same[same.pretraining == run.pretraining]
    if same.empty:
        return None
    distance = (same.weight_change - run.weight_change).abs()
    return run, same.loc[distance.idxmin()]


def _estimate(values: list[float]) -> dict[str, float | int | None]:
    found = over_seeds(values)
    return {"estimate": found.mean, "low": found.low, "high": found.high, "n_seeds": found.n}
