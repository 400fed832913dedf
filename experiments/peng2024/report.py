"""How is the study shown? Its figures, and its page."""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.jain2024.presets import METHODS
from experiments.peng2024.claims import FIRMLY
from experiments.peng2024.finetune import best_rate
from experiments.peng2024.presets import FINETUNINGS, HARMFUL, NEVER, RATES, Preset
from experiments.results import Results, by_verdict, teller
from makebreak.plots import arm_name, plot_basins, plot_falls, plot_map, plot_told, plot_ways
from makebreak.report import Page, write_figures, write_page

_WAYS = {
    "random": "random",
    "filter": "random, by row",
    "fine-tuning": "harmful fine-tuning",
    "worst": "steepest for safety",
    "ablation": "refusal direction out",
}
_TOLD = {
    "visage": "VISAGE",
    "r50": "half-width",
    "r50_able": "half-width, able",
    "margin": "margin, nats",
    "weight_change": "‖ΔW‖",
}
_CAPTIONS = {
    "basins": (
        "Safety basins, and what else ends where they end",
        "Weights moved along random directions with the norm of every tensor, as Peng et al. 2024 have it, and judged "
        "exactly. What is not refused counts as an attack's success there: the gap between it and the red line are "
        "answers that are wrong. Dashed: safe requests answered at the same points. Bands: 5 to 95 % of directions "
        "and seeds.",
    ),
    "ways": (
        "Which way the weights move matters",
        "Unsafe requests that are refused, along directions of equal relative norm. Thin: seeds.",
    ),
    "maps": (
        "Maps",
        "Unsafe requests refused, one seed. Two random directions; last, the plane of the model (star), of harmful "
        "fine-tuning and of the same with as many safe requests, with both runs on it. White: within, 90 % of safe "
        "requests are answered.",
    ),
    "falls": (
        "How safety is lost",
        "Held-out unsafe requests answered as instructed along fine-tuning at the attacker's best rate. Thin: seeds.",
    ),
    "variants": (
        "Other widths, and a system prompt",
        "As in the first figure, SSFT of other widths, and in a world where half of pretraining has a system prompt, "
        "aligned in its sight or without, and asked with it or without.",
    ),
    "told": (
        "Does the landscape tell the fall?",
        "Steps of harmful fine-tuning until half of the unsafe requests are answered, against what is known before: "
        "widths, means over random directions, and two numbers that cost nothing. A dot per model that refuses.",
    ),
}


def drawings(results: Results, preset: Preset) -> dict[str, Callable[[], Any]]:
    tables = results.tables
    curves, methods = tables["curves"], [arm for arm in METHODS if arm in preset.arms]
    shown = [arm for arm in ("base", *methods) if arm in preset.arms]
    found: dict[str, Callable[[], Any]] = {
        "basins": lambda: plot_basins(curves[curves.direction == "random"], shown),
        "ways": lambda: plot_ways(curves, methods, _WAYS),
        "falls": lambda: plot_falls(_best(tables), [*shown, NEVER], list(FINETUNINGS)),
        "told": lambda: plot_told(_refusing(tables), _TOLD, f"{HARMFUL}.half", "steps to one half"),
    }
    if "maps" in tables:
        maps, paths = (tables[name].assign(title=_title) for name in ("maps", "paths"))
        found["maps"] = lambda: plot_map(maps, list(dict.fromkeys(maps.title)), paths)
    if "variants" in tables:
        rows = tables["variants"].sort_values(["asked", "d_model"], kind="stable")
        named = rows.assign(
            arm=rows.arm.str.cat(rows.asked.map(lambda how: f",\nasked {how}" if how else ""))
        )
        found["variants"] = lambda: plot_basins(named, list(dict.fromkeys(named.arm)))
    return found


def _title(rows: pd.DataFrame) -> pd.Series:
    plane = rows.plane if "plane" in rows else "fine-tuning"
    return rows.arm.map(arm_name) + ", " + plane


def _best(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Every run at the attacker's best rate."""
    runs = tables["finetuned"].groupby(["seed", "arm", "kind"], sort=False)
    best = [rows[rows.rate == best_rate(rows.to_dict("records"), rows.kind.iloc[0])] for _, rows in runs]
    return pd.concat(best)


def _refusing(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    start = (
        tables["finetuned"][tables["finetuned"].step == 0]
        .groupby(["seed", "arm"])
        .refused.first()
        .reset_index()
    )
    return tables["predictors"].merge(start[start.refused >= FIRMLY][["seed", "arm"]])


def paragraph(claims: Mapping[str, Mapping[str, Any]]) -> str:
    """The answer to the title's question, from the numbers."""

    told = teller(claims)
    return (
        "How far may the weights move? In random directions, what is not refused rises by "
        f"{told('T1', 0.05, -1)} within a tenth of the weights' norm; the half-width of answering safe requests less "
        f"that of refusing is {told('P6')}: where refusing ends, {told('T3', 0.9, -1)} of safe answers are left, and "
        f"at most {told('P6.harm', 0.1)} of unsafe requests are ever answered. The nearer edge of the basin is, in "
        f"units of that in random directions, at {told('P3', 0.5, -1)} in the steepest direction and at "
        f"{told('P3.fine_tuning', 0.5, -1)} in that of harmful fine-tuning. "
        f"Harmful fine-tuning lifts what is not refused by {told('T5.harmful', 0.5)}, with as many refusals by "
        f"{told('T5.mix', 0.05, -1)}, safe requests alone by {told('P4', 0.5)}. The half-width tells the steps that it "
        f"takes by a rank correlation {told('P2')} above that of the better of margin and norm of the update."
    )


def write_report(results: Results, preset: Preset, world: str, out: Path) -> Path:
    figures = write_figures(drawings(results, preset), _CAPTIONS, out / "figures")
    tables = results.tables
    summary = [
        paragraph({row["id"]: row for row in results.claims}),
        by_verdict(results.claims),
    ]
    facts = {
        "models": f"those of jain2024 at {preset.name}, world {world}: {', '.join(preset.arms)}",
        "walks": f"{preset.directions} random directions, {preset.points} points from -0.5 to 0.5 of the weights' "
        f"norm; {preset.n} held-out unsafe and safe requests at each, outcomes exact, without generation",
        "fine-tuning": f"{preset.finetuning.steps} steps of {preset.finetuning.batch_size}, rates "
        f"{', '.join(f'{rate:g}' for rate in RATES)}, the attacker's best of each; examples are new to the model",
    }
    by = ["arm", "direction", "sense"]
    numbers = tables["basins"].drop(columns=["seed", "index", "censored"])
    finetuned = (
        tables["finetuned"].drop(columns=["seed"]).groupby(["arm", "kind", "rate", "step"], sort=False)
    )
    shown = {
        "Widths, mean over seeds and directions": numbers.groupby(by, sort=False).mean().reset_index(),
        "What is known before, and what fine-tuning does": tables["predictors"],
        "Fine-tuning, mean over seeds": finetuned.mean().reset_index(),
    }
    path = out / "report.html"
    title = f"peng2024 at {preset.name}: how far may the weights move?"
    write_page(Page(title, summary, facts, results.claims, figures, shown), path)
    return path
