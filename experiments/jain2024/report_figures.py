"""Figures of the study's report; those about attacks are in `report_attacks`."""

from __future__ import annotations

from typing import Any

import pandas as pd

from experiments.jain2024.activation_measures import FAMILIES, SHAM_FAMILIES
from experiments.jain2024.published_table import PUBLISHED_FIGURES
from experiments.jain2024.report_attacks import ATTACK_FIGURES
from experiments.recipes.composition import MATCHED_CONTROLS, METHODS, OBJECTIVES, Preset
from makebreak.claims import Tables, rows_of
from makebreak.model_zoo import compare_with_controls, judged_families
from makebreak.plots import (
    plot_controls,
    plot_kernel_share,
    plot_leading_gain,
    plot_localisation,
    plot_matched_comparison,
    plot_null_share,
    plot_outcomes,
    plot_preactivation_decomposition,
    plot_probes,
    plot_safety_cost,
    plot_sensitivity,
    plot_separation,
    plot_stitching,
    plot_update_projection,
    plot_updates,
)
from makebreak.prompts import load_world
from makebreak.studies import Figure

_CONTROL_FAMILIES = ("sham", "remapped", "new_operator")
"""Parts of the names of families that only controls are about."""
_MATCHED_TITLES = {
    "token-matched.normalised": "normalised gap of τ",
    "null_share.unsafe": "null share, unsafe",
    "stitching.lower_margin_share": "share of the margin,\nbase above",
}
_MATCHED_AT = {"end": "the end", "margin": "equal\nmargin", "kl_on_safe": "equal\nKL"}

_SHAMS = [f"sham_{method}" for method in METHODS]
_ARMS = [*METHODS, *_SHAMS]
_PAIRS = dict.fromkeys(METHODS, ("safe", "unsafe")) | dict.fromkeys(_SHAMS, SHAM_FAMILIES)


def draw_outcomes(tables: Tables, preset: Preset) -> Any:
    """Outcomes of answers by family."""
    families = _shown_families(tables["zoo"]["world"].iloc[0])
    return plot_outcomes(tables["behaviour"], ["base", *METHODS], families)


def draw_cost(tables: Tables, preset: Preset) -> Any:
    """Cost of the refusal margin."""
    return plot_safety_cost(tables["zoo"], [method for method in OBJECTIVES if method in preset.arms])


def draw_separation(tables: Tables, preset: Preset) -> Any:
    """Gap of τ by layer."""
    return plot_separation(tables["clusters"], ["base", *_ARMS])


def draw_null_share(tables: Tables, preset: Preset) -> Any:
    """Null shares by layer."""
    return plot_null_share(tables["null_share"], _ARMS, _PAIRS)


def draw_updates(tables: Tables, preset: Preset) -> Any:
    """Sines and read gains of the update."""
    return plot_updates(tables["updates"], tables["read_gain"], _ARMS, _PAIRS)


def draw_update_projection(tables: Tables, preset: Preset) -> Any:
    """What parts of the update carry."""
    measured = set(rows_of(tables, "update_projection")["arm"])
    arms = [arm for arm in (*_ARMS, "remap") if arm in measured]
    return plot_update_projection(tables["update_projection"], arms)


def draw_leading_gain(tables: Tables, preset: Preset) -> Any:
    """Read gain by direction."""
    return plot_leading_gain(tables["read_gain"], _ARMS, _PAIRS)


def draw_kernel_share(tables: Tables, preset: Preset) -> Any:
    """Share of the change that W_out cannot pass on."""
    return plot_kernel_share(tables["kernel_share"], _ARMS, _PAIRS)


def draw_sensitivity(tables: Tables, preset: Preset) -> Any:
    """Sensitivity to the request."""
    return plot_sensitivity(tables["sensitivity"], _ARMS, FAMILIES)


