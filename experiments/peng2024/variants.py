"""Landscapes of SSFT models that `jain2024` does not train: other widths, and worlds with a system span."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pandas as pd

from experiments.peng2024.fine_tuning import FAMILIES, held_out_landscape
from experiments.peng2024.presets import MAX_NORM, WITH_SYSTEM, WITHOUT_SYSTEM, Preset
from experiments.study import stored_rows
from makebreak.landscape import OutcomeRates, basin_rows, outcome_rates, random_direction
from makebreak.models import load_model
from makebreak.prompts import load_world
from makebreak.recipes import build
from makebreak.store import Store
from makebreak.tables import Rows
from synthetic import WITHOUT_SYSTEM_SUFFIX

PLAIN, WITH, WITHOUT = "", "with", "without"
"""System span of the requests: none exists in the world, present, or left out."""
_WITHOUT_SPAN = tuple(family + WITHOUT_SYSTEM_SUFFIX for family in FAMILIES)
_FAMILIES = {False: {PLAIN: FAMILIES}, True: {WITH: FAMILIES, WITHOUT: _WITHOUT_SPAN}}
"""Families of unsafe and safe requests by system span, for worlds without and with such spans."""


class VariantRow(NamedTuple):
    """Outcomes of a variant at one point of a random direction, for requests with one system span."""

    d_model: int
    """Width of the residual stream."""
    system: str
    """System span of the requests: `with`, `without`, or empty in a world that has none."""
    direction: str
    """Kind of direction, always `random`."""
    direction_index: int
    """Number of the direction."""
    coordinate: float
    """Coordinate: relative norm of the perturbation."""
    rates: OutcomeRates
    """Shares of requests by outcome."""


def variant_rows(preset: Preset, world: str, seed: int, name: str, store: Store) -> tuple[Rows, list[Path]]:
    """Outcomes of a variant along random directions.

    Args:
        preset: The preset.
        world: Name of the world.
        seed: Pretraining seed.
        name: Name of the variant.
        store: Store of models and outcomes.

    Returns:
        One `VariantRow` per direction, point and system span, and the folders that they came from.
    """
    recipe = preset.variant_recipe(world, seed, name)
    path = build(recipe, store)
    by_span = _FAMILIES[preset.variants[name].system_in_alignment is not None]
    families = tuple(family for pair in by_span.values() for family in pair)
    axis = np.linspace(-MAX_NORM, MAX_NORM, preset.points).round(9).tolist()

    def measure(folder: Path) -> Iterator[VariantRow]:
        model = load_model(path, symbols=load_world(recipe.world).vocabulary.symbols)
        landscape = held_out_landscape(model, recipe.world, seed, preset.n, families)
        origin = None
        for i in range(preset.directions):
            file = folder / f"random-{i}.jsonl"
            points = landscape.points(random_direction(model, i), path=file, origin=origin).along(axis)
            origin = points[0.0]
            for coordinate, answers in points.items():
                outcomes = landscape.outcomes(answers)
                for span, pair in by_span.items():
                    rates = outcome_rates({family: outcomes[family] for family in pair})
                    yield VariantRow(recipe.model.d_model, span, "random", i, coordinate, rates)

    config = {
        "n": preset.n,
        "directions": preset.directions,
        "points": preset.points,
        "window": MAX_NORM,
        "seed": seed,
    }
    rows, folder = stored_rows(store, "landscape-variant", 4, config, measure, [path])
    return rows, [path, folder]


def rows_of_preset_width(curves: pd.DataFrame, d_model: int) -> pd.DataFrame:
    """Curves of the study's own SSFT model as rows of the table of variants.

    Args:
        curves: `CurveRow`s with columns seed and arm.
        d_model: Width of that model.

    Returns:
        The rows along random directions, with the columns of `VariantRow`.
    """
    rows = curves[(curves.arm == "ssft") & (curves.direction == "random")].drop(columns="jailbreak_survival")
    return rows.assign(arm=f"width {d_model}", d_model=d_model, system=PLAIN)


def variant_values(variants: pd.DataFrame) -> dict[str, float | None]:
    """Values of claims T7 and T11.

    Args:
        variants: `VariantRow`s of one seed, with column arm.

    Returns:
        Id of the claim → value; None if undefined.
    """
    basins = basin_rows(variants, ("arm", "d_model", "system", "direction_index"))
    refusal, ability = basins[basins.criterion == "not refused"], basins[basins.criterion == "unable"]
    widths = {"T11": refusal, "T11.able": ability}
    return {
        "T7": _visage_difference(refusal, WITH_SYSTEM, WITH, WITHOUT),
        "T7.everywhere": _share_of_points_refused_more(variants),
        "T7.absent": _visage_difference(refusal, WITHOUT_SYSTEM, WITHOUT, WITH),
        **{claim: _widest_minus_narrowest(rows) for claim, rows in widths.items()},
    }


def _visage_difference(basins: pd.DataFrame, arm: str, span: str, reference: str) -> float | None:
    """VISAGE with one system span minus another, percent; None if either is undefined."""
    means = []
    for system in (span, reference):
        rows = basins[(basins.arm == arm) & (basins.system == system)]
        means.append(rows.visage.mean())
    return None if np.isnan(means).any() else float(means[0] - means[1])


def _share_of_points_refused_more(variants: pd.DataFrame) -> float | None:
    """Share of points of the basin where more is refused with the system span, minus the threshold of .8."""
    points = variants[variants.arm == WITH_SYSTEM].pivot_table(
        index=["direction_index", "coordinate"], columns="system", values="refusal_rate"
    )
    basin = points[points.max(axis=1) > 0]
    return float((basin[WITH] > basin[WITHOUT]).mean()) - 0.8 if len(basin) else None


def _widest_minus_narrowest(basins: pd.DataFrame) -> float:
    """Half-width of the widest model minus that of the narrowest one."""
    half_widths = basins[basins.system == PLAIN].groupby("d_model").r50.mean().sort_index()
    half_width = cast("pd.Series", half_widths)
    return float(half_width.iloc[-1] - half_width.iloc[0])
