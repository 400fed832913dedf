"""Build, align, measure, judge, draw: the study from recipes to report."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from experiments.jain2024.claims import judge
from experiments.jain2024.measure import measure
from experiments.jain2024.presets import METHODS, Preset
from makebreak.artifacts import Store
from makebreak.recipes import Recipe, build

ARMS = ("base", *METHODS, *(f"sham_{method}" for method in METHODS))


@dataclass(frozen=True)
class Results:
    """The study's tables, one row per (seed, arm, …), its claims, and the folders that everything came from."""

    tables: dict[str, pd.DataFrame]
    claims: list[dict[str, Any]]
    folders: list[Path]


def recipes(preset: Preset, world: str, seed: int) -> dict[str, Recipe]:
    """Arm → recipe. A sham arm differs from its method in the data alone."""
    base = preset.base(world, seed)
    aligned = {
        f"{'sham_' if sham else ''}{method}": replace(base, alignments=preset.alignments(method, sham=sham))
        for sham in (False, True)
        for method in METHODS
    }
    return {"base": base, **aligned}


def count_models(preset: Preset, world: str, seeds: tuple[int, ...]) -> int:
    """How many trainings a run is made of, warm starts included."""

    def lineage(recipe: Recipe) -> set[Recipe]:
        return {recipe} | (lineage(recipe.parent) if recipe.alignments else set())

    return len({r for seed in seeds for recipe in recipes(preset, world, seed).values() for r in lineage(recipe)})


def run(preset: Preset, world: str, seeds: tuple[int, ...], store: Store) -> Results:
    """Everything that is not yet in the store, seed by seed, then the tables and the verdicts."""
    rows: dict[str, list[dict[str, Any]]] = {"behaviour": [], "kl": [], "clusters": [], "null_share": []}
    folders: list[Path] = []
    bar = tqdm(total=len(seeds) * len(ARMS), desc="models", disable=not sys.stderr.isatty())
    with bar:
        for seed in seeds:
            base_folder: Path | None = None
            for arm, recipe in recipes(preset, world, seed).items():
                folder = build(recipe, store)
                base_folder = base_folder or folder
                found, measured = measure(store, world, folder, base_folder, seed=seed, n=preset.n_requests)
                folders += [folder, measured]
                key = {"seed": seed, "arm": arm}
                for table in ("behaviour", "clusters", "null_share"):
                    rows[table] += [key | row for row in found[table]]
                rows["kl"].append(key | {"kl_on_safe": found["kl_on_safe"]})
                bar.update()
    tables = {name: pd.DataFrame(found) for name, found in rows.items()}
    return Results(tables, judge(tables["behaviour"], tables["clusters"], tables["null_share"]), folders)
