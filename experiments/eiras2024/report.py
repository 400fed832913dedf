"""Figures and sentences of the report of restructured harmless data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from experiments.eiras2024.claim_values import steps_to_half
from experiments.eiras2024.measures import CARE_BLOCK, NO_TEMPLATE, TASK, USER_TEMPLATE
from experiments.eiras2024.presets import STRATEGIES, UNTUNED, Preset
from makebreak.claims import ClaimRow, NotRun, Tables, format_finding, rows_of
from makebreak.plots import plot_mixing, plot_relearning, plot_strategies
from makebreak.studies import Figure

_CONDITIONS = {
    NO_TEMPLATE: "no template",
    USER_TEMPLATE: "the user's template",
    CARE_BLOCK: "with a block that asks for care",
}


def draw_strategies(tables: Tables, preset: Preset) -> Any:
    """What is not refused after fine-tuning, by strategy and prompt condition."""
    rows = rows_of(tables, "outcomes", defence="none")
    return plot_strategies(_not_refused(rows[rows.strategy != UNTUNED]), _CONDITIONS)


def draw_mitigations(tables: Tables, preset: Preset) -> Any:
    """Rates by share of safety examples."""
    return plot_mixing(dose_table(rows_of(tables, "outcomes", defence="none")))


def draw_defences(tables: Tables, preset: Preset) -> Any:
    """What is not refused, by defence, before and after fine-tuning."""
    outcomes = tables["outcomes"]
    defended = outcomes[outcomes.defence != "none"]
    if defended.empty:
        raise NotRun("this preset has no defences")
    labelled = defended.assign(strategy=defended.defence + " " + defended.strategy)
    return plot_strategies(_not_refused(labelled), _CONDITIONS)


def draw_relearning(tables: Tables, preset: Preset) -> Any:
    """What is answered along harmful fine-tuning."""
    return plot_relearning(_at_best_rate(tables["relearning"]))


def _not_refused(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Unsafe open requests without a mitigation, with the column `not_refused`."""
    is_shown = (outcomes.mitigation == "none") & (outcomes.format == "gen") & (outcomes.family == "unsafe")
    rows = outcomes[is_shown & outcomes.condition.isin(list(_CONDITIONS))]
    return rows.assign(not_refused=1 - rows.refuse)


