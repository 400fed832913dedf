"""The study's report: summary, facts, claims, figures and tables on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import pandas as pd

from experiments.jain2024.claims_checks import control_match_rows
from experiments.jain2024.mechanisms import mechanism_means, mechanism_paragraph
from experiments.jain2024.report_attacks import TABLES as ATTACK_TABLES
from experiments.jain2024.report_attacks import attack_paragraph
from experiments.jain2024.report_figures import control_comparison, write_study_figures
from experiments.recipes.composition import ARMS, MATCHED_CONTROLS, METHODS, OBJECTIVES, Preset
from experiments.results import Results, format_verdicts
from makebreak.prompts import OUTCOMES, load_world
from makebreak.recipes import Alignment
from makebreak.report import Page, write_page

if TYPE_CHECKING:
    from synthetic.composition import CompositionWorld

VERDICT_NOTE = (
    "Not supported means that the interval lies below the threshold or within the margin of equivalence; it "
    "does not say which (docs/errata.md, audit-M8)."
)
"""What has to be known to read the verdicts."""
_STRENGTH_COLUMNS = [
    *("arm", "at", "margin", "kl_on_safe", "weight_change", "trained_answer_rate", "trained_family_margin"),
    *(f"{family}.{outcome}" for family in ("safe", "unsafe") for outcome in OUTCOMES),
]
_BEHAVIOUR_COLUMNS = [*OUTCOMES, "margin", "instructed_exact_match", "refused_exact_match"]


class MeanTable(NamedTuple):
    """A table of the page: means over seeds."""

    title: str
    """Title on the page."""
    name: str
    """Name of the study's table."""
    by: Sequence[str]
    """Columns by which rows are grouped."""


MEAN_TABLES = [
    MeanTable("Matched comparison of methods", "matched", ["on", "arm"]),
    MeanTable("Clusters", "clusters", ["arm", "requests", "layer"]),
    MeanTable("Stitching", "stitching", ["arm", "layer"]),
    MeanTable("Refusal directions: candidates", "directions", ["arm", "layer", "kind"]),
    MeanTable("Refusal rate by number of ablated directions", "refusal_rank", ["arm", "n_directions"]),
    MeanTable("Probes of unsafe and of refused", "probes", ["arm", "network", "position", "layer"]),
    MeanTable("Steering matched by disturbance of safe requests", "matched_steering", ["arm", "kind"]),
    MeanTable("Fine-tuning constrained to a subspace", "constrained", ["arm", "space"]),
    MeanTable("Activation patching of heads and MLPs", "patching", ["arm", "part"]),
    MeanTable("Updates", "updates", ["arm", "matrix", "layer", "against"]),
    MeanTable("Read gain of the update", "read_gain", ["arm", "matrix", "family", "layer"]),
    MeanTable(
        "Parts of the update that carry refusal", "update_projection", ["arm", "matrices", "rule", "space"]
    ),
    MeanTable(
        "Energy of the update where the base writes most",
        "weighted_energy",
        ["arm", "matrix", "family", "base_share", "layer"],
    ),
    MeanTable("Kernel of W_out", "kernel_share", ["arm", "family", "layer"]),
    MeanTable("Gain of W_in on its inputs", "input_gain", ["arm", "matrix", "family", "layer"]),
    MeanTable("Sensitivity", "sensitivity", ["arm", "family", "output"]),
    MeanTable("Decomposition of pre-activations", "preactivations", ["arm", "matrix", "family", "layer"]),
    MeanTable(
        "Null share (all outcomes)", "null_share", ["arm", "matrix", "family", "rule", "quantity", "layer"]
    ),
    MeanTable("Attacks", "attacks", ["world", "arm", "attack"]),
    MeanTable(
        "Detectability of jailbreaks by n-gram classifiers",
        "jailbreak_detectability",
        ["world", "arm", "attack", "features"],
    ),
    *(MeanTable(title, name, by) for name, (title, by) in ATTACK_TABLES.items()),
]
"""Tables of the page that are means over seeds."""


def write_report(results: Results, preset: Preset, world: str, out: Path) -> Path:
    """Writes the figures and the page (see `Study`)."""
    page = Page(
        title=f"jain2024 at {preset.name}: effects of safety fine-tuning on weights and activations",
        summary=_summary(results, preset, world),
        facts=_facts(preset, world),
        claims=results.claims,
        figures=write_study_figures(results, preset, world, out / "figures"),
        tables=_page_tables(results.tables, world),
    )
    path = out / "report.html"
    write_page(page, path)
    return path


