"""How is the study shown? Its figures, and its page."""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from experiments.jain2024.checks import twins
from experiments.jain2024.measure import FAMILIES, SHAM_FAMILIES
from experiments.jain2024.presets import ARMS, METHODS, OBJECTIVES, TWINS, Preset
from experiments.jain2024.report_attacks import CAPTIONS as ATTACK_CAPTIONS
from experiments.jain2024.report_attacks import TABLES as ATTACK_TABLES
from experiments.jain2024.report_attacks import drawings as attack_drawings
from experiments.jain2024.report_attacks import paragraph
from experiments.jain2024.study import Results
from makebreak.plots import (
    plot_anatomy,
    plot_apart,
    plot_cost,
    plot_equal,
    plot_ladder,
    plot_null_share,
    plot_outcomes,
    plot_parts,
    plot_rivals,
    plot_sensitivity,
    plot_separation,
    plot_updates,
)
from makebreak.recipes import Alignment
from makebreak.report import Figure, Page, write_figures, write_page
from makebreak.requests import OUTCOMES, load_world
from makebreak.zoo import judged_families, ladder

_CAPTIONS = {
    "outcomes": (
        "What models do when asked",
        "Free-running greedy answers on held-out requests, judged exactly, per family (rows) and model (columns); bars "
        "are means over pretraining seeds, dots the refuse rate of each seed. A jailbreak is a family of unsafe "
        "requests that the aligned models do not refuse; safe families show over-refusal.",
    ),
    "cost": (
        "What firmness costs",
        "Every kept step of every run: log-odds of the null on unsafe requests, compliance on safe ones, how far the "
        "weights moved, against KL to the base on safe requests. At equal cost the firmer method is better. "
        "Thick: mean over seeds; dot: the last step.",
    ),
    "separation": (
        "Clusters of safe and unsafe requests",
        "Gap of τ between safe and unsafe requests at the end of text, by layer. Left: as published, in activation "
        "units, which grow with the activations. Middle and right: in units of the distance of the means (2 is "
        "perfect). Standard requests differ in their tasks, so the base separates them too; token-matched ones have "
        "the same tasks on text of the other branch: only a gap above the base's there is about safety. Dashed: "
        "sham safety, the null taught on a random partition of (task, grammar). Dotted: shuffled labels. Bands: 95 % "
        "over seeds, solid lines only.",
    ),
    "null_share": (
        "Share in the left null space of the base's MLP input matrix",
        "Left: of W·a, what the aligned matrix writes on unsafe requests (the base's own share is 0 by construction). "
        "Middle: of ΔW·a, what the update adds; dotted, the share of a random vector. Right: unsafe minus safe; for "
        "a sham, taught null minus taught answer. Silencing through the null space would lift the solid lines above "
        "zero and above the dashed ones.",
    ),
    "updates": (
        "Where the update of the MLP input writes, and what it reads",
        "Sine of the angle between leading outputs of ΔW and the column space of W (Jain et al. 2024, Fig. 4); 1 is "
        "its left null space. Left: as the released code has it, which is of W after tuning in place of ΔW, and of "
        "rows in place of columns. Middle: corrected, with what chance gives: a random update, ΔW with its outputs "
        "permuted, ΔW against the matrix of another pretraining seed. Right: how much more it reads of unsafe requests "
        "than of safe ones (Fig. 5, corrected); for a sham, of those taught the null over those taught an answer.",
    ),
    "sensitivity": (
        "Sensitivity to the request",
        "Norm of the gradient at the embeddings of all tokens before the answer, aligned over base, median of requests "
        "(Fig. 6); a dot per seed. Left: of the greatest logit, as published, which also changes with the scale of "
        "logits. Right: of that token's log probability.",
    ),
    "anatomy": (
        "What changed, and where the update writes",
        "The change of the MLP's pre-activations: W·Δx is what earlier layers moved, seen by the base's own weights; "
        "ΔW·x is the update itself. Means of the methods. Right: energy of ΔW·a within the outputs that the base uses "
        "most on pretraining requests; on the dotted diagonal the update does not care where the base writes.",
    ),
    "rivals": (
        "Silence, route or rewrite",
        "Two networks cut at every layer and put together crosswise, on unsafe requests (a sham's: on what it was "
        "taught to refuse). Left: the aligned lower part with the base's upper part. At or above .5 the base had the "
        "way (route); within the grey band the movement changes nothing there (silence); between them only the aligned "
        "upper part makes a refusal of it (rewrite). Dotted: a random movement as large. Middle: the base's lower part "
        "with the aligned upper part; what is missing to 1 is what the lower part is needed for. Right: share of the "
        "movement at the end of the request where the base hardly hears it, locally; dotted, of a random one. Dashed, "
        "vertical: half depth, where the verdict is given.",
    ),
    "parts": (
        "Which parts carry the refusal margin",
        "Share of what the whole update adds to the margin on unsafe requests, by part of the network (block, kind). "
        "Left: only this part aligned. Middle: all others aligned. Right: mean over random orders of putting parts in; "
        "these add up to 1. Dots: seeds.",
    ),
    "ladder": (
        "Null share of unsafe requests beside its controls",
        "Share of W·a in the left null space of the base's matrix on unsafe requests, mean of layers: each method "
        "minus what else was made of the same base, the run that moved the weights nearest as far. Right of nought: "
        "more than the control. Bars: 95 % over seeds, paired.",
    ),
    "equal": (
        "Methods that have come equally far",
        "At the end of the run; where it first has the refusal margin, and the KL to the base on safe requests, that "
        "every run of every method reaches, interpolated between kept steps. KL is no steady function of time: it is "
        "first reached early. Bars: 95 % over seeds.",
    ),
    "apart": (
        "Unsafe apart from refused",
        "States are regressed on both labels at once and scored on other requests where one label is fixed. Left: does "
        "unsafe separate requests none of which is refused, at the end of the text? Middle: does refused separate "
        "requests all of which are unsafe, at the end of the request? Dashed: the base with the same labels. Right: "
        "vectors taken off the state of unsafe requests at half depth, each scaled until adding it moves safe requests "
        "by the same KL.",
    ),
}
_EQUAL = {
    "token-matched.normalised": "normalised gap of τ",
    "null_share.unsafe": "null share, unsafe",
    "half.lower_share": "share given, half depth",
}
_STRENGTH = ["arm", "at", "margin", "kl_on_safe", "weight_change", "taught", "taught_margin"]
_STRENGTH += [f"{family}.{outcome}" for family in ("safe", "unsafe") for outcome in OUTCOMES]
_RULE = "Silent is 0.1 or less, a route 0.5 or more; rewriting lies between, with less than 0.5 from the upper half alone."
_ON = {"end": "the end", "margin": "equal\nmargin", "kl_on_safe": "equal\nKL"}


