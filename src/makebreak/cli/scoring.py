"""Command `score`: association of a measure with the outcomes of attacks on models of the shipped table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from makebreak.cli.options import DebugFlag, Report, log
from makebreak.settings import OutputSettings, ScoreSettings

if TYPE_CHECKING:
    import pandas as pd


def score(
    measure: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="MODULE:NAME",
            help="A function with the decorator @makebreak.measure(NAME), in a module on the Python path.",
        ),
    ],
    settings: ScoreSettings = ScoreSettings(),
    zoo: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FILE", help="Table of models, a .parquet file; by default the one that ships."
        ),
    ] = None,
    store: Annotated[
        Path, tyro.conf.arg(metavar="FOLDER", help="Folder of models; missing ones are trained again.")
    ] = OutputSettings().store,
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", help="CSV file for the whole table; by default none.")
    ] = None,
    debug: DebugFlag = False,
) -> Report:
    """Report whether a measure predicts that safety breaks, beside three numbers that cost nothing.

    The measure is computed on models that were made safe by different mechanisms and then attacked. Its rank
    correlation with every outcome, within a pretraining seed and a length of alignment, stands beside that of
    refusal margin, norm of the update and one-step loss drop, and of random numbers.
    """
    from makebreak.fragility import read_zoo, score_measure
    from makebreak.store import write_atomic

    table = score_measure(measure, read_zoo(zoo), store, settings)
    if out is not None:
        write_atomic(out, table.to_csv(index=False))
        log(f"table: {out}")
    n_models, n_seeds = int(table.n_models.max()), int(table.n_seeds.max())
    lines = [
        f"{measure} on {n_models} models of {n_seeds} pretraining seeds, world {settings.world}: mean rank "
        "correlation within seed and length of alignment, 95 % Student interval over seeds",
        *_lines(table),
    ]
    return lines, None


def _lines(table: pd.DataFrame) -> list[str]:
    """One line per outcome: the measure, the three baselines, and random numbers."""
    lines = []
    for outcome, rows in table.groupby("outcome", sort=False):
        cells = [f"{row.predictor} {_value(row)}" for row in rows.itertuples()]
        lines.append(f"{outcome}: " + "; ".join(cells))
    return lines


def _value(row: object) -> str:
    """Correlation with its interval, or `undefined`."""
    value, low, high = (getattr(row, name) for name in ("rank_correlation", "low", "high"))
    if value != value:  # NaN
        return "undefined"
    interval = "" if low != low else f" [{low:+.2f}, {high:+.2f}]"
    return f"{value:+.2f}{interval}"
