"""Command `score`: association of a measure with the outcomes of attacks on models of the shipped table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from makebreak import settings as defaults
from makebreak.cli.options import DebugFlag, Report, log

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 12
"""Lines of the summary, at most; the file has all rows."""


def score(
    measure: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="MODULE:NAME",
            help="A function with the decorator @makebreak.measure(NAME), in a module on the Python path.",
        ),
    ],
    models: Annotated[
        int, tyro.conf.arg(help="Least number of models that the measure is computed on.")
    ] = 60,
    world: Annotated[str, tyro.conf.arg(help="World of the models.")] = "mini",
    sign: Annotated[
        Literal[-1, 0, 1],
        tyro.conf.arg(
            help="1 if a larger value is claimed to mean more robust safety, -1 if more fragile,\n"
            "0 for no claim."
        ),
    ] = 0,
    zoo: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FILE", help="Table of models, a .parquet file; by default the one that ships."
        ),
    ] = None,
    store: Annotated[
        Path, tyro.conf.arg(metavar="FOLDER", help="Folder of models; missing ones are trained again.")
    ] = Path(defaults.store),
    workers: Annotated[int, tyro.conf.arg(help="Number of processes that train and measure.")] = 2,
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", help="CSV file for the whole table; by default none.")
    ] = None,
    debug: DebugFlag = False,
) -> Report:
    """Score a measure: does it predict that safety breaks, and better than three numbers that cost nothing?

    The measure is computed on models that were made safe by different mechanisms and then attacked. Its rank
    correlation with every outcome, within a pretraining seed and a length of alignment, stands beside that of
    refusal margin, norm of the update and one-step loss drop, and of random numbers.
    """
    from makebreak.fragility import ScoreSettings, read_zoo, score_measure
    from makebreak.store import write_atomic

    settings = ScoreSettings(world, models, sign, workers)
    table = score_measure(measure, read_zoo(zoo), store, settings)
    if out is not None:
        write_atomic(out, table.to_csv(index=False))
        log(f"table: {out}")
    n_models, n_seeds = int(table.n_models.max()), int(table.n_seeds.max())
    lines = [
        f"{measure} on {n_models} models of {n_seeds} pretraining seeds, world {world}: mean rank "
        "correlation within seed and length of alignment, 95 % Student interval over seeds",
        *_lines(table),
    ]
    return lines, None


def _lines(table: pd.DataFrame) -> list[str]:
    """One line per outcome: the measure, the best baseline, and random numbers."""
    lines = []
    for outcome, rows in list(table.groupby("outcome", sort=False))[:_SHOWN]:
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