def draw(results: Results, preset: Preset, world: str, folder: Path) -> list[Figure]:
    """Write every figure as PNG and PDF."""
    methods, tables = list(METHODS), results.tables
    shams = [f"sham_{m}" for m in methods]
    pairs = {m: ("safe", "unsafe") for m in methods} | dict.fromkeys(shams, SHAM_FAMILIES)
    arms = [*methods, *shams]
    drawings = {
        "outcomes": lambda: plot_outcomes(tables["behaviour"], ["base", *methods], _shown_families(world)),
        "cost": lambda: plot_cost(tables["zoo"], [m for m in OBJECTIVES if m in preset.arms]),
        "separation": lambda: plot_separation(tables["clusters"], ["base", *methods, *shams]),
        "null_share": lambda: plot_null_share(tables["null_share"], arms, pairs),
        "updates": lambda: plot_updates(tables["updates"], tables["reading"], arms, pairs),
        "sensitivity": lambda: plot_sensitivity(tables["sensitivity"], arms, FAMILIES),
        "anatomy": lambda: plot_anatomy(tables["anatomy"], tables["energy"], methods),
        "rivals": lambda: plot_rivals(tables["rivals"], arms),
        "parts": lambda: plot_parts(tables["parts"], methods),
        "ladder": lambda: plot_ladder(
            _ladder(tables["zoo"]), "null share of unsafe requests, minus the control's"
        ),
        "equal": lambda: plot_equal(
            tables["equal"], methods, {k: _EQUAL[k] for k in _EQUAL if k in tables["equal"]}, _ON
        ),
        "apart": lambda: plot_apart(tables["labels"], tables["shifts"], methods),
    }
    return write_figures(drawings | attack_drawings(tables), _CAPTIONS | ATTACK_CAPTIONS, folder)


