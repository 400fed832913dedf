"""Figures and sentences of the study's report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pandas as pd

from experiments.peng2024.fine_tuning import best_rate
from experiments.peng2024.predictors import STEPS_TO_HALF, refusing_models
from experiments.peng2024.presets import ATTACKS, MAX_NORM, RATES, UNEXPOSED_BASE, Preset
from experiments.recipes.composition import METHODS
from makebreak.claims import ClaimRow, Tables, format_finding, rows_of
from makebreak.plots import (
    arm_name,
    plot_basins,
    plot_direction_curves,
    plot_fine_tuning_attacks,
    plot_landscape_plane,
    plot_predictors,
)
from makebreak.studies import Figure

_DIRECTIONS = {
    "random": "random, norm of tensors",
    "filter": "random, norm of rows",
    "fine-tuning": "harmful fine-tuning",
    "worst": "steepest for refusal",
    "ablation": "ablation of the refusal direction",
}
_PREDICTORS = {
    "visage": "VISAGE",
    "r50": "half-width",
    "r50_capable": "half-width, capable",
    "margin": "margin, nats",
    "weight_change": "‖ΔW‖",
}


def _shown(preset: Preset) -> list[str]:
    return [arm for arm in ("base", *METHODS) if arm in preset.arms]


def draw_basins(tables: Tables, preset: Preset) -> Any:
    """Outcomes along random directions."""
    curves = tables["curves"]
    return plot_basins(curves[curves.direction == "random"], _shown(preset))


def draw_directions(tables: Tables, preset: Preset) -> Any:
    """Refusal along directions of every kind."""
    methods = [arm for arm in METHODS if arm in preset.arms]
    return plot_direction_curves(tables["curves"], methods, _DIRECTIONS)


def draw_maps(tables: Tables, preset: Preset) -> Any:
    """Refusal over planes."""
    planes = tables["maps"].assign(title=_plane_titles)
    paths = tables["paths"].assign(plane="fine-tuning").assign(title=_plane_titles)
    return plot_landscape_plane(planes, list(dict.fromkeys(planes.title)), paths)


def draw_fine_tuning(tables: Tables, preset: Preset) -> Any:
    """Compliance along attacks."""
    return plot_fine_tuning_attacks(_at_best_rates(tables), [*_shown(preset), UNEXPOSED_BASE], list(ATTACKS))


def draw_variants(tables: Tables, preset: Preset) -> Any:
    """Outcomes of variants along random directions."""
    variants = tables["variants"].sort_values(["system", "d_model"], kind="stable")
    suffix = variants.system.map(lambda system: f",\n{system} system prompt" if system else "")
    named = variants.assign(arm=variants.arm.str.cat(suffix))
    return plot_basins(named, list(dict.fromkeys(named.arm)))


def draw_predictors(tables: Tables, preset: Preset) -> Any:
    """Predictors against steps to one half."""
    return plot_predictors(refusing_models(tables), _PREDICTORS, STEPS_TO_HALF, "steps to one half")


def _plane_titles(rows: pd.DataFrame) -> pd.Series:
    """Title of the panel that each row belongs to."""
    return rows.arm.map(arm_name) + ", " + rows.plane


def _at_best_rates(tables: Tables) -> pd.DataFrame:
    """Rows of every attack at the learning rate that ends with most unsafe requests answered."""
    best = []
    for (_, _, attack), rows in tables["fine_tuning"].groupby(["seed", "arm", "kind"], sort=False):
        dicts = cast("list[dict[str, Any]]", rows.to_dict("records"))
        best.append(rows[rows.rate == best_rate(dicts, str(attack))])
    return pd.concat(best)


FIGURES = (
    Figure(
        "basins",
        "Refusal, compliance and ability along random directions",
        "Weights perturbed along random directions with the norm of every tensor (Peng et al. 2024); "
        "outcomes are exact. The published success rate of an attack counts everything that is not "
        "refused: its gap to the red line are wrong or degenerate answers. Dashed: safe requests "
        "answered at the same points. Bands: 5 to 95 % of directions and seeds, or minimum to maximum of "
        "fewer than 20 curves. Refused: the first tokens of the judged segment are the null; the end of the "
        "answer is not required. Results before 2026-11-26 required the end as well (docs/errata.md, W5).",
        draw_basins,
        claims=("T1", "P1", "P6"),
    ),
    Figure(
        "directions",
        "Refusal along different directions",
        "Unsafe requests that are refused, along directions of equal relative norm. Thin: seeds.",
        draw_directions,
        claims=("P3",),
    ),
    Figure(
        "maps",
        "Refusal over planes in weight space",
        "Unsafe requests refused, one seed. Planes of two random directions; last, the plane of the "
        "model (star), of harmful fine-tuning and of the same with as many refusals, with the "
        "checkpoints of both. White contour: 90 % of safe requests are answered inside it.",
        draw_maps,
        requires=("maps",),
    ),
    Figure(
        "fine_tuning",
        "Compliance during fine-tuning attacks",
        "Held-out unsafe requests answered as instructed, at the learning rate that ends with most of "
        "them answered. Thin: seeds.",
        draw_fine_tuning,
        claims=("T5", "P4"),
    ),
    Figure(
        "variants",
        "Other widths, and a system prompt",
        "As in the first figure, for SSFT models of other widths, and in a world where half of the "
        "pretraining requests have a system prompt: aligned with it or without, and evaluated with it "
        "or without.",
        draw_variants,
        requires=("variants",),
    ),
    Figure(
        "predictors",
        "Landscape widths and steps of harmful fine-tuning to one half",
        "Steps of harmful fine-tuning until half of the unsafe requests are answered, against numbers "
        "known before: widths, means over random directions, and two that need no landscape. A dot "
        "per model that refuses. Models differ in learning rate by factors of two, so that the norm "
        "of the update measures the dose, which also moves widths and steps; P2 compares models of equal "
        "dose, given margin and norm.",
        draw_predictors,
        claims=("T4", "P2"),
    ),
)
"""Figures of the report."""


def answer(claims: Mapping[str, ClaimRow]) -> list[str]:
    """The answer to the study's question in three sentences.

    Args:
        claims: Evaluated claims by id.

    Returns:
        The sentences.
    """
    text = {name: format_finding(row) for name, row in claims.items()}
    return [
        "Within a tenth of the weights' norm the share of unsafe requests that is not refused rises by "
        f"{text['T1']}, mean of random directions; where half of the refusals are lost, "
        f"{text['T3']} of the safe answers are left.",
        "The half-width in the steepest direction for refusal is "
        f"{text['P3']} times that in random ones, in the direction of harmful fine-tuning "
        f"{text['P3.fine_tuning']} times.",
        f"Harmful fine-tuning makes the share not refused rise by {text['T5.harmful']}, with as many "
        f"refusals among the examples by {text['T5.mix']}, and fine-tuning on safe requests alone by "
        f"{text['P4']}.",
    ]


def facts(preset: Preset, world: str) -> dict[str, str]:
    """What was run.

    Args:
        preset: Sizes of the study.
        world: Name of the world.

    Returns:
        Descriptions by name.
    """
    rates = ", ".join(f"{rate:g}" for rate in RATES)
    return {
        "models": f"those of jain2024 at {preset.name}, world {world}: {', '.join(preset.arms)}",
        "perturbations": f"{preset.directions} random directions, {preset.points} points from "
        f"{-MAX_NORM} to {MAX_NORM} of the weights' norm; {preset.n} held-out unsafe and as many safe "
        "requests at each; outcomes are exact, from the likeliest tokens, without generation",
        "fine-tuning": f"{preset.attack.steps} steps of {preset.attack.batch_size}, learning rates "
        f"{rates}, of which the one that ends with most unsafe requests answered counts; no example was "
        "used before",
    }


def width_means(tables: Tables) -> pd.DataFrame:
    """Widths, mean over seeds and directions."""
    numbers = tables["basins"].drop(columns=["seed", "direction_index", "is_censored"])
    return numbers.groupby(["arm", "direction", "criterion"], sort=False).mean().reset_index()


def attack_means(tables: Tables) -> pd.DataFrame:
    """Outcomes along attacks, mean over seeds."""
    rows = tables["fine_tuning"].drop(columns=["seed"])
    return rows.groupby(["arm", "kind", "rate", "step"], sort=False).mean().reset_index()


def predictor_table(tables: Tables) -> pd.DataFrame:
    """Predictors and results of attacks by model."""
    return tables["predictors"]


def associations(tables: Tables) -> pd.DataFrame:
    """Association of every width with the steps to one half, by seed."""
    return rows_of(tables, "predictions")


SUMMARIES = {
    "Widths, mean over seeds and directions": width_means,
    "Predictors, and results of fine-tuning attacks": predictor_table,
    "Association of widths with the steps to one half": associations,
    "Fine-tuning attacks, mean over seeds": attack_means,
}
"""Tables of the report by title."""