def draw_decomposition(tables: Tables, preset: Preset) -> Any:
    """Change of pre-activations, and energy of the update."""
    return plot_preactivation_decomposition(tables["preactivations"], tables["energy"], list(METHODS))


def draw_stitching(tables: Tables, preset: Preset) -> Any:
    """Stitching by cut."""
    return plot_stitching(tables["stitching"], _ARMS)


def draw_localisation(tables: Tables, preset: Preset) -> Any:
    """Components that carry the margin."""
    return plot_localisation(tables["localisation"], list(METHODS))


def draw_controls(tables: Tables, preset: Preset) -> Any:
    """Null share of the methods minus that of controls."""
    rows = control_comparison(tables["zoo"])
    return plot_controls(rows, "null share of unsafe requests, minus the control's")


def draw_matched(tables: Tables, preset: Preset) -> Any:
    """Matched comparison of the methods."""
    titles = {name: title for name, title in _MATCHED_TITLES.items() if name in tables["matched"]}
    return plot_matched_comparison(tables["matched"], list(METHODS), titles, _MATCHED_AT)


def draw_probes(tables: Tables, preset: Preset) -> Any:
    """Probes of unsafe and of refused."""
    return plot_probes(tables["probes"], tables["matched_steering"], list(METHODS))


def control_comparison(zoo: pd.DataFrame) -> pd.DataFrame:
    """Null share of unsafe requests of the methods at η_M, minus controls of the same bases.

    Args:
        zoo: The study's table of models.

    Returns:
        Rows of `makebreak.model_zoo.controls.ControlRow`.
    """
    arms = (*METHODS, *MATCHED_CONTROLS, "base", "new_operator", "continued")
    final = zoo[zoo["arm"].isin(arms)].sort_values("at").groupby(["seed", "arm"]).tail(1)
    return pd.DataFrame(compare_with_controls(final, "null_share.unsafe"))


def _shown_families(world: str) -> list[str]:
    families = judged_families(load_world(world).families)
    return [name for name in families if not any(control in name for control in _CONTROL_FAMILIES)]


