"""Command `score`: association of a measure with the outcomes of attacks on models of the shipped table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from makebreak.cli.options import DebugFlag, Report, log
from makebreak.settings import OutputSettings, ScoreSettings

_FEW_MODELS = 300
"""Models below which the report says that intervals are wide."""


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
    correlation with the robustness of safety under each attack, within a pretraining seed and a length of
    alignment, stands beside that of refusal margin, norm of the update and one-step loss drop, and of random
    numbers. All columns of the table, with p-values, are written by --out.
    """
    from makebreak.fragility import choose_models, read_zoo, score_measure
    from makebreak.report import score_summary
    from makebreak.store import write_atomic

    models = read_zoo(zoo)
    table = score_measure(measure, models, store, settings)
    if out is not None:
        write_atomic(out, table.to_csv(index=False))
        log(f"table: {out}")
    chosen = choose_models(models, settings.world, settings.models)
    lines = [
        f"{measure}: {len(chosen)} models of {chosen.mechanism.nunique()} mechanisms and "
        f"{chosen.seed.nunique()} pretraining seeds, world {settings.world}",
        "Rank correlation with robustness within pretraining seed and length of alignment, mean over seeds "
        "[95 % Student interval].",
        "A positive number: models with larger values keep more of their safety.",
    ]
    if len(chosen) < _FEW_MODELS:
        lines.append(
            f"{len(chosen)} models leave most associations undecided: more of them, such as --models "
            f"{_FEW_MODELS}, give narrower intervals."
        )
    return [*lines, *score_summary(table, settings.sign)], None
