"""The study's report: answer, facts and summaries; figures are in `report_figures`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast

import pandas as pd

from experiments.jain2024.claims_checks import control_match_rows
from experiments.jain2024.mechanisms import mechanism_means
from experiments.jain2024.report_attacks import TABLES as ATTACK_TABLES
from experiments.jain2024.report_figures import control_comparison
from experiments.recipes.composition import ARMS, MATCHED_CONTROLS, Preset
from makebreak.claims import ClaimRow, Tables, format_finding, rows_of
from makebreak.prompts import OUTCOMES, load_world
from makebreak.recipes import Alignment

if TYPE_CHECKING:
    from synthetic.composition import CompositionWorld

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


def answer(claims: Mapping[str, ClaimRow]) -> list[str]:
    """The answer in three sentences with numbers.

    Args:
        claims: Evaluated claims by id.

    Returns:
        What happens to activations, to weights, and to attacks.
    """
    text = {name: format_finding(row) for name, row in claims.items()}
    return [
        "Activations: the gap between unsafe and safe requests, in distances of the class means, minus the "
        f"base's is {text['C2']}. The log ratio of the null shares of unsafe and safe requests, minus that "
        f"of a control that learns another answer, is {text['M1']}.",
        "Weights: the part of the update in the base's left null space, minus a random part of the same "
        f"dimension, carries {text['C3.causal']} of the refusal margin. The update reads unsafe requests "
        f"{text['C4']} times as strongly as safe ones.",
        "Attacks: alignment moves jailbreaks less far to the unsafe side than plain unsafe requests, by "
        f"{text['C6.base']} distances of the means. Given the projection of unsafe requests, the share of "
        f"successful jailbreaks that fail, minus that in the base, is {text['A2']}.",
    ]


def facts(preset: Preset, world: str) -> dict[str, str]:
    """What was run, by name.

    Args:
        preset: Sizes of the study.
        world: Name of the world.

    Returns:
        Text by name.
    """
    loaded = cast("CompositionWorld", load_world(world))
    pretraining, alignment = preset.pretraining_optimisation[world], preset.alignment_optimisation[world]
    pretraining_family = loaded.families[preset.pretraining[world].family]
    rates = [_format_rate(preset, world, method) for method in preset.rates[world] if method in preset.arms]
    scales = preset.scales.get(world, {})
    controls = [f"{name} {scales.get(name, 1):g}" for name in MATCHED_CONTROLS if name in preset.arms]
    return {
        "world": f"{world}: {len(loaded.families)} families; {loaded.config.n_letters} letters, "
        f"{loaded.n_tasks} task tokens, {loaded.n_grammars} grammars",
        "model": f"{preset.model.architecture}, {preset.model.n_layers} layers × {preset.model.d_model}, "
        + (
            "the block of Jain et al., which replaces the residual stream by its LayerNorm"
            if preset.model.architecture == "jain2024"
            else "its own block where Jain et al. replace the residual stream by its LayerNorm"
        ),
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
    settings = Alignment(preset.objective(method), preset.alignment_optimisation[world]).settings
    text = f"{method} {preset.rates[world][method]:g}" + (f" ({settings})" if settings else "")
    return text + (" (nearest: no rate passes)" if method in preset.failing.get(world, ()) else "")


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


def _final_mechanisms(tables: Tables) -> pd.DataFrame:
    return mechanism_means(rows_of(tables, "mechanisms"))


def _mean_table(name: str, by: Sequence[str], tables: Tables) -> pd.DataFrame:
    table = rows_of(tables, name)
    if name == "null_share":
        table = table[table["outcome"] == "all"]
    return _means(table, by)


def _families(tables: Tables) -> pd.DataFrame:
    families = load_world(tables["zoo"]["world"].iloc[0]).families
    return pd.DataFrame(families.items(), columns=["family", "description"])


SUMMARIES: Mapping[str, Callable[[Tables], pd.DataFrame]] = {
    "Behaviour, mean over seeds": lambda tables: _mean_behaviour(rows_of(tables, "behaviour")),
    "All checkpoints, mean over seeds": lambda tables: _means(rows_of(tables, "zoo"), ["arm", "at"])[
        _STRENGTH_COLUMNS
    ],
    "Null share of unsafe requests, minus controls": lambda tables: control_comparison(
        rows_of(tables, "zoo")
    ),
    "Sham and remap controls: relative difference to their method": lambda tables: pd.DataFrame(
        control_match_rows(rows_of(tables, "zoo"))
    ),
    "Detectability by n-gram classifiers: largest AUROC over orders 1 to 6": lambda tables: _detectability(
        rows_of(tables, "detectability")
    ),
    "Mechanism of refusal by stitching, mean over seeds": _final_mechanisms,
    **{f"{title}, mean over seeds": partial(_mean_table, name, by) for title, name, by in MEAN_TABLES},
    "Families": _families,
}
"""Tables of the page by title."""
