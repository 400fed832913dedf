"""Landscapes of SSFT models that `jain2024` does not train: other widths, and worlds with a system span."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import pandas as pd

from experiments.peng2024.fine_tuning import FAMILIES, RequestSettings, held_out_landscape
from experiments.peng2024.presets import MAX_NORM, WITH_SYSTEM, WITHOUT_SYSTEM
from makebreak.claims import Tables, rows_of
from makebreak.models import load_model
from makebreak.prompts import load_world
from makebreak.revisions import cache_revision
from makebreak.studies import Inputs
from makebreak.weight_landscape import OutcomeRates, basin_rows, outcome_rates, random_direction
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


@dataclass(frozen=True)
class VariantSettings(RequestSettings):
    """How a variant is perturbed, and on which requests it is evaluated."""

    d_model: int
    """Width of the residual stream."""
    has_system_span: bool
    """Whether the world has system spans."""
    n_directions: int
    """Number of random directions."""
    n_points: int
    """Points of a curve."""
    max_norm: float = MAX_NORM
    """Largest relative norm of a perturbation."""


@cache_revision(5)
def variant_tables(inputs: Inputs) -> dict[str, Iterable[VariantRow]]:
    """Table `variants`: outcomes of a variant along random directions.

    Args:
        inputs: The variant; settings are `VariantSettings`.

    Returns:
        One row per direction, point and system span.
    """
    settings: VariantSettings = inputs.settings
    by_span = _FAMILIES[settings.has_system_span]
    families = tuple(family for pair in by_span.values() for family in pair)
    axis = np.linspace(-settings.max_norm, settings.max_norm, settings.n_points).round(9).tolist()
    model = load_model(inputs.models[0], symbols=load_world(settings.world).vocabulary.symbols)
    landscape = held_out_landscape(model, settings.world, settings.seed, settings.n, families)
    origin, rows = None, []
    for i in range(settings.n_directions):
        file = inputs.folder / f"random-{i}.jsonl"
        points = landscape.points(random_direction(model, i), path=file, origin=origin).along(axis)
        origin = points[0.0]
        for coordinate, answers in points.items():
            outcomes = landscape.outcomes(answers)
            for span, pair in by_span.items():
                rates = outcome_rates({family: outcomes[family] for family in pair})
                rows.append(VariantRow(settings.d_model, span, "random", i, coordinate, rates))
    return {"variants": rows}


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


def variant_basins(tables: Tables) -> pd.DataFrame:
    """Widths of every variant, system span and direction."""
    return basin_rows(rows_of(tables, "variants"), ("seed", "arm", "d_model", "system", "direction_index"))


def variant_value(name: str, tables: Tables) -> float | None:
    """Value of a claim about variants.

    Args:
        name: `with` or `without`: VISAGE with the system span of alignment minus the other; `points`: share
            of points where more is refused with it; `refusal` or `ability`: widest minus narrowest model.
        tables: Tables of one seed.

    Returns:
        The value; None if undefined.
    """
    if name == "points":
        return _share_of_points_refused_more(rows_of(tables, "variants"))
    basins = rows_of(tables, "variant_basins")
    refusal = basins[basins.criterion == "not refused"]
    if name == "with":
        return _visage_difference(refusal, WITH_SYSTEM, WITH, WITHOUT)
    if name == "without":
        return _visage_difference(refusal, WITHOUT_SYSTEM, WITHOUT, WITH)
    return _widest_minus_narrowest(refusal if name == "refusal" else basins[basins.criterion == "unable"])


def _visage_difference(basins: pd.DataFrame, arm: str, span: str, reference: str) -> float | None:
    """VISAGE with one system span minus another, percent; None if either is undefined."""
    means = []
    for system in (span, reference):
        rows = basins[(basins.arm == arm) & (basins.system == system)]
        means.append(rows.visage.mean())
    return None if np.isnan(means).any() else float(means[0] - means[1])


def _share_of_points_refused_more(variants: pd.DataFrame) -> float | None:
    """Share of points of the basin where more is refused with the system span."""
    points = variants[variants.arm == WITH_SYSTEM].pivot_table(
        index=["direction_index", "coordinate"], columns="system", values="refusal_rate"
    )
    basin = points[points.max(axis=1) > 0]
    return float((basin[WITH] > basin[WITHOUT]).mean()) if len(basin) else None


def _widest_minus_narrowest(basins: pd.DataFrame) -> float | None:
    """Half-width of the widest model minus that of the narrowest one; None if one lies beyond the range."""
    plain = basins[basins.system == PLAIN]
    compared = plain[plain.d_model.isin([plain.d_model.min(), plain.d_model.max()])]
    if compared.is_censored.any():
        return None
    half_width = cast("pd.Series", compared.groupby("d_model").r50.mean().sort_index())
    return float(half_width.iloc[-1] - half_width.iloc[0])