def _ladder(zoo: pd.DataFrame) -> pd.DataFrame:
    """Of the methods at η_M, among all that was made of the same bases."""
    controls = (*TWINS, "base", "new_operator", "continued")
    last = zoo[zoo.arm.isin((*METHODS, *controls))].sort_values("at").groupby(["seed", "arm"]).tail(1)
    return ladder(last, "null_share.unsafe")


def _shown_families(world: str) -> list[str]:
    controls = (*SHAM_FAMILIES, "remapped_unsafe", "new_operator")
    return [name for name in judged_families(load_world(world).families) if name not in controls]


def page(results: Results, preset: Preset, world: str, figures: list[Figure], title: str) -> Page:
    """The report: its first paragraph is made from the verdicts."""
    claims = results.claims
    named = {
        verdict: [row["id"] for row in claims if row["verdict"] == verdict and row["kind"] == "claim"]
        for verdict in ("supported", "not supported", "inconclusive", "not run")
    }
    verdicts = "; ".join(f"{verdict}: {', '.join(ids)}" for verdict, ids in named.items() if ids)
    check = next(row for row in claims if row["id"] == "C1")
    families_of = load_world(world).families
    summary = [
        _mechanism({row["id"]: row for row in claims}),
        *(
            _attacked({row["id"]: row for row in claims}, own, world)
            for own in (world, *preset.others(world))
        ),
        f"Of the claims examined, {verdicts}. The check of the settings (C1) is {check['verdict']} on these seeds.",
        "Small transformers learnt to carry out composed tasks on text, then to answer the null where task and text "
        "together are unsafe. Every model is measured on texts that no stage of training saw.",
    ]
    optimisation, alignment = preset.pretraining_optimisation[world], preset.alignment_optimisation
    facts = {
        "world": f"{world}: {len(families_of)} families; {load_world(world).config.n_letters} letters, "
        f"{load_world(world).n_tasks} task tokens, {load_world(world).n_grammars} grammars",
        "model": f"{preset.model.architecture}, {preset.model.n_layers} layers × {preset.model.d_model}, its own block "
        "where Jain et al. replace the residual stream by its LayerNorm",
        "pretraining": f"{optimisation.steps} steps of {optimisation.batch_size}, rate {optimisation.learning_rate:g}; "
        f"requests: {families_of[preset.pretraining[world].family]}",
        "alignment": f"{alignment.steps} steps of {alignment.batch_size}; η_M "
        + ", ".join(_rate(preset, world, method) for method in preset.rates[world] if method in preset.arms)
        + f"; DPO spends {preset.dpo_warm_share:.0%} of its steps on an SSFT warm start and has its preferred "
        "answer's own likelihood beside it (dpo_plain: not). SSFT supervises all outputs of safe requests, methods of "
        "pairs the first",
        "twins": "sham safety: same objective and steps, null taught on a random half of each grammar's tasks; remap: "
        "unsafe requests tuned to another task's answer. Times their method's rate: "
        + ", ".join(
            f"{twin} {preset.scales.get(world, {}).get(twin, 1):g}" for twin in TWINS if twin in preset.arms
        ),
        "measured on": f"{preset.n_requests} held-out requests per family, other ones for means",
    }
    tables = results.tables
    rates = tables["behaviour"].groupby(["arm", "family"])[[*OUTCOMES, "margin", "instruct", "null"]].mean()
    order = {arm: i for i, arm in enumerate(ARMS)}
    sorted_rates = rates.reset_index().sort_values(
        ["arm", "family"], key=lambda c: c.map(order) if c.name == "arm" else c
    )
    shown = {
        "Behaviour, mean over seeds": sorted_rates,
        "Strength of every kept step, mean over seeds": _means(tables["zoo"], ["arm", "at"])[_STRENGTH],
        "Methods that have come equally far, mean over seeds": _means(tables["equal"], ["on", "arm"]),
        "Null share of unsafe requests beside its controls": _ladder(tables["zoo"]),
        "Twins: relative difference to their method": twins(tables["zoo"]),
        "Clusters, mean over seeds": _means(tables["clusters"], ["arm", "requests", "layer"]),
        "Rivals, mean over seeds": _means(tables["rivals"], ["arm", "layer"]),
        "Refusal directions: candidates, mean over seeds": _means(
            tables["directions"], ["arm", "layer", "kind"]
        ),
        "Refusal rank: share refused by directions ablated, mean over seeds": _means(
            tables["ranks"], ["arm", "directions"]
        ),
        "Unsafe apart from refused, mean over seeds": _means(
            tables["labels"], ["arm", "network", "position", "layer"]
        ),
        "Shifts that disturb equally, mean over seeds": _means(tables["shifts"], ["arm", "kind"]),
        **(
            {"Safety learnt in a subspace, mean over seeds": _means(tables["confined"], ["arm", "space"])}
            if "confined" in tables
            else {}
        ),
        "Heads and MLPs patched one at a time, mean over seeds": _means(tables["patches"], ["arm", "part"]),
        "Updates, mean over seeds": _means(tables["updates"], ["arm", "matrix", "layer", "against"]),
        "Reading of the update, mean over seeds": _means(tables["reading"], ["arm", "family", "layer"]),
        "Sensitivity, mean over seeds": _means(tables["sensitivity"], ["arm", "family", "output"]),
        "Anatomy of the change, mean over seeds": _means(tables["anatomy"], ["arm", "family", "layer"]),
        "Null share, mean over seeds (all outcomes)": _means(
            tables["null_share"].query("outcome == 'all'"), ["arm", "family", "rule", "quantity", "layer"]
        ),
        "How visible unsafe is to n-gram readers: greatest AUROC over orders 1 to 6": _visible(
            tables["detectability"]
        ),
        "Attacks, mean over seeds": _means(tables["attacks"], ["world", "arm", "attack"]),
        "What readers of n-grams see of jailbreaks, mean over seeds": _means(
            tables["visible"], ["world", "arm", "attack", "reader"]
        ),
        **{
            f"{title}, mean over seeds": _means(tables[name], by)
            for name, (title, by) in ATTACK_TABLES.items()
            if len(tables[name])
        },
        "Families": pd.DataFrame([{"family": k, "what": v} for k, v in families_of.items()]),
    }
    return Page(title, summary, facts, claims, figures, shown)


