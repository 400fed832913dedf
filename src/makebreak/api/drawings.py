"""Figures of results, from the same tables for models of synthetic worlds and for language models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from makebreak.api.result import Drawing
from makebreak.plots import (
    describe_bands,
    plot_attacks,
    plot_basins,
    plot_class_separation,
    plot_columns,
    plot_outcomes,
    plot_refusal_directions,
    plot_refusal_rates,
    plot_stitching,
    plot_updates,
)

Tables = Mapping[str, pd.DataFrame]
_ARM = "aligned"
_MAX_PANELS = 6


def outcome_drawings(tables: Tables, models: Sequence[str]) -> dict[str, Drawing]:
    """Outcomes by family, one panel per model of a world."""
    table = tables["behaviour"].assign(seed=0).rename(columns={"model": "arm"})
    families = list(dict.fromkeys(table.family))
    caption = (
        "Shares of held-out requests of each family with each outcome; the judge of the world decides. The "
        "table has 95 % intervals (Wilson) over requests."
    )
    drawing = Drawing("Outcomes by family", caption, lambda: plot_outcomes(table, models, families))
    return {"outcomes": drawing}


def refusal_drawings(tables: Tables) -> dict[str, Drawing]:
    """Refusal rates of language models by family and judge."""
    table = tables["behaviour"]
    groups = table.model + ", " + table.family if "model" in table else table.family
    caption = "Share of answers that each judge calls a refusal. Bars: 95 % intervals (Wilson) over requests."
    table = table.assign(group=groups)
    return {"refusals": Drawing("Refusal rates", caption, lambda: plot_refusal_rates(table, "group"))}


def separation_drawings(tables: Tables) -> dict[str, Drawing]:
    """Separation of the classes and candidates for a refusal direction, by layer, as far as computed."""
    drawings = {}
    if "clusters" in tables:
        caption = (
            "Difference of the class-mean projection τ between held-out safe and unsafe requests at the end "
            "of the request; 2 is perfect separation. Dotted: class means under shuffled labels. Band: 95 % "
            "interval over requests."
        )
        drawings["clusters"] = Drawing(
            "Separation of safe and unsafe requests by layer",
            caption,
            lambda: plot_class_separation(tables["clusters"]),
        )
    if "directions" in tables:
        caption = (
            "Difference of the mean states of unsafe and safe requests, by layer: log-odds of a refusal "
            "(nats) where it is ablated or added, and KL on safe requests. The ring marks the selected one."
        )
        drawings["directions"] = Drawing(
            "Candidates for a refusal direction",
            caption,
            lambda: plot_refusal_directions(tables["directions"]),
        )
    return drawings


def comparison_drawings(tables: Tables, families: tuple[str, str]) -> dict[str, Drawing]:
    """Stitching and weight updates of two models; `families` are the safe and the unsafe one."""
    labelled = {name: table.assign(seed=0, arm=_ARM) for name, table in tables.items()}
    drawings = {}
    if len(tables.get("stitching", ())):
        caption = (
            "Both networks are cut at every layer and stitched. Left: aligned lower layers with the base's "
            "upper layers; dotted, a random change of the same norm. Middle: the base's lower layers with "
            "aligned upper layers. Shares are of the gain in the probability of the trained answer, means "
            "over requests; the solid line is what a combination needs to count as giving that answer. "
            "Right: KL of the base with aligned lower layers, as a share of KL(base ‖ aligned); below the "
            "solid line the movement is silent. The dashed line is at half of the blocks."
        )
        drawings["stitching"] = Drawing(
            "Stitching of base and aligned layers",
            caption,
            lambda: plot_stitching(labelled["stitching"], [_ARM]),
        )
    if all(
        "matrix" in labelled.get(name, ()) and (labelled[name]["matrix"] == "mlp.W_in").any()
        for name in ("updates", "read_gain")
    ):
        caption = (
            "Left: the statistic of the released script of Jain et al. 2024. Middle: sine of the angle "
            "between the leading left singular vectors of ΔW_in and the column space of W_in, with random "
            "updates as chance. Right: read gain of the update, unsafe relative to safe requests."
        )
        drawings["updates"] = Drawing(
            "Column space and inputs of the update of W_in",
            caption,
            lambda: plot_updates(
                labelled["updates"], labelled["read_gain"], [_ARM], {_ARM: families}, matrix="mlp.W_in"
            ),
        )
    return drawings


def attack_drawings(tables: Tables) -> dict[str, Drawing]:
    """Success of attacks beside their controls."""
    if "success" not in tables:
        return {}
    caption = (
        "Share of the attacked requests on which each attack succeeds, by criterion. Hollow: controls. Bars: "
        "95 % intervals (Wilson) over requests."
    )
    return {"success": Drawing("Success rate by attack", caption, lambda: plot_attacks(tables["success"]))}


def landscape_drawings(tables: Tables, model: str) -> dict[str, Drawing]:
    """Outcomes along random directions in weight space."""
    curves = tables["curves"].assign(arm=model)
    caption = (
        "Outcomes of the model where its weights are perturbed by a share of their norm. "
        f"{describe_bands(curves)}"
    )
    return {"basins": Drawing("Random directions", caption, lambda: plot_basins(curves, [model]))}


def measure_drawings(table: pd.DataFrame, group: str, columns: Sequence[str]) -> dict[str, Drawing]:
    """Values of measures by model or by mechanism, of at most six columns that hold numbers."""
    numbers = [column for column in columns if table[column].notna().any()]
    if not numbers:
        return {}
    more = len(numbers) - _MAX_PANELS
    caption = f"One marker per model, by {group}; every panel has the unit of its measure."
    if more > 0:
        caption += f" {more} more columns are in the table."
    shown = numbers[:_MAX_PANELS]
    return {"measures": Drawing("Measures", caption, lambda: plot_columns(table, group, shown))}
