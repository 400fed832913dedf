"""Figures, sentences and page of the study of a language model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.real.measures import MATRIX, UNTUNED, USERS
from experiments.real.presets import BASE, USER_TASKS, Preset
from experiments.real.side_by_side import OPPOSITE, SAME, SideBySideRow, side_by_side_rows
from experiments.results import Results, format_verdicts
from makebreak.lm import JUDGE, TOPIC_CRITERION
from makebreak.plots import plot_basins, plot_cluster_gaps, plot_seed_means, plot_transfer_matrices
from makebreak.report import Page, write_figures, write_page, write_tables

_CAPTIONS = {
    "behaviour": (
        "Refusal and over-refusal",
        "Share of greedy answers that are refusals (Arditi et al.'s phrases), by alignment, to requests that "
        "no model was trained on. Borderline requests are harmless and use words of harmful ones. Small "
        "dots: alignment seeds.",
    ),
    "clusters": (
        "Separation of harmful and harmless requests by layer",
        "Normalised gap of τ on held-out pairs of one verb with a harmful and a harmless object, at the last "
        "token of the prompt; 2 is perfect separation. Dashed: the model before alignment. Thin: alignment "
        "seeds.",
    ),
    "attacks": (
        "Attacks",
        "Share of the refused requests that are answered on topic: the answer is no refusal, is not "
        "degenerate, and is likelier after its own request than after three others; by chance, one answer in "
        "four is. By alignment; small dots: seeds, of few requests each. Initial tokens, random tokens and "
        "vectors, and a preamble of the same length without a reason are controls.",
    ),
    "basins": (
        "Random perturbations of the weights",
        "Shares of harmful requests that are refused and complied with, and of harmless ones that are "
        "answered. All other answers to harmful requests are degenerate. Bands: directions and seeds.",
    ),
    "interpolation": (
        "Interpolation to the model before alignment",
        "0 is the aligned model, 1 the one that it was trained from; beyond them the line is extrapolated. "
        "One model: the first alignment at its first seed.",
    ),
    "users": (
        "Behaviour after users' fine-tuning",
        "Share of open requests that are not refused after fine-tuning: harmful ones, without a template and "
        "in the user's, and harmless ones, of which all should be answered. Small dots: seeds.",
    ),
    "matrix": (
        "Change of refusal by fine-tuned task and format of the request",
        "Rise of what is not refused, fine-tuned task (rows) × format of harmful requests (columns). One "
        "seed, few requests: exploratory.",
    ),
}
_PAGE_TABLES = {
    "Behaviour": "behaviour",
    "Users": USERS,
    "Matrix": MATRIX,
    "Attacks": "attacks",
    "Class-mean projection of attacked requests": "projection",
    "Effect of truncating the answers": "truncation",
}


def paragraphs(
    claims: Sequence[Mapping[str, Any]], rows: Sequence[SideBySideRow], tables: Mapping[str, pd.DataFrame]
) -> list[str]:
    """The main results in sentences.

    Args:
        claims: Rows of claims.json.
        rows: The claims in both studies.
        tables: Tables of the study; `behaviour` is read.

    Returns:
        Paragraphs: comparison of verdicts, refusal rates, what intervals are over, and all verdicts.
    """
    same = [row.id for row in rows if row.comparison == SAME]
    opposite = [row.id for row in rows if row.comparison == OPPOSITE]
    undecided = [row.id for row in rows if row.comparison not in (SAME, OPPOSITE)]
    return [
        f"Of {len(rows)} claims, {len(same)} have the same verdict in the synthetic world and on this model "
        f"({_listed(same)}), {len(opposite)} have opposite verdicts ({_listed(opposite)}), and "
        f"{len(undecided)} are not decided in one of the two ({_listed(undecided)}). The same verdict need "
        "not be the same finding: 'not supported' covers effects that are reversed, negligible, or weaker "
        "than a threshold of ours (docs/errata.md, audit-M2 and audit-M8), and C6 is close to a definition "
        "(audit-M11).",
        f"Share refused of requests that no model was trained on: {_refusal_rates(tables['behaviour'])}.",
        "There is one pretrained model: an interval is over alignment seeds, and says how another alignment "
        "of it would have come out. What replaces the exact measure of the synthetic world is named with "
        "each claim.",
        format_verdicts(claims),
    ]


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(ids) or "none"


def _refusal_rates(behaviour: pd.DataFrame) -> str:
    judged = behaviour[behaviour.judge == JUDGE]
    rates = judged.groupby(["arm", "family"], sort=False).refuse.mean()
    arms = [BASE, *(arm for arm in dict.fromkeys(judged.arm) if arm != BASE)]
    parts = [
        f"{arm} {rates[arm, 'harmful']:.2f} of harmful, {rates[arm, 'harmless']:.2f} of harmless and "
        f"{rates[arm, 'borderline']:.2f} of borderline ones"
        for arm in arms
    ]
    return "; ".join(parts)


def drawings(results: Results) -> dict[str, Callable[[], Any]]:
    """Functions that draw the figures, by name; `attacks` only if enough was refused to attack it."""
    tables = results.tables
    behaviour = tables["behaviour"][tables["behaviour"].judge == JUDGE]
    functions: dict[str, Callable[[], Any]] = {
        "behaviour": partial(
            plot_seed_means, behaviour, by="arm", hue="family", value="refuse", label="refused"
        ),
        "clusters": partial(plot_cluster_gaps, tables["clusters"], BASE),
        "basins": partial(plot_basins, tables["curves"], _arms(tables["curves"])),
        "users": lambda: plot_seed_means(
            _not_refused(tables[USERS]), by="user", hue="requests", value="not_refused", label="not refused"
        ),
        "matrix": lambda: plot_transfer_matrices(
            {"rise of what is not refused": [rise_matrix(tables[MATRIX])]}
        ),
    }
    if "interpolation" in tables:
        line = tables["interpolation"]
        along = "share of the way back"
        functions["interpolation"] = partial(plot_basins, line, _arms(line), along=along)
    if "attacks" in tables:
        attacks = tables["attacks"][tables["attacks"].criterion == TOPIC_CRITERION]
        functions["attacks"] = partial(
            plot_seed_means,
            attacks,
            by="attack",
            hue="arm",
            value="success_rate",
            label="complied with on topic",
        )
    return functions


def _arms(table: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(table.arm))


def _not_refused(users: pd.DataFrame) -> pd.DataFrame:
    """Open requests without a template and in the user's, with the columns `not_refused` and `requests`."""
    rows = users[(users.judge == JUDGE) & users.family.isin(["harmful", "harmless"])]
    templates = {strategy: template for strategy, (_, template) in USER_TASKS.items()}
    user_template = rows.strategy.map(templates).fillna("plain")
    rows = rows[(rows.template == "plain") | (rows.template == user_template)]
    where = rows.template.map(lambda name: "no template" if name == "plain" else "the user's template")
    return rows.assign(not_refused=1 - rows.refuse, requests=rows.family + ", " + where)


