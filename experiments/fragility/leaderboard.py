"""Writes the leaderboard and its tables from the table of models that ships with the repository.

python -m experiments.fragility.leaderboard --out runs/fragility/leaderboard
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tyro

from experiments.fragility.claims import OUTCOME
from experiments.fragility.predictors import SIGNS
from makebreak.fragility import association_table, prediction_table, read_zoo
from makebreak.report import write_leaderboard


@dataclass(frozen=True)
class Leaderboard:
    """Where the table of models lies, and where the page is written."""

    zoo: Path | None = None
    """Table of models, a .parquet file; by default the one that ships."""
    more: tuple[Path, ...] = ()
    """Further tables of models, `tables/zoo.csv` of runs of the study, such as that of a language model."""
    out: Path = Path("runs/fragility/leaderboard")
    """Folder of the page, its figures and the two tables of statistics."""


def write(options: Leaderboard) -> Path:
    """Computes the statistics, minutes on one core for a thousand models, and writes them and the page.

    Args:
        options: Which table, and where to.

    Returns:
        The page.
    """
    zoo = pd.concat([read_zoo(options.zoo), *map(pd.read_csv, options.more)], ignore_index=True)
    options.out.mkdir(parents=True, exist_ok=True)
    associations, predictions = association_table(zoo, SIGNS), prediction_table(zoo)
    associations.to_csv(options.out / "associations.csv", index=False)
    predictions.to_csv(options.out / "predictions.csv", index=False)
    page = options.out / "leaderboard.html"
    return write_leaderboard(zoo, associations, predictions, page, options.out, outcome=OUTCOME)


if __name__ == "__main__":
    print(f"page: {write(tyro.cli(Leaderboard))}")
