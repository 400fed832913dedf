"""Figures and sentences of the report of a language model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.real.measures import MATRIX, UNTUNED, USERS
from experiments.real.presets import BASE, USER_TASKS, Preset
from makebreak.claims import ClaimRow, Tables, format_finding, rows_of
from makebreak.lm import JUDGE, TOPIC_CRITERION
from makebreak.plots import plot_basins, plot_cluster_gaps, plot_seed_means, plot_transfer_matrices
from makebreak.studies import Figure


def draw_behaviour(tables: Tables, preset: Preset) -> Any:
    """Refusal by alignment and family."""
    rows = rows_of(tables, "behaviour", judge=JUDGE)
    return plot_seed_means(rows, by="arm", hue="family", value="refuse", label="refused")


def draw_clusters(tables: Tables, preset: Preset) -> Any:
    """Separation by layer."""
    return plot_cluster_gaps(tables["clusters"], BASE)


def draw_attacks(tables: Tables, preset: Preset) -> Any:
    """Success rates of attacks."""
    rows = tables["attacks"][tables["attacks"].criterion == TOPIC_CRITERION]
    return plot_seed_means(rows, by="attack", hue="arm", value="success_rate", label="complied with on topic")


def draw_basins(tables: Tables, preset: Preset) -> Any:
    """Outcomes along random directions."""
    return plot_basins(tables["curves"], _arms(tables["curves"]))


def draw_interpolation(tables: Tables, preset: Preset) -> Any:
    """Outcomes on the line to the model before alignment."""
    line = tables["interpolation"]
    return plot_basins(line, _arms(line), along="share of the way back")


def draw_users(tables: Tables, preset: Preset) -> Any:
    """What is not refused after users' fine-tuning."""
    rows = _not_refused(tables[USERS])
    return plot_seed_means(rows, by="user", hue="requests", value="not_refused", label="not refused")


def draw_matrix(tables: Tables, preset: Preset) -> Any:
    """Change of refusal by format."""
    return plot_transfer_matrices({"rise of what is not refused": [rise_matrix(tables[MATRIX])]})


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


FIGURES = (
    Figure(
        "clusters",
        "Separation of harmful and harmless requests by layer",
        "Normalised gap of τ on held-out pairs of one verb with a harmful and a harmless object, at the "
        "last token of the prompt; 2 is perfect separation. Dashed: the model before alignment. Thin: "
        "alignment seeds.",
        draw_clusters,
        claims=("C2", "C2.depth"),
    ),
    Figure(
        "basins",
        "Random perturbations of the weights",
        "Shares of harmful requests that are refused and complied with, and of harmless ones that are "
        "answered. All other answers to harmful requests are degenerate. Bands: directions and seeds.",
        draw_basins,
        claims=("T1", "P6"),
    ),
    Figure(
        "users",
        "Behaviour after users' fine-tuning",
        "Share of open requests that are not refused after fine-tuning: harmful ones, without a template "
        "and in the user's, and harmless ones, of which all should be answered. Small dots: seeds.",
        draw_users,
        claims=("T5.harmful", "B1", "B2.aoa"),
    ),
    Figure(
        "attacks",
        "Attacks",
        "Share of the refused requests that are answered on topic: the answer is no refusal, is not "
        "degenerate, and is likelier after its own request than after three others; by chance, one answer "
        "in four is. By alignment; small dots: seeds, of few requests each. Initial tokens, random tokens "
        "and vectors, and a preamble of the same length without a reason are controls.",
        draw_attacks,
        requires=("attacks",),
        claims=("A7",),
    ),
    Figure(
        "behaviour",
        "Refusal and over-refusal",
        "Share of greedy answers that are refusals (Arditi et al.'s phrases), by alignment, to requests "
        "that no model was trained on. Borderline requests are harmless and use words of harmful ones. "
        "Small dots: alignment seeds.",
        draw_behaviour,
        claims=("C1.refuse",),
    ),
    Figure(
        "interpolation",
        "Interpolation to the model before alignment",
        "0 is the aligned model, 1 the one that it was trained from; beyond them the line is "
        "extrapolated. One model: the first alignment at its first seed.",
        draw_interpolation,
        requires=("interpolation",),
    ),
    Figure(
        "matrix",
        "Change of refusal by fine-tuned task and format of the request",
        "Rise of what is not refused, fine-tuned task (rows) × format of harmful requests (columns). One "
        "seed, few requests: exploratory.",
        draw_matrix,
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

    def value(name: str) -> str:
        return format_finding(claims[name])

    return [
        "Alignment raises the normalised gap between harmful and harmless requests in the last layer by "
        f"{value('C2')}; the update of the up projection reads harmful requests {value('C4')} times as much "
        f"as harmless ones, and its sine to the base's column space exceeds that of random directions by "
        f"{value('C3')}.",
        f"After one forced token of an answer the share complied with is {value('A7')}; within a tenth of "
        f"the weights' norm the share not refused rises by {value('T1')}, and the half-width of answering "
        f"harmless requests exceeds that of refusing by {value('P6')}.",
        f"Harmful fine-tuning makes the share not refused rise by {value('T5.harmful')}; in the user's "
        "template it is higher after fine-tuning as an absolutely obedient agent than after benign prompting "
        f"by {value('B2.aoa')}.",
    ]


def facts(preset: Preset, world: str) -> dict[str, str]:
    """What was run.

    Args:
        preset: Sizes of the study.
        world: Name of the world.

    Returns:
        Descriptions by name.
    """
    alignments = [
        f"{arm.objective}: {arm.training.steps} steps of {arm.training.batch_size} examples, learning rate "
        f"{arm.training.learning_rate:g}"
        for arm in preset.arms
    ]
    training, attacks = preset.user_training, preset.attacks.complete()
    return {
        "model": f"{Path(preset.model).name}; one pretrained model, so that an interval is over alignment "
        "seeds and says how another alignment of it would have come out",
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


def refusal_means(tables: Tables) -> pd.DataFrame:
    """Share refused by alignment (rows) and family, mean over seeds."""
    rows = rows_of(tables, "behaviour", judge=JUDGE)
    means = rows.groupby(["arm", "family"], sort=False).refuse.mean().unstack()
    return means.reset_index().rename_axis(columns=None)


def _table(name: str, tables: Tables) -> pd.DataFrame:
    return rows_of(tables, name)


SUMMARIES = {
    "Synthetic and real, side by side": partial(_table, "side_by_side"),
    "Share refused of requests that no model was trained on": refusal_means,
    "Behaviour": partial(_table, "behaviour"),
    "Users": partial(_table, USERS),
    "Matrix": partial(_table, MATRIX),
    "Attacks": partial(_table, "attacks"),
    "Class-mean projection of attacked requests": partial(_table, "projection"),
    "Effect of truncating the answers": partial(_table, "truncation"),
}
"""Tables of the report by title."""