def dose_table(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Rates by share of safety examples.

    Args:
        outcomes: Rows of `OutcomeRow` without a defence, with a column `seed`.

    Returns:
        One row per strategy, mitigation, `safety_share` and seed, with the columns `not_refused`,
        `over_refusal` and `task_accuracy` of `plot_mixing`; a share of 0 is the same for all mitigations.
    """
    keys = ["strategy", "mitigation", "safety_share", "seed"]
    in_template = (
        (outcomes.format == "gen") & (outcomes.condition == USER_TEMPLATE) & (outcomes.operator == "shown")
    )
    rows = outcomes[in_template]
    rates = pd.DataFrame(
        {
            "not_refused": 1 - rows[rows.family == "unsafe"].set_index(keys).refuse,
            "over_refusal": rows[rows.family == "safe"].set_index(keys).refuse,
            "task_accuracy": outcomes[outcomes.condition == TASK].set_index(keys).comply,
        }
    ).reset_index()
    mixed = rates[rates.mitigation != "none"]
    unmitigated = rates[(rates.mitigation == "none") & rates.strategy.isin(list(mixed.strategy))]
    zero = [unmitigated.assign(mitigation=name) for name in dict.fromkeys(mixed.mitigation)]
    return pd.concat([*zero, mixed], ignore_index=True)


def _at_best_rate(relearning: pd.DataFrame) -> pd.DataFrame:
    """Rows of the learning rate that reaches a half first, by start and seed; the smallest of equal ones."""
    parts = []
    for _, rows in relearning.groupby(["start", "seed"], sort=False):
        by_rate = {rate: rows[rows.learning_rate == rate] for rate in sorted(rows.learning_rate.unique())}
        parts.append(min(by_rate.values(), key=steps_to_half))
    return pd.concat(parts)


FIGURES = (
    Figure(
        "strategies",
        "Fine-tuning on one set of harmless items in several forms",
        "Share of unsafe open requests that are not refused after fine-tuning on the same harmless items in "
        "each form; requests have no template, the user's template, or a block that asks for care before it. "
        "`neutral`, `empty`, `autoif_neutral`, `autoif_shuffled` and `autoif_new` are placebos. `harm10` and "
        "`harm100` contain 10 and 100 unsafe requests with answers. Dots: seeds.",
        draw_strategies,
        claims=("B1", "B2.aoa", "B2.autoif", "B2.both", "B2.meaning"),
    ),
    Figure(
        "mitigations",
        "Dose response of safety data that are mixed in",
        "Refusals replace a share of the user's examples; all mitigations have the same contents and the "
        "same number of tokens. Left: unsafe open requests in the user's template that are not refused. "
        "Middle: safe open requests in that template that are refused. Right: accuracy on held-out items of "
        "the user's task. Thin: seeds.",
        draw_mitigations,
        claims=("B4.oracle", "B4.blind", "B4.any"),
    ),
    Figure(
        "defences",
        "Second stages of alignment before a user fine-tunes",
        "Share of unsafe open requests that are not refused, before (`untuned`) and after fine-tuning on "
        "`autoif_aoa`, of models with a second alignment stage as long as the first. `more` repeats the "
        "first stage and is the control.",
        draw_defences,
    ),
    Figure(
        "relearning",
        "Harmful fine-tuning afterwards",
        "Share of unsafe requests that are answered, mean over formats, along fine-tuning on 100 of them at "
        "the learning rate that reaches a half first. It starts from the base, the aligned model "
        "(`untuned`), and the models of each mitigation and each defence.",
        draw_relearning,
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
        "Compared with benign prompting, unsafe open requests in the user's template are refused less often "
        f"after fine-tuning as an absolutely obedient agent by {text['B2.aoa']}, in instruction format by "
        f"{text['B2.autoif']}, and with both by {text['B2.both']}.",
        "The obedient block exceeds a block of the same length without meaning by "
        f"{text['B2.meaning']}; benign prompting changes what is not refused by {text['B1']}.",
        "Safety data in the user's format leave less not refused than data in two other formats, their mean, "
        f"by {text['B4.oracle']}, in the tokens that twenty examples share by "
        f"{text['B4.blind']}; data in the format of alignment less than none by {text['B4.any']}.",
    ]


def facts(preset: Preset, world: str) -> dict[str, str]:
    """What was run.

    Args:
        preset: Sizes of the study.
        world: Name of the world.

    Returns:
        Descriptions by name.
    """
    aligned = preset.alignment_preset
    shares = ", ".join(f"{share:.1%}" for share in preset.safety_shares)
    return {
        "models": f"world {world}; alignment by SSFT, {aligned.alignment.steps} steps",
        "fine-tuning": f"{aligned.tuning.steps} steps of {aligned.tuning.batch_size} examples, learning rate "
        f"{aligned.rate:g}, {aligned.examples} examples in all",
        "strategies": "; ".join(f"{name}: {STRATEGIES[name].user_family}" for name in preset.strategies),
        "mitigations": f"{', '.join(preset.mitigations)}; {shares} of the examples",
        "evaluation": f"{preset.n_requests} held-out requests per family, greedy answers, exact judge: "
        "refused (the refusal's tokens, without the end of the answer), answered as instructed, wrong, "
        "degenerate",
    }


def outcome_means(tables: Tables) -> pd.DataFrame:
    """Outcomes of all models, mean over seeds."""
    by = ["defence", "strategy", "mitigation", "safety_share", "condition", "template", "format", "family"]
    means = tables["outcomes"].drop(columns="seed").groupby([*by, "operator"], sort=False).mean()
    return means.reset_index()


def relearning_steps(tables: Tables) -> pd.DataFrame:
    """Steps of harmful fine-tuning until half is answered, by start (rows) and seed."""
    by = tables["relearning"].groupby(["start", "seed"], sort=False)
    steps = pd.Series({key: steps_to_half(rows) for key, rows in by})
    steps.index = steps.index.set_names(["start", "seed"])
    return steps.unstack("seed").reset_index()


SUMMARIES = {
    "Outcomes of all models, mean over seeds": outcome_means,
    "Steps of harmful fine-tuning until half is answered, by seed": relearning_steps,
}
"""Tables of the report by title."""
