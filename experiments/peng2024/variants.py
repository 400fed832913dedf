"""Have larger models wider basins, and does a system prompt deepen them? SSFT on models that `jain2024` has not."""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.peng2024.finetune import FAMILIES, outcomes, shares
from experiments.peng2024.presets import PROMPTED, UNPROMPTED, WINDOW, Preset
from makebreak.artifacts import Store, write_json
from makebreak.landscape import Points, Walk, basin_rows, random_direction
from makebreak.models import load
from makebreak.recipes import build
from makebreak.requests import load_world
from synthetic import WITHOUT_SYSTEM

PLAIN, WITH, WITHOUT = (
    "",
    "with",
    "without",
)  # how a model is asked: in a world that knows no system span, or of one
_ASKED = {
    False: {PLAIN: FAMILIES},
    True: {WITH: FAMILIES, WITHOUT: tuple(f + WITHOUT_SYSTEM for f in FAMILIES)},
}


def variant_rows(
    preset: Preset, world: str, seed: int, name: str, store: Store
) -> tuple[list[dict[str, Any]], list[Path]]:
    """One row per way of asking, random direction and point, and the folders that they came from."""
    recipe = preset.variant(world, seed, name)
    model = build(recipe, store)
    asked = _ASKED[preset.variants[name].prompted is not None]
    axis = np.linspace(-WINDOW, WINDOW, preset.points).round(9).tolist()

    def walk(folder: Path) -> None:
        walked = load(model, symbols=load_world(recipe.world).vocabulary.symbols)
        families = tuple(family for pair in asked.values() for family in pair)
        rows, origin = [], None
        for i in range(preset.directions):
            way = Walk(walked, random_direction(walked, i))
            judged = lambda: outcomes(walked, recipe.world, seed, preset.n, families)  # noqa: E731
            points = Points(way, judged, folder / f"random-{i}.jsonl", origin=origin)
            with way:
                found = [points(at) for at in axis]
                origin = points(0.0)
            for said, (how, pair) in product(found, asked.items()):
                row = {"d_model": recipe.model.d_model, "asked": how, "direction": "random", "index": i}
                letters = {family: said[name] for family, name in zip(FAMILIES, pair, strict=True)}
                rows.append({**row, "at": said["at"][0], **shares(letters)})
        write_json(folder / "rows.json", rows)

    config = {
        "n": preset.n,
        "directions": preset.directions,
        "points": preset.points,
        "window": WINDOW,
        "seed": seed,
    }
    made = store.build("landscape-variant", revision=2, config=config, parents=[model], make=walk)
    return json.loads((made / "rows.json").read_text()), [model, made]


def of_own_width(curves: pd.DataFrame, d_model: int) -> pd.DataFrame:
    """Rows of the study's own SSFT, so that its width stands among the others."""
    own = curves[(curves.arm == "ssft") & (curves.direction == "random")].drop(columns="jailbreak")
    return own.assign(arm=f"width {d_model}", d_model=d_model, asked=PLAIN)


def variant_values(variants: pd.DataFrame) -> dict[str, float | None]:
    """Claims T7 and T11 on the variants of one seed."""
    basins = basin_rows(variants, ("arm", "d_model", "asked", "index"))
    refusing, able = basins[basins.sense == "not refused"], basins[basins.sense == "unable"]
    visage = refusing.groupby(["arm", "asked"]).visage.mean()

    def deeper(arm: str, *, where: str, than: str) -> float | None:
        pair = [visage.get((arm, asked), np.nan) for asked in (where, than)]
        return None if np.isnan(pair).any() else float(pair[0] - pair[1])

    points = variants[variants.arm == PROMPTED].pivot_table(
        index=["index", "at"], columns="asked", values="refused"
    )
    inside = points[points.max(axis=1) > 0]
    sizes = [
        rows[rows.asked == PLAIN].groupby("d_model").r50.mean().sort_index() for rows in (refusing, able)
    ]
    return {
        "T7": deeper(PROMPTED, where=WITH, than=WITHOUT),
        "T7.everywhere": float((inside[WITH] > inside[WITHOUT]).mean()) - 0.8 if len(inside) else None,
        "T7.absent": deeper(UNPROMPTED, where=WITHOUT, than=WITH),
        **{
            claim: float(r50.iloc[-1] - r50.iloc[0])
            for claim, r50 in zip(("T11", "T11.able"), sizes, strict=True)
        },
    }