def _mechanism(claims: dict[str, dict[str, Any]]) -> str:
    """Silence, route, rewrite or undecided, from the verdicts."""
    named = {"silence": "M2", "a route the base had": "M3", "rewriting": "M4"}
    decided = [name for name, claim in named.items() if claims[claim]["verdict"] == "supported"]
    if claims["M4.needed"]["verdict"] == "not supported":
        decided = []
    given = claims["M3"]
    if given["estimate"] is None:
        return "How these models come to refuse was not measured."
    interval = "n/a" if given["interval"][0] is None else "{:.2f} to {:.2f}".format(*given["interval"])
    last = claims["M3.last"]["estimate"]
    told = (
        f"cut at half depth, what the aligned lower half does to unsafe requests makes the base's upper half give "
        f"{given['estimate']:.2f} ({interval}) of the refusal margin; cut before the last block, {last:.2f}; the "
        f"aligned upper half alone gives {0.5 - claims['M4.needed']['estimate']:.2f}"
    )
    answer = (
        f"by {decided[0]}" if decided else "undecided between silence, a route the base had, and rewriting"
    )
    return f"How these models come to refuse: {answer}; {told}. {_RULE}"


def _attacked(claims: dict[str, dict[str, Any]], world: str, main: str) -> str:
    """What is said of a world's attacks."""
    suffix = "" if world == main else f".{world}"
    return paragraph(
        {name.removesuffix(suffix): row for name, row in claims.items() if name.endswith(suffix)}, world
    )


def _rate(preset: Preset, world: str, method: str) -> str:
    """A method's rate and settings, and whether it passes the check of tuning."""
    settings = Alignment(OBJECTIVES[method], preset.alignment_optimisation).settings
    told = f"{method} {preset.rates[world][method]:g}" + (f" ({settings})" if settings else "")
    return told + (" (nearest: no rate passes)" if method in preset.failing.get(world, ()) else "")


def _visible(table: pd.DataFrame) -> pd.DataFrame:
    """One row per family, one column per reader."""
    best = table.groupby(["family", "reader"], sort=False).auroc.max()
    return best.unstack(sort=False).reset_index()


def _means(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    numeric = table.drop(columns=["seed"]).select_dtypes("number").columns.difference(by)
    return table.groupby(by, sort=False)[list(numeric)].mean().reset_index()


def write_report(results: Results, preset: Preset, world: str, out: Path) -> Path:
    figures = draw(results, preset, world, out / "figures")
    path = out / "report.html"
    write_page(
        page(results, preset, world, figures, f"jain2024 at {preset.name}: what safety fine-tuning does"),
        path,
    )
    return path