def rise_matrix(matrix: pd.DataFrame) -> pd.DataFrame:
    """Rise of what is not refused after fine-tuning.

    Args:
        matrix: Rows of `MatrixRow`.

    Returns:
        Fine-tuned formats in rows, formats of the requests in columns, in the same order.
    """
    judged = matrix[matrix.judge == JUDGE]
    refused = judged.groupby(["tuned_format", "format"], sort=False).refuse.mean().unstack()
    formats = [name for name in dict.fromkeys(judged.tuned_format) if name != UNTUNED]
    return (refused.loc[UNTUNED] - refused.loc[formats])[formats]


def write_report(results: Results, preset: Preset, world: str, out: Path) -> Path:
    """Writes the figures, the table of both studies and the page (see `Study`)."""
    rows = side_by_side_rows(results.claims, out.parent.parent)
    table = pd.DataFrame(rows, columns=list(SideBySideRow._fields))
    write_tables({"side_by_side": table}, out / "tables")
    page = Page(
        f"real at {preset.name}: {Path(preset.model).stem} beside the synthetic worlds",
        paragraphs(results.claims, rows, results.tables),
        _facts(preset),
        results.claims,
        write_figures(drawings(results), _CAPTIONS, out / "figures"),
        {title: results.tables[name] for title, name in _PAGE_TABLES.items() if name in results.tables},
        expanded={"Synthetic and real, side by side": table},
        unit="alignment seeds",
    )
    path = out / "report.html"
    write_page(page, path)
    return path


def _facts(preset: Preset) -> dict[str, str]:
    alignments = [
        f"{arm.objective}: {arm.training.steps} steps of {arm.training.batch_size} examples, learning rate "
        f"{arm.training.learning_rate:g}"
        for arm in preset.arms
    ]
    training, attacks = preset.user_training, preset.attacks
    return {
        "model": Path(preset.model).name,
        "alignments": "; ".join(alignments),
        "users": f"fine-tuning of the first alignment, {training.steps} steps of {training.batch_size} "
        f"examples, learning rate {training.learning_rate:g}, {preset.n_examples} examples in all: "
        f"{'; '.join(user.name for user in preset.users)}",
        "requests": f"per family: {preset.n_behaviour} for behaviour, {preset.n_compared} for the comparison "
        f"with the base, {preset.n_attacked} for attacks, {preset.n_landscape} for the landscape (answers of "
        f"{preset.landscape_tokens} tokens), {preset.n_matrix} for the matrix",
        "attacks": f"{attacks.attack_tokens} tokens, {attacks.steps} steps of {attacks.candidates} "
        f"candidates; soft prompts of {attacks.soft_tokens} vectors",
    }
