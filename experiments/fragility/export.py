"""Writes the table of models that ships with the repository, from the results of a preset in a store.

python -m experiments.fragility.export --preset small --worlds mini --seeds 0 1 2
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tyro

from experiments.fragility import STUDY
from experiments.fragility.mechanisms import MECHANISMS
from experiments.fragility.presets import PRESETS
from makebreak import settings
from makebreak.configs import to_json
from makebreak.fragility import RECIPE
from makebreak.store import Store, is_cached
from makebreak.studies import Cell, collect


@dataclass(frozen=True)
class Export:
    """Which results are exported, and where to."""

    preset: str = "small"
    """Preset whose results are exported."""
    worlds: tuple[str, ...] = ("mini", "hidden")
    """Worlds of the models."""
    seeds: tuple[int, ...] = ()
    """Pretraining seeds; by default those of the preset."""
    store: Path = Path(settings.store)
    """Folder with the results; what it lacks is left out."""
    out: Path = Path("data/zoo.parquet")
    """File to write."""


def export(options: Export) -> pd.DataFrame:
    """Writes the table of all models whose results the store has.

    Args:
        options: Which results, and where to.

    Returns:
        The table.
    """
    preset, store, parts = PRESETS[options.preset], Store(options.store, read_only=True), []
    for world in options.worlds:
        *cells, _ = STUDY.cells(preset, world, options.seeds or preset.seeds)  # without the statistics
        complete = [cell for cell in cells if is_cached(options.store, cell.compute)]
        # a training counts once its models were attacked; controls are not attacked
        finished = [cell for cell in complete if cell.needs or _is_control(cell)]
        trainings = {tuple(cell.columns.values()) for cell in finished}
        chosen = [cell for cell in complete if tuple(cell.columns.values()) in trainings]
        if chosen:
            parts.append(collect(STUDY, chosen, store).tables["zoo"])
    table = pd.concat(parts, ignore_index=True)
    keys = zip(table.world, table.seed, table.mechanism, strict=True)
    recipes = [to_json(preset.recipe(str(world), int(seed), str(name))) for world, seed, name in keys]
    table[RECIPE] = [json.dumps(recipe, sort_keys=True) for recipe in recipes]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(options.out, compression="zstd", index=False)
    return table


def _is_control(cell: Cell) -> bool:
    """Whether the models of a cell are controls."""
    return MECHANISMS[cell.columns["mechanism"]].is_control


if __name__ == "__main__":
    models = export(tyro.cli(Export))
    print(models.groupby(["world", "seed"]).qualifies.agg(["size", "sum"]).to_string())