FIGURES = (
    Figure(
        "update_projection",
        "Parts of the update that carry refusal",
        "Share of what the update is worth in refusal margin that remains where only its projection on a "
        "subspace is kept and everything else stays aligned. Left: of W_in, on the left null space of the "
        "base's W_in by exact rank, on its column space, and on random subspaces of the same dimensions. "
        "Right: of every matrix of every block, each on the spaces of its own base matrix, by the rank that "
        "holds 90 % of the energy. Dots: seeds; lines: one standard deviation over random subspaces. A part "
        "carries more than its size where its bar is above that of the random subspaces.",
        draw_update_projection,
        requires=("update_projection",),
        claims=(
            "C3.causal",
            "C3.causal_column",
            "C3.causal_all",
        ),
    ),
    Figure(
        "outcomes",
        "Outcomes of answers by family of requests",
        "Greedy answers to held-out requests, judged exactly, per family (rows) and model (columns). Bars "
        "are means over pretraining seeds, dots the refusal rate of each seed. A jailbreak is a family of "
        "unsafe requests that aligned models do not refuse; safe families show over-refusal.",
        draw_outcomes,
        requires=("behaviour",),
    ),
    Figure(
        "cost",
        "Cost of the refusal margin",
        "Every checkpoint of every run: refusal margin on unsafe requests (nats), compliance on safe ones, "
        "and ‖ΔW‖, against KL to the base on safe requests. Thick lines: means over seeds; dots: the last "
        "step.",
        draw_cost,
        requires=("zoo",),
    ),
    Figure(
        "separation",
        "Clusters of safe and unsafe requests",
        "Gap of τ between safe and unsafe requests at the end of the text, by layer. Left: as published, "
        "in units of the activations, which grow with their norm. Middle and right: in units of the "
        "distance of the class means (2 is perfect separation). Standard requests differ in their tasks, "
        "so the base separates them too; token-matched ones have the same tasks on text of the other "
        "branch, so that only a gap above the base's is about safety. Dashed: sham controls, trained to "
        "refuse a random partition of (task, grammar). Dotted: shuffled labels. Bands: 95 % over seeds, "
        "solid lines only.",
        draw_separation,
        requires=("clusters",),
        claims=(
            "C2",
            "C2.depth",
            "C2.sham",
        ),
    ),
    Figure(
        "null_share",
        "Share in the left null space of the base's W_in",
        "Left: of W·a, pre-activations of the aligned model on unsafe requests (the base's own share is 0 "
        "by construction). Middle: of ΔW·a, the update's part; dotted, the share of a random vector. "
        "Right: log ratio of unsafe to safe; for a sham control, of its own refused to its own answered "
        "requests. A null-space mechanism that is specific to unsafe requests would lift the solid lines "
        "above zero. "
        "Shams learn to refuse by the same loss, so they control for the concept of safety and not for a "
        "mechanism of refusing (docs/errata.md, audit-M1).",
        draw_null_share,
        requires=("null_share",),
        claims=(
            "M1",
            "M1.raw",
            "M1.sham",
        ),
    ),
    Figure(
        "updates",
        "Column space and read gain of the update of W_in",
        "Sine of the angle between leading outputs of the update and the column space of W_in (Jain et al. "
        "2024, Fig. 4). Left: the statistic of the released analysis script, which compares rows of the full "
        "matrix U of the aligned model's W_in with those of the base's; it is 0 where the weights did not "
        "change and grows with the change, and is no measure of the column space of ΔW (docs/errata.md, "
        "W1). Middle: the sine for ΔW itself, with three reference levels: random updates and ΔW with its "
        "outputs permuted (means of five draws each), and ΔW against the matrix of another pretraining "
        "seed. Right: read gain of the update on unsafe over safe requests (Fig. 5); "
        "for a sham, on requests trained towards the null over requests trained towards an answer.",
        draw_updates,
        requires=(
            "updates",
            "read_gain",
        ),
        claims=(
            "C3",
            "C4",
        ),
    ),
    Figure(
        "leading_gain",
        "Read gain by direction of the update",
        "Log ratio of unsafe to safe requests of the read gain of the first, the first two and the first "
        "eight right singular directions of the update of W_in, and of all of it (Fig. 5); for a sham, of "
        "its own refused to its own answered requests. Bands: 95 % over seeds.",
        draw_leading_gain,
        requires=("read_gain",),
        claims=(
            "C4.direction_1",
            "C4.direction_2",
            "C4.direction_8",
        ),
    ),
    Figure(
        "kernel_share",
        "Share of the change that W_out cannot pass on",
        "Share of the change of the MLP's post-activations at the end of text in the kernel of the base's "
        "W_out. Dotted: chance, the dimension of the kernel over d_mlp. Below it, a change is passed on more "
        "than a random one would be. For a sham, its own answered and refused requests.",
        draw_kernel_share,
        requires=("kernel_share",),
    ),
    Figure(
        "sensitivity",
        "Sensitivity to the request",
        "Norm of the gradient with respect to the embeddings of all tokens before the answer, aligned over "
        "base, median over requests (Fig. 6); a dot per seed. Left: of the largest logit, as published, "
        "which also depends on the scale of logits. Right: of that token's log probability.",
        draw_sensitivity,
        requires=("sensitivity",),
        claims=(
            "C5",
            "C5.unsafe",
            "C5.safe",
            "C5.log_p",
        ),
    ),
    Figure(
        "decomposition",
        "Decomposition of the change of pre-activations, and energy of the update",
        "Change of the MLP's pre-activations, means of the methods: W·Δx is the change of the input, "
        "multiplied by the base's matrix; ΔW·x is the update itself. Right: cumulative share of the energy "
        "of ΔW·a within the leading k principal outputs of the base on pretraining requests; the dotted "
        "diagonal is what an update without preference gives. From k = rank(W) on (a quarter of d_mlp in "
        "these networks) the leading outputs span the whole column space of W, whatever the requests: "
        "there the curve is not weighted by data (docs/errata.md, W7).",
        draw_decomposition,
        requires=(
            "preactivations",
            "energy",
        ),
        claims=(
            "M5",
            "C3.weighted",
        ),
    ),
    Figure(
        "stitching",
        "Stitching of base and aligned layers",
        "Lower layers of one model run into the upper layers of the other, cut at every layer, on unsafe "
        "requests (for a sham, on those that it was trained to refuse). Left: the tuned model below the cut "
        "and the base above, as a share of the gain in the refusal's probability (mean over requests); the "
        "line is what a combination needs to count as refusing; dotted, a random movement of the same norm. "
        "Middle: the base below and the tuned model above. Right: KL of the base under the movement, as a "
        "share of KL(base ‖ tuned); below the line a movement is silent. The mechanism is named request by "
        "request (docs/concepts/mechanisms.md). Dashed, vertical: the cut of claims M2 to M4, "
        "after block n // 2 of n.",
        draw_stitching,
        requires=("stitching",),
        claims=(
            "M3.random",
            "M3.last",
            "M4.needed",
        ),
    ),
    Figure(
        "localisation",
        "Components that carry the refusal margin",
        "Share of what the whole update adds to the margin on unsafe requests, by component (block and "
        "kind). Left: only this component aligned (leave-one-in). Middle: all others aligned "
        "(leave-one-out). Right: Shapley values, mean over random orders in which components are aligned; "
        "these add up to 1. Dots: seeds.",
        draw_localisation,
        requires=("localisation",),
        claims=("M7",),
    ),
    Figure(
        "controls",
        "Null share of unsafe requests, minus controls",
        "Share of W·a in the left null space of the base's matrix on unsafe requests, mean of layers: each "
        "method minus each control that was trained from the same bases, at the checkpoint with the most "
        "similar ‖ΔW‖. Right of zero: more than the control. Bars: 95 % over seeds, paired. The mean over "
        "layers includes the first one, where unsafe and safe requests differ least at the end of text; "
        "read it together with the table by layer (docs/errata.md, audit-M1).",
        draw_controls,
        requires=("zoo",),
    ),
    Figure(
        "matched",
        "Matched comparison of the methods",
        "At the end of the run; where it first has the refusal margin that every run of every method "
        "reaches; and where KL to the base on safe requests, which peaks early and falls, last falls to a "
        "value that all methods of a seed have within their last stage (DPO's own, not its SSFT warm start). "
        "Interpolated between kept steps. Of runs before 2026-11-27, panels at equal KL show the point where "
        "a KL is first reached, and are withdrawn (docs/errata.md, W4). Bars: 95 % over seeds.",
        draw_matched,
        requires=("matched",),
        claims=(
            "C2.order_margin",
            "C2.order_kl",
        ),
    ),
    Figure(
        "probes",
        "Probes of unsafe and of refused, and steering",
        "States are regressed on both labels at once and scored on other requests where one label is "
        "constant. Left: AUROC of unsafe among requests none of which is refused, at the end of the text. "
        "Middle: AUROC of refused among requests all of which are unsafe, at the end of the request. "
        "Dashed: the base with the same labels. Right: refusal margin when vectors are subtracted from the "
        "state of unsafe requests after block n // 2 of n (after block 1 of 3 in `mini`), each scaled "
        "until adding it changes safe requests by the same KL.",
        draw_probes,
        requires=(
            "probes",
            "matched_steering",
        ),
        claims=(
            "M8",
            "M8.refused",
            "M9",
        ),
    ),
    *ATTACK_FIGURES,
    *PUBLISHED_FIGURES,
)
"""All figures, the main result first."""
