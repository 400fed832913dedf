"""Adds the results of a preset in a store to the table of models that ships with the repository.

python -m experiments.fragility.export --preset small --worlds mini --seeds 0 1 2

Models of trainings that the store lacks stay in the table as they are, so that seeds can be run on several
machines.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tyro

from experiments.fragility import STUDY
from experiments.fragility.mechanisms import MECHANISMS
from experiments.fragility.presets import PRESETS, Preset
from makebreak import settings
from makebreak.configs import nearest, to_json
from makebreak.errors import InvalidInput
from makebreak.fragility import RECIPE, read_zoo
from makebreak.store import Store, is_cached, write_atomic
from makebreak.studies import Cell, collect

_TRAINING = ["world", "seed", "mechanism"]


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
    """Table that the models are added to, a .parquet file; it is created if it does not exist."""


def export(options: Export) -> pd.DataFrame:
    """Adds all models whose results the store has to the table, in place of those of the same trainings.

    Args:
        options: Which results, and where to.

    Returns:
        The table.

    Raises:
        InvalidInput: If there is no such preset, the store has no finished training, or the file is not a
            table of models of this preset.
    """
    if options.preset not in PRESETS:
        raise InvalidInput(f"preset {options.preset!r}: {nearest(options.preset, list(PRESETS))}")
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
    if not parts:
        raise InvalidInput(f"{options.store} has no finished training of preset {preset.name}: run it first")
    table = _with_recipes(pd.concat(parts, ignore_index=True), preset)
    if options.out.is_file():
        before = read_zoo(options.out)
        _check_preset(before, preset, options.out)
        table = _replace_trainings(before, table)
    table = table.sort_values(["world", "seed"], kind="stable", ignore_index=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    # the file may be the only copy of seeds of other machines
    write_atomic(options.out, table.to_parquet(compression="zstd", index=False))
    return table


def _with_recipes(table: pd.DataFrame, preset: Preset) -> pd.DataFrame:
    """The rows with the training of each model as JSON."""
    keys = [
        (str(w), int(s), str(m)) for w, s, m in zip(table.world, table.seed, table.mechanism, strict=True)
    ]
    recipes = {key: json.dumps(to_json(preset.recipe(*key)), sort_keys=True) for key in dict.fromkeys(keys)}
    return table.assign(**{RECIPE: [recipes[key] for key in keys]})


def _replace_trainings(table: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """All new rows, and those of the table that are of other trainings."""
    old_keys, new_keys = (pd.MultiIndex.from_frame(each[_TRAINING]) for each in (table, new))
    return pd.concat([table[~old_keys.isin(new_keys)], new], ignore_index=True)


def _check_preset(table: pd.DataFrame, preset: Preset, file: Path) -> None:
    """Raises InvalidInput for trainings of another preset: their doses differ, and are compared by number."""
    recipes = _with_recipes(table, preset)[RECIPE]
    different = table[table[RECIPE] != recipes]
    if len(different):
        first = ", ".join(f"{name} {different.iloc[0][name]}" for name in _TRAINING)
        raise InvalidInput(
            f"{file} has models ({first}) that preset {preset.name} does not train so: expected a table of "
            "the same preset; give another --out"
        )


def _is_control(cell: Cell) -> bool:
    """Whether the models of a cell are controls."""
    return MECHANISMS[cell.columns["mechanism"]].is_control


if __name__ == "__main__":
    models = export(tyro.cli(Export))
    print(models.groupby(["world", "seed"]).qualifies.agg(["size", "sum"]).to_string())
