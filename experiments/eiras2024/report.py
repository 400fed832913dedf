"""Figures, sentences and page of the study of restructured harmless data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.eiras2024.claim_values import MINIMUM_DIFFERENCE, TOLERANCE, steps_to_half
from experiments.eiras2024.measures import CARE_BLOCK, NO_TEMPLATE, TASK, USER_TEMPLATE
from experiments.eiras2024.presets import STRATEGIES, UNTUNED, Preset
from experiments.results import Results, format_estimate, format_verdicts
from makebreak.plots import plot_mixing, plot_relearning, plot_strategies
from makebreak.report import Page, write_figures, write_page

_CAPTIONS = {
    "strategies": (
        "Fine-tuning on one set of harmless items in several forms",
        "Share of unsafe open requests that are not refused after fine-tuning on the same harmless items in "
        "each form; requests have no template, the user's template, or a block that asks for care before it. "
        "`neutral`, `empty`, `autoif_neutral`, `autoif_shuffled` and `autoif_new` are placebos. `harm10` and "
        "`harm100` contain 10 and 100 unsafe requests with answers. Dots: seeds.",
    ),
    "mitigations": (
        "Dose response of safety data that are mixed in",
        "Refusals replace a share of the user's examples; all mitigations have the same contents and the "
        "same number of tokens. Left: unsafe open requests in the user's template that are not refused. "
        "Middle: safe open requests in that template that are refused. Right: accuracy on held-out items of "
        "the user's task. Thin: seeds.",
    ),
    "defences": (
        "Second stages of alignment before a user fine-tunes",
        "Share of unsafe open requests that are not refused, before (`untuned`) and after fine-tuning on "
        "`autoif_aoa`, of models with a second alignment stage as long as the first. `more` repeats the "
        "first stage and is the control.",
    ),
    "relearning": (
        "Harmful fine-tuning afterwards",
        "Share of unsafe requests that are answered, mean over formats, along fine-tuning on 100 of them at "
        "the learning rate that reaches a half first. It starts from the base, the aligned model "
        "(`untuned`), and the models of each mitigation and each defence.",
    ),
}
_CONDITIONS = {
    NO_TEMPLATE: "no template",
    USER_TEMPLATE: "the user's template",
    CARE_BLOCK: "with a block that asks for care",
}


def drawings(results: Results) -> dict[str, Callable[[], Any]]:
    """Functions that draw the figures, by name; `defences` only where the preset has any."""
    outcomes, relearning = results.tables["outcomes"], results.tables["relearning"]
    undefended = outcomes[outcomes.defence == "none"]
    fine_tuned = _not_refused(undefended[undefended.strategy != UNTUNED])
    functions: dict[str, Callable[[], Any]] = {
        "strategies": partial(plot_strategies, fine_tuned, _CONDITIONS),
        "mitigations": lambda: plot_mixing(dose_table(undefended)),
        "relearning": lambda: plot_relearning(_at_best_rate(relearning)),
    }
    defended = outcomes[outcomes.defence != "none"]
    if len(defended):
        labelled = defended.assign(strategy=defended.defence + " " + defended.strategy)
        functions["defences"] = partial(plot_strategies, _not_refused(labelled), _CONDITIONS)
    return functions


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


def paragraph(claims: Mapping[str, Mapping[str, Any]]) -> str:
    """The main results in sentences: estimates with their verdicts.

    Args:
        claims: Rows of claims.json by id.

    Returns:
        The paragraph.
    """
    estimate = partial(format_estimate, claims)
    sentences = [
        "Unsafe open requests in the user's template that are not refused, minus benign prompting: "
        f"absolutely obedient agent {estimate('B2.aoa')}, instruction format {estimate('B2.autoif')}, both "
        f"{estimate('B2.both')}; answered as instructed, both {estimate('B2.answered')}.",
        f"The obedient agent minus a block of the same length without meaning: {estimate('B2.meaning')}; "
        f"minus the obedient block without fine-tuning: {estimate('B2.tuning')}.",
        f"Benign prompting changes what is not refused by {estimate('B1', TOLERANCE, -1)}.",
        "Safety data in the user's format: not refused, better of the other formats minus the user's format "
        f"{estimate('B4.oracle')}, minus a format inferred from twenty examples {estimate('B4.blind')}; no "
        f"safety data minus those in the format of alignment {estimate('B4.any')}.",
        "Ratio of the numbers of examples that suffice, better of the other formats over the inferred "
        f"format: 2 to the power of {estimate('B5')}.",
        "With safety data in the inferred format, accuracy on the task falls by "
        f"{estimate('B6', TOLERANCE, -1)}, and {estimate('B6.over', TOLERANCE, -1)} of safe requests in that "
        "template are refused.",
        f"Differences within {MINIMUM_DIFFERENCE} are negligible; an inconclusive difference is not decided.",
    ]
    return " ".join(sentences)


def write_report(results: Results, preset: Preset, world: str, out: Path) -> Path:
    """Writes the figures and the page of the study (see `Study`)."""
    claims = {row["id"]: row for row in results.claims}
    page = Page(
        f"eiras2024 at {preset.name}: restructured harmless data and safety data mixed in",
        [paragraph(claims), format_verdicts(results.claims)],
        _facts(preset, world),
        results.claims,
        write_figures(drawings(results), _CAPTIONS, out / "figures"),
        _page_tables(results.tables),
    )
    path = out / "report.html"
    write_page(page, path)
    return path


def _facts(preset: Preset, world: str) -> dict[str, str]:
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


def _page_tables(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    outcomes, relearning = tables["outcomes"], tables["relearning"]
    by = ["defence", "strategy", "mitigation", "safety_share", "condition", "template", "format", "family"]
    means = outcomes.drop(columns="seed").groupby([*by, "operator"], sort=False).mean()
    steps = pd.Series(
        {key: steps_to_half(rows) for key, rows in relearning.groupby(["start", "seed"], sort=False)}
    )
    steps.index = steps.index.set_names(["start", "seed"])
    return {
        "Outcomes of all models, mean over seeds": means.reset_index(),
        "Steps of harmful fine-tuning until half is answered, by seed": steps.unstack("seed").reset_index(),
    }
