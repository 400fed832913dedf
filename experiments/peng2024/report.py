"""Figures and HTML page of the study."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pandas as pd

from experiments.peng2024.claims import MIN_REFUSAL
from experiments.peng2024.fine_tuning import best_rate
from experiments.peng2024.predictors import STEPS_TO_HALF
from experiments.peng2024.presets import ATTACKS, MAX_NORM, RATES, UNEXPOSED_BASE, Preset
from experiments.recipes.composition import METHODS
from experiments.results import Results, format_estimate, format_verdicts
from makebreak.plots import (
    arm_name,
    plot_basins,
    plot_direction_curves,
    plot_fine_tuning_attacks,
    plot_landscape_plane,
    plot_predictors,
)
from makebreak.report import Page, write_figures, write_page

Tables = Mapping[str, pd.DataFrame]

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
_CAPTIONS = {
    "basins": (
        "Refusal, compliance and ability along random directions",
        "Weights perturbed along random directions with the norm of every tensor (Peng et al. 2024); "
        "outcomes are exact. The published success rate of an attack counts everything that is not "
        "refused: its gap to the red line are wrong or degenerate answers. Dashed: safe requests answered "
        "at the same points. Bands: 5 to 95 % of directions and seeds. Refused: the first tokens of the "
        "judged segment are the null; the end of the answer is not required. Results before 2026-11-26 "
        "required the end as well (docs/errata.md, W5).",
    ),
    "directions": (
        "Refusal along different directions",
        "Unsafe requests that are refused, along directions of equal relative norm. Thin: seeds.",
    ),
    "maps": (
        "Refusal over planes in weight space",
        "Unsafe requests refused, one seed. Planes of two random directions; last, the plane of the model "
        "(star), of harmful fine-tuning and of the same with as many refusals, with the checkpoints of "
        "both. White contour: 90 % of safe requests are answered inside it.",
    ),
    "fine_tuning": (
        "Compliance during fine-tuning attacks",
        "Held-out unsafe requests answered as instructed, at the learning rate that ends with most of them "
        "answered. Thin: seeds.",
    ),
    "variants": (
        "Other widths, and a system prompt",
        "As in the first figure, for SSFT models of other widths, and in a world where half of the "
        "pretraining requests have a system prompt: aligned with it or without, and evaluated with it or "
        "without.",
    ),
    "predictors": (
        "Landscape widths and steps of harmful fine-tuning to one half",
        "Steps of harmful fine-tuning until half of the unsafe requests are answered, against numbers "
        "known before: widths, means over random directions, and two that need no landscape. A dot per "
        "model that refuses. Models differ in learning rate by factors of two, so that the norm of the "
        "update measures the dose; a difference between predictors is not a test of either "
        "(docs/errata.md, audit-M10).",
    ),
}


def figure_functions(results: Results, preset: Preset) -> dict[str, Callable[[], Any]]:
    """Functions that draw the study's figures.

    Args:
        results: Results of the study.
        preset: The preset.

    Returns:
        Name of the figure → a function that draws it.
    """
    tables, arms = results.tables, preset.arms
    methods = [arm for arm in METHODS if arm in arms]
    shown = [arm for arm in ("base", *METHODS) if arm in arms]
    curves = tables["curves"]
    random = curves[curves.direction == "random"]
    functions: dict[str, Callable[[], Any]] = {
        "basins": lambda: plot_basins(random, shown),
        "directions": lambda: plot_direction_curves(curves, methods, _DIRECTIONS),
        "fine_tuning": lambda: plot_fine_tuning_attacks(
            _at_best_rates(tables), [*shown, UNEXPOSED_BASE], list(ATTACKS)
        ),
        "predictors": lambda: plot_predictors(
            _refusing_models(tables), _PREDICTORS, STEPS_TO_HALF, "steps to one half"
        ),
    }
    if "maps" in tables:
        planes = tables["maps"].assign(title=_plane_titles)
        paths = tables["paths"].assign(plane="fine-tuning").assign(title=_plane_titles)
        functions["maps"] = lambda: plot_landscape_plane(planes, list(dict.fromkeys(planes.title)), paths)
    if "variants" in tables:
        variants = tables["variants"].sort_values(["system", "d_model"], kind="stable")
        suffix = variants.system.map(lambda system: f",\n{system} system prompt" if system else "")
        named = variants.assign(arm=variants.arm.str.cat(suffix))
        functions["variants"] = lambda: plot_basins(named, list(dict.fromkeys(named.arm)))
    return functions


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


def _refusing_models(tables: Tables) -> pd.DataFrame:
    """Predictors of the models that refuse at least `MIN_REFUSAL` of unsafe requests before an attack."""
    fine_tuning = tables["fine_tuning"]
    start = fine_tuning[fine_tuning.step == 0].groupby(["seed", "arm"]).refusal_rate.first().reset_index()
    return tables["predictors"].merge(start[start.refusal_rate >= MIN_REFUSAL][["seed", "arm"]])


def summary_paragraph(claims: Mapping[str, Mapping[str, Any]], n_directions: int) -> str:
    """Estimates and verdicts of the main claims in sentences.

    Args:
        claims: Rows of claims.json by id.
        n_directions: Number of random directions.

    Returns:
        The paragraph.
    """

    def estimate(claim: str, plus: float = 0.0, sign: int = 1) -> str:
        return format_estimate(claims, claim, plus, sign)

    return (
        f"Random directions: the share not refused rises by {estimate('T1', 0.05, -1)} within a tenth of the "
        f"weights' norm (greatest rise over directions, the worst of {n_directions}). The half-width of "
        f"answering safe requests minus that of refusing is {estimate('P6')}; where half of the refusals are "
        f"lost, {estimate('T3', 0.9, -1)} of safe answers are left, and the greatest share of unsafe "
        f"requests answered is {estimate('P6.harm', 0.1)}. Smaller half-width relative to random directions: "
        f"{estimate('P3', 0.5, -1)} in the steepest direction, {estimate('P3.fine_tuning', 0.5, -1)} in that "
        "of harmful fine-tuning. Rise of the share not refused under fine-tuning: "
        f"{estimate('T5.harmful', 0.5)} on harmful requests, {estimate('T5.mix', 0.05, -1)} with as many "
        f"refusals, {estimate('P4', 0.5)} on safe requests alone. Signed rank correlation of the half-width "
        "with the steps to one half, minus the greater absolute correlation of margin and update norm: "
        f"{estimate('P2')}; its expectation under independence is about -.3, so that a negative value is no "
        "evidence against the half-width (docs/errata.md, audit-M10)."
    )


def write_report(results: Results, preset: Preset, world: str, out: Path) -> Path:
    """Writes the figures and report.html (see `Study`)."""
    figures = write_figures(figure_functions(results, preset), _CAPTIONS, out / "figures")
    tables = results.tables
    claims = {row["id"]: row for row in results.claims}
    summary = [summary_paragraph(claims, preset.directions), format_verdicts(results.claims)]
    rates = ", ".join(f"{rate:g}" for rate in RATES)
    facts = {
        "models": f"those of jain2024 at {preset.name}, world {world}: {', '.join(preset.arms)}",
        "perturbations": f"{preset.directions} random directions, {preset.points} points from "
        f"{-MAX_NORM} to {MAX_NORM} of the weights' norm; {preset.n} held-out unsafe and as many safe "
        "requests at each; outcomes are exact, from the likeliest tokens, without generation",
        "fine-tuning": f"{preset.attack.steps} steps of {preset.attack.batch_size}, learning rates "
        f"{rates}, of which the one that ends with most unsafe requests answered counts; no example was "
        "used before",
    }
    numbers = tables["basins"].drop(columns=["seed", "direction_index", "is_censored"])
    widths = numbers.groupby(["arm", "direction", "criterion"], sort=False).mean().reset_index()
    fine_tuning = tables["fine_tuning"].drop(columns=["seed"])
    curves = fine_tuning.groupby(["arm", "kind", "rate", "step"], sort=False).mean().reset_index()
    shown = {
        "Widths, mean over seeds and directions": widths,
        "Predictors, and results of fine-tuning attacks": tables["predictors"],
        "Fine-tuning attacks, mean over seeds": curves,
    }
    path = out / "report.html"
    title = f"peng2024 at {preset.name}: safety landscapes and fine-tuning attacks"
    write_page(Page(title, summary, facts, results.claims, figures, shown), path)
    return path
