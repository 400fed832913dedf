"""Build, fine-tune, walk, judge: the study from recipes to claims."""

from __future__ import annotations

import sys
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from experiments.peng2024.claims import judge
from experiments.peng2024.finetune import finetuned_rows
from experiments.peng2024.landscapes import landscape
from experiments.peng2024.predict import predictor_rows
from experiments.peng2024.presets import NEVER, PRESETS, RATES, Preset, kinds
from experiments.peng2024.variants import of_own_width, variant_rows
from experiments.results import Results
from makebreak.artifacts import Store, made
from makebreak.landscape import basin_rows
from makebreak.recipes import Recipe, build
from makebreak.sweeps import Task


def trainings(preset: Preset, world: str, seeds: tuple[int, ...]) -> set[Recipe]:
    """Every training that a run is made of; those of `jain2024` that are in the store are not trained again."""
    whole = [preset.recipe(world, seed, arm) for seed, arm in product(seeds, preset.tuned)]
    whole += [preset.variant(world, seed, name) for seed, name in product(seeds, preset.variants)]
    return {stage for recipe in whole for stage in recipe.lineage} | {
        preset.finetuned(world, seed, arm, kind, rate)
        for seed, arm, rate in product(seeds, preset.tuned, RATES)
        for kind in kinds(arm)
    }


def tasks(
    preset: Preset, world: str, seeds: tuple[int, ...], store: Path, *, workers: int
) -> list[list[Task]]:
    """What the store lacks: the bases, then a task for every model, its making, fine-tunings and landscape."""
    bases = ["base", *([NEVER] if preset.never else [])]
    waves = [[("built", seed, arm) for seed, arm in product(seeds, bases)]]
    waves.append(
        [("looked_at", seed, arm) for arm, seed in product((*preset.variants, *preset.tuned), seeds)]
    )
    return [
        [
            Task(f"{world} seed {seed} {arm}", f"experiments.peng2024.study:{how}", (*of, str(store)))
            for how, seed, arm in wave
            for of in [(preset.name, world, seed, arm)]
            if not made(store, partial(_HOW[how], preset, world, seed, arm))
        ]
        for wave in waves
    ]


def built(preset: str, world: str, seed: int, arm: str, store: str) -> None:
    _built(PRESETS[preset], world, seed, arm, Store(Path(store)))


def looked_at(preset: str, world: str, seed: int, arm: str, store: str) -> None:
    _tables(PRESETS[preset], world, seed, arm, Store(Path(store)))


def _built(preset: Preset, world: str, seed: int, arm: str, store: Store) -> None:
    build(preset.recipe(world, seed, arm), store)


def _tables(
    preset: Preset, world: str, seed: int, arm: str, store: Store
) -> tuple[dict[str, Any], list[Path]]:
    if arm in preset.variants:
        rows, folders = variant_rows(preset, world, seed, arm, store)
        return {"variants": rows}, folders
    if arm == NEVER:
        rows, folders = finetuned_rows(preset, world, seed, arm, store)
        return {"finetuned": rows}, folders
    return landscape(preset, world, seed, arm, store)


_HOW = {"built": _built, "looked_at": _tables}


def run(preset: Preset, world: str, seeds: tuple[int, ...], store: Store) -> Results:
    """Everything that is not yet in the store, then the tables and the verdicts."""
    rows: dict[str, list[dict[str, Any]]] = {}
    folders: list[Path] = []
    arms = (*preset.tuned, *preset.variants)
    with tqdm(total=len(seeds) * len(arms), desc="models", disable=not sys.stderr.isatty()) as bar:
        for seed, arm in product(seeds, arms):
            found, used = _tables(preset, world, seed, arm, store)
            folders += used
            found = found | {"predictors": [found["predictors"]]} if "predictors" in found else found
            for name, table in found.items():
                rows.setdefault(name, []).extend({"seed": seed, "arm": arm} | row for row in table)
            bar.update()
    tables = {name: pd.DataFrame(found) for name, found in rows.items()}
    walked = tables["curves"].query("not direction.str.startswith('to ')", engine="python")
    tables["basins"] = basin_rows(walked, ("seed", "arm", "direction", "index"))
    tables["predictors"] = predictor_rows(tables)
    if "variants" in tables:
        own = of_own_width(tables["curves"], preset.aligned.model.d_model)
        tables["variants"] = pd.concat([own, tables["variants"]], ignore_index=True)
    return Results(tables, judge(tables), list(dict.fromkeys(folders)))
