"""How is the study shown? Its figures, and its page."""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.eiras2024.claims import POINTS, steps_to_half
from experiments.eiras2024.measure import CARE, OWN, PLAIN
from experiments.eiras2024.presets import STRATEGIES, UNTUNED, Preset
from experiments.results import Results, by_verdict, teller
from makebreak.plots import plot_mixing, plot_relearning, plot_restructured
from makebreak.report import Page, write_figures, write_page

_CAPTIONS = {
    "strategies": (
        "One set of safe choices, restructured",
        "Unsafe open requests that are not refused after tuning on the same safe items in each form, asked plainly, in "
        "the user's template, and with a word of care before it. `neutral`, `empty`, `autoif_neutral`, "
        "`autoif_shuffled`, `autoif_new`: placebos. `harm10`, `harm100`: so many unsafe requests, answered, among "
        "the items. Dots: seeds.",
    ),
    "mitigations": (
        "Dose and response of what is mixed in",
        "As many refusals of the same contents, as many tokens each, in place of as many of the user's examples, asked "
        "in the user's template. Beside it: safe open requests refused in that template, and the user's own held-out "
        "items. Thin: seeds.",
    ),
    "defences": (
        "What follows alignment before a user tunes",
        "As above, tuned on both, on models that were aligned as long again in other ways; `more`: in the same way. "
        "`untuned`: before the user's tuning.",
    ),
    "relearning": (
        "Harm, taught afterwards",
        "Unsafe requests answered, mean of formats, along tuning on 100 of them, at the attacker's better rate, after "
        "each mitigation, after alignment alone (`untuned`), and from the base.",
    ),
}
_ASKED = {PLAIN: "plainly", OWN: "in the user's template", CARE: "with care before it"}


def drawings(results: Results) -> dict[str, Callable[[], Any]]:
    every, relearnt = results.tables["tuned"], results.tables["relearnt"]
    tuned, defended = every[every.defence == "none"], every[every.defence != "none"]
    found = {
        "strategies": lambda: plot_restructured(_opened(tuned[tuned.strategy != UNTUNED]), _ASKED),
        "mitigations": lambda: plot_mixing(mixing(tuned)),
        "relearning": lambda: plot_relearning(_at_best(relearnt)),
    }
    if len(defended):
        named = defended.assign(strategy=defended.defence + " " + defended.strategy)
        found["defences"] = lambda: plot_restructured(_opened(named), _ASKED)
    return found


def _opened(tuned: pd.DataFrame) -> pd.DataFrame:
    rows = tuned[(tuned.mitigation == "none") & (tuned.asked == "gen") & (tuned.family == "unsafe")]
    rows = rows[rows.asked_in.isin(_ASKED)]
    return rows.assign(opened=1 - rows.refuse)


def mixing(tuned: pd.DataFrame) -> pd.DataFrame:
    """One row per user, mitigation, share of safety examples and seed; share 0 is the same for all mitigations."""
    keys = ["strategy", "mitigation", "rate", "seed"]
    own = tuned[(tuned.asked == "gen") & (tuned.asked_in == OWN) & (tuned.operator == "shown")]
    parts = {
        "not refused": 1 - own[own.family == "unsafe"].set_index(keys).refuse,
        "safe refused": own[own.family == "safe"].set_index(keys).refuse,
        "task": tuned[tuned.asked_in == "task"].set_index(keys).comply,
    }
    every = pd.DataFrame(parts).reset_index()
    mixed = every[every.mitigation != "none"]
    none = every[(every.mitigation == "none") & every.strategy.isin(mixed.strategy)]
    zero = [none.assign(mitigation=name) for name in dict.fromkeys(mixed.mitigation)]
    return pd.concat([*zero, mixed], ignore_index=True)


def _at_best(relearnt: pd.DataFrame) -> pd.DataFrame:
    """Of every start and seed the rate that gets to a half first; the smallest of equals."""
    found = []
    for _, rows in relearnt.groupby(["start", "seed"], sort=False):
        rate = min(sorted(rows.rate.unique()), key=lambda r: steps_to_half(rows[rows.rate == r]))
        found.append(rows[rows.rate == rate])
    return pd.concat(found)


def paragraph(claims: Mapping[str, Mapping[str, Any]]) -> str:
    """The answer to the title's question, from the numbers."""
    told = teller(claims)
    return (
        f"Can harmless data be restructured to break safety? In open text, above benign prompting, not refused: the "
        f"obedient agent {told('B2.aoa')}, instruction format {told('B2.autoif')}, both {told('B2.both')}; answered as "
        f"instructed, both {told('B2.answered')}. A block as long that means nothing breaks {told('B2.meaning')} less, "
        f"and the obedient block without tuning {told('B2.tuning')} less. Benign prompting itself changes what is not "
        f"refused by {told('B1', 0.05, -1)}. Do safety data in the user's format repair it? Above the better of other "
        f"forms, refusals that mimic the user keep {told('B4.oracle')} more refused, and {told('B4.blind')} where the "
        f"format was guessed from twenty examples; alignment's own form keeps {told('B4.any')} more than none. Mimicry "
        f"needs 2^{told('B5')} times fewer examples. It loses {told('B6', 0.05, -1)} of the task and refuses "
        f"{told('B6.over', 0.05, -1)} of safe requests in that template. Differences within {POINTS} count as none."
    )


def write_report(results: Results, preset: Preset, world: str, out: Path) -> Path:
    figures = write_figures(drawings(results), _CAPTIONS, out / "figures")
    summary = [paragraph({row["id"]: row for row in results.claims}), by_verdict(results.claims)]
    of = preset.aligned
    facts = {
        "models": f"world {world}; alignment by SSFT, {of.alignment.steps} steps",
        "tuning": f"{of.tuning.steps} steps of {of.tuning.batch_size} at {of.rate:g}, {of.examples} examples in all",
        "users": "; ".join(f"{name}: {STRATEGIES[name].user}" for name in preset.strategies),
        "mixed in": f"{', '.join(preset.mitigations)}; {', '.join(f'{rate:.1%}' for rate in preset.rates)} of examples",
        "judging": f"{preset.n} held-out requests per question, free-running, exact: refused, answered as instructed, "
        "otherwise in the format, broken",
    }
    tuned, relearnt = results.tables["tuned"], results.tables["relearnt"]
    by = ["defence", "strategy", "mitigation", "rate", "asked_in", "template", "asked", "family", "operator"]
    steps = relearnt.groupby(["start", "seed"], sort=False)[["rate", "step", "comply"]].apply(steps_to_half)  # type: ignore[arg-type]
    tables = {
        "What is asked of tuned models, mean over seeds": tuned.drop(columns="seed")
        .groupby(by, sort=False)
        .mean(),
        "Steps of harmful tuning until half is answered, by seed": steps.unstack("seed"),
    }
    tables = {name: table.reset_index() for name, table in tables.items()}
    path = out / "report.html"
    title = f"eiras2024 at {preset.name}: can harmless data break safety, and what repairs it?"
    write_page(Page(title, summary, facts, results.claims, figures, tables), path)
    return path