def _summary(results: Results, preset: Preset, world: str) -> list[str]:
    claims = results.claims
    by_id = {row["id"]: row for row in claims}
    attack_paragraphs = []
    for name in (world, *preset.other_worlds(world)):
        suffix = "" if name == world else f".{name}"
        of_world = {claim.removesuffix(suffix): row for claim, row in by_id.items() if claim.endswith(suffix)}
        attack_paragraphs.append(attack_paragraph(of_world, name))
    check = by_id["C1"]["verdict"]
    return [
        mechanism_paragraph(results.tables.get("mechanisms", pd.DataFrame()), METHODS),
        *attack_paragraphs,
        f"{format_verdicts(claims)} {VERDICT_NOTE} The check of the settings (C1) is {check} on these seeds.",
        "Small transformers were trained to carry out composed tasks on text, then to refuse (to answer "
        "the null token) where task and text together are unsafe. Every model is measured on texts that no "
        "stage of training has used.",
    ]


def _facts(preset: Preset, world: str) -> dict[str, str]:
    """What was run, by name."""
    loaded = cast("CompositionWorld", load_world(world))
    pretraining, alignment = preset.pretraining_optimisation[world], preset.alignment_optimisation[world]
    pretraining_family = loaded.families[preset.pretraining[world].family]
    rates = [_format_rate(preset, world, method) for method in preset.rates[world] if method in preset.arms]
    scales = preset.scales.get(world, {})
    controls = [f"{name} {scales.get(name, 1):g}" for name in MATCHED_CONTROLS if name in preset.arms]
    return {
        "world": f"{world}: {len(loaded.families)} families; {loaded.config.n_letters} letters, "
        f"{loaded.n_tasks} task tokens, {loaded.n_grammars} grammars",
        "model": f"{preset.model.architecture}, {preset.model.n_layers} layers × {preset.model.d_model}, its "
        "own block where Jain et al. replace the residual stream by its LayerNorm",
        "pretraining": f"{pretraining.steps} steps of {pretraining.batch_size}, rate "
        f"{pretraining.learning_rate:g}; requests: {pretraining_family}",
        "alignment": f"{alignment.steps} steps of {alignment.batch_size}; η_M {', '.join(rates)}; DPO spends "
        f"{preset.dpo_warm_share:.0%} of its steps on an SSFT warm start and adds the NLL of the preferred "
        "answer (dpo_plain without it). SSFT supervises all outputs of safe requests, methods on pairs the "
        "first one",
        "controls": "sham: same objective and steps, refusal trained on a random half of each grammar's "
        "tasks; remap: unsafe requests tuned to another task's answer. Multiple of their method's rate: "
        f"{', '.join(controls)}",
        "measured on": f"{preset.n_requests} held-out requests per family; other ones for class means",
    }


def _format_rate(preset: Preset, world: str, method: str) -> str:
    """Rate and settings of a method, and whether it passes the checks of behaviour on the tuning seeds."""
    settings = Alignment(OBJECTIVES[method], preset.alignment_optimisation[world]).settings
    text = f"{method} {preset.rates[world][method]:g}" + (f" ({settings})" if settings else "")
    return text + (" (nearest: no rate passes)" if method in preset.failing.get(world, ()) else "")


def _page_tables(tables: Mapping[str, pd.DataFrame], world: str) -> dict[str, pd.DataFrame]:
    """Tables of the page by title."""
    families = load_world(world).families
    pages = {
        "Behaviour, mean over seeds": _mean_behaviour(tables["behaviour"]),
        "All checkpoints, mean over seeds": _means(tables["zoo"], ["arm", "at"])[_STRENGTH_COLUMNS],
        "Null share of unsafe requests, minus controls": control_comparison(tables["zoo"]),
        "Sham and remap controls: relative difference to their method": pd.DataFrame(
            control_match_rows(tables["zoo"])
        ),
        "Detectability by n-gram classifiers: largest AUROC over orders 1 to 6": _detectability(
            tables["detectability"]
        ),
    }
    mechanisms = tables.get("mechanisms")
    if mechanisms is not None and len(mechanisms):
        pages["Mechanism of refusal by stitching, mean over seeds"] = mechanism_means(mechanisms)
    for title, name, by in MEAN_TABLES:
        table = tables.get(name)
        if table is None or not len(table):
            continue
        if name == "null_share":
            table = table[table["outcome"] == "all"]
        pages[f"{title}, mean over seeds"] = _means(table, by)
    return pages | {"Families": pd.DataFrame(families.items(), columns=["family", "description"])}


def _mean_behaviour(behaviour: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, with arms in the order of the presets."""
    means = behaviour.groupby(["arm", "family"])[_BEHAVIOUR_COLUMNS].mean().reset_index()
    order = {arm: i for i, arm in enumerate(ARMS)}
    return means.sort_values(
        ["arm", "family"], key=lambda column: column.map(order) if column.name == "arm" else column
    )


def _detectability(table: pd.DataFrame) -> pd.DataFrame:
    """One row per family, one column per set of features."""
    largest = table.groupby(["family", "features"], sort=False)["auroc"].max()
    return largest.unstack(sort=False).reset_index()


def _means(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Means of all numeric columns over seeds and whatever else `by` does not name."""
    numeric = table.drop(columns=["seed"]).select_dtypes("number").columns.difference(list(by))
    return table.groupby(list(by), sort=False)[list(numeric)].mean().reset_index()
