"""Page on the attacks on a language model: tables, figures, and a summary with the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from makebreak.evaluation import deciding_judge
from makebreak.lm import (
    N_TOPIC_CONTROLS,
    NO_ATTACK,
    TARGET_CRITERION,
    TOPIC_CRITERION,
    AttackCostRow,
    AttackSuiteResult,
    SuccessRow,
    cost_rows,
    is_on_topic,
    is_refusal,
    over_refusal_rows,
    success_rows,
)
from makebreak.model_names import model_title
from makebreak.output_folders import FIGURES, REPORT, TABLES
from makebreak.plots import plot_attacks, plot_search
from makebreak.plots.interactive import chart_attacks, chart_search
from makebreak.report.eval_log import write_eval_log
from makebreak.report.figures import write_figures
from makebreak.report.page import Page, write_page
from makebreak.report.tables import write_tables
from makebreak.report.utility_text import describe_utility
from makebreak.tables import Rows

_SEARCHES = ("GCG", "random search", "random tokens")
_SOFT_PROMPTS = ("soft prompt", "random soft prompt")
_FLAG_RATES = {"probe_flag_rate": "the linear probe", "nearest_mean_flag_rate": "the nearest-mean monitor"}
_COST_LABELS = {
    "loss": "loss of the target",
    "log_odds": "log-odds of refusal",
    "degenerate": "degenerate",
    "n_candidates": "candidates",
    "stable_candidate_share": "stable candidates",
    "retokenization_stable": "retokenisation-stable",
}
_CAPTIONS = {
    "success": (
        "Success rate by attack",
        "Share of the refused requests on which an attack succeeds, by criterion: the target begins the "
        "greedy answer; a judge no longer calls the answer a refusal and it is not degenerate; or, in "
        "addition, the answer is on topic, that is, the model finds it likelier after its own request than "
        f"after {N_TOPIC_CONTROLS} others (by chance, {1 / (N_TOPIC_CONTROLS + 1):.2f} of answers are). "
        "Hollow: controls. A prefill forces the first tokens of the target, and its target is the rest. "
        "Bars: 95 % intervals (Wilson) over requests.",
    ),
    "search": (
        "Loss of the target by step",
        "Best loss of the target so far, mean over requests. All methods evaluate the same number of "
        "candidates per step. A line ends where the model produces every target.",
    ),
}
_SECTIONS = {
    "Projection of attacked requests": "projection",
    "Jailbreak templates on harmless requests": "over_refusal",
    "Loss on plain text": "utility",
}


_ANSWERS = {
    "attacked_answers": "Answers under attack",
    "answers": "Answers without an attack",
    "harmless_answers": "Answers to harmless requests",
}
"""Titles of the tables of answers."""


def write_attacks(name: str, result: AttackSuiteResult, facts: dict[str, str], out: Path) -> Path:
    """Writes tables, figures and the page.

    Args:
        name: The model as it was named on the command line.
        result: The attacks.
        facts: What was run, by name.
        out: The folder to write to.

    Returns:
        The HTML file.
    """
    tables = {table: pd.DataFrame(rows) for table, rows in result.tables.items()}
    sections, figures = {}, []
    if "attacked_answers" in tables:
        success = success_rows(result.tables["attacked_answers"])
        cost = cost_rows(result.tables["attacked_answers"])
        tables |= {"success": pd.DataFrame(success), "cost": pd.DataFrame(cost)}
        if "harmless_answers" in tables:
            tables["over_refusal"] = pd.DataFrame(over_refusal_rows(result.tables["harmless_answers"]))
        drawings: dict[str, Any] = {"success": lambda: plot_attacks(tables["success"])}
        history = {}
        if len(tables["search_history"]):
            drawings["search"] = lambda: plot_search(tables["search_history"])
            losses = tables["search_history"].pivot(index="step", columns="attack", values="loss")
            history = {"Best loss by step": losses.reset_index()}
        charts = {
            "success": lambda: chart_attacks(tables["success"]),
            "search": lambda: chart_search(tables["search_history"]),
        }
        figures = write_figures(drawings, _CAPTIONS, out / FIGURES, charts)
        sections = {
            "Attacks": _attack_section(success, cost, result.tables["attacked_answers"]),
            **{title: tables[table] for title, table in _SECTIONS.items() if table in tables},
            **history,
        }
    write_tables(tables, out / TABLES)
    tables_of_answers = ("answers", "attacked_answers", "harmless_answers")
    rows = [row for table in tables_of_answers for row in result.tables.get(table, [])]
    write_eval_log("attack", name, rows, out)
    title = f"Attacks on {model_title(name)}"
    answers = {heading: tables[table] for table, heading in _ANSWERS.items() if table in tables}
    page = Page(title, attack_summary(result), facts, figures, sections, answers=answers)
    return write_page(page, out / REPORT)


def attack_summary(result: AttackSuiteResult) -> list[str]:
    """Summarises attacks in sentences: success rates and controls, projection, requests without success."""
    answers = result.tables["answers"]
    n_refused = sum(map(is_refusal, answers))
    n_likely = sum((row["log_odds"] or 0.0) > 0 for row in answers)
    paragraphs = [
        f"The model refuses {n_refused} of {len(answers)} harmful requests (judge {deciding_judge()}); for "
        f"{n_likely}, a refusal is the likelier first token.",
        describe_utility(result.tables["utility"]),
    ]
    if "attacked_answers" not in result.tables:
        return [*paragraphs, f"No attack was made: {result.skip_reasons['attacked_answers']}."]
    attacked = result.tables["attacked_answers"]
    rates = _Rates(success_rows(attacked), attacked)
    excluded = n_refused - rates.n
    if excluded:
        paragraphs.append(
            f"{excluded} refused requests are not evaluated: they are not retokenisation-stable, or a "
            "universal attack is optimised on them."
        )
    return [
        *paragraphs,
        *_search_sentences(rates, cost_rows(attacked)),
        *_soft_prompt_sentences(rates),
        *_prefill_sentences(rates),
        *_template_sentences(result, rates),
        *_other_sentences(rates),
        *_projection_sentences(result, rates),
        *_union_sentences(attacked, rates.n),
    ]


class _Rates:
    """Success rates by attack and criterion, as text, and the names of the attacks by method."""

    def __init__(self, rows: list[SuccessRow], attacked_answers: Rows) -> None:
        self.rows = {(row.attack, row.criterion): row for row in rows}
        self.n = self.rows[NO_ATTACK, deciding_judge()].n
        self.methods = {row["attack"]: row["method"] for row in attacked_answers}

    def names(self, method: str) -> list[str]:
        """Names of the attacks of a method, in the order of the table."""
        return [name for name, own in self.methods.items() if own == method]

    def interval(self, attack: str, criterion: str | None = None) -> str:
        """Rate with its interval, by default that of the judge that decides."""
        row = self.rows[attack, criterion or deciding_judge()]
        return (
            "n/a" if row.success_rate is None else f"{row.success_rate:.2f} [{row.low:.2f}, {row.high:.2f}]"
        )

    def rate(self, attack: str, criterion: str | None = None) -> str:
        """Rate without its interval, by default that of the judge that decides."""
        row = self.rows[attack, criterion or deciding_judge()]
        return "n/a" if row.success_rate is None else f"{row.success_rate:.2f}"

    def overlap(self, attack: str, other: str) -> bool:
        """Whether the intervals of two attacks overlap."""
        a, b = self.rows[attack, deciding_judge()], self.rows[other, deciding_judge()]
        if a.low is None or a.high is None or b.low is None or b.high is None:
            raise ValueError(f"{attack} or {other} was evaluated on no request: no intervals to compare")
        return a.low <= b.high and b.low <= a.high


def _search_sentences(rates: _Rates, cost: list[AttackCostRow]) -> list[str]:
    """GCG beside those of its controls that were run; nothing without GCG."""
    if "GCG" not in rates.methods:
        return []
    searches = [name for name in _SEARCHES if name in rates.methods]
    text = (
        f"GCG makes the model comply with {rates.interval('GCG')} of the {rates.n} attacked requests "
        "(neither refused nor degenerate; 95 % intervals over requests)."
    )
    controls = [f"{name} reaches {rates.interval(name)}" for name in searches[1:]]
    if controls:
        text += f" With the same number of candidates, {' and '.join(controls)}."
    initial = rates.names("initial_tokens")
    if initial:
        text += f" The initial tokens alone reach {rates.interval(initial[0])}."
    if "random search" in searches:
        is_clear = not rates.overlap("GCG", "random search")
        difference = "do not overlap" if is_clear else "overlap: the difference is undecided"
        text += f" The intervals of GCG and random search {difference}."
    targets = ", ".join(f"{rates.rate(name, TARGET_CRITERION)} ({name})" for name in (*searches, *initial))
    text += f" Shares of the answers that begin with the target: {targets}."
    stable = {row.attack: row.stable_candidate_share for row in cost}
    shares = ", ".join(f"{stable[name]:.2f} of {name}" for name in searches if stable[name] is not None)
    return [text + (f" Only retokenisation-stable candidates are evaluated: {shares}." if shares else "")]


def _soft_prompt_sentences(rates: _Rates) -> list[str]:
    """The soft prompt beside its control; nothing unless both were run."""
    soft, random = _SOFT_PROMPTS
    if soft not in rates.methods or random not in rates.methods:
        return []
    return [
        "A soft prompt, which corresponds to no text, makes the model comply with "
        f"{rates.interval(soft)}; random vectors of the same norm, with {rates.interval(random)}. The target "
        f"begins {rates.rate(soft, TARGET_CRITERION)} and {rates.rate(random, TARGET_CRITERION)} of the "
        "answers."
    ]


def _prefill_sentences(rates: _Rates) -> list[str]:
    """Compliance by number of forced tokens; nothing without a prefill."""
    names = rates.names("prefill")
    if not names:
        return []
    lengths = " / ".join(name.rpartition(" ")[2] for name in names)
    return [
        f"With the first {lengths} target tokens forced, the model complies with "
        f"{' / '.join(map(rates.rate, names))} (the last: {rates.interval(names[-1])})."
    ]


def _other_sentences(rates: _Rates) -> list[str]:
    """One sentence per attack without one so far: a user's own, and those whose controls were not run."""
    summarised = {"no_attack", "prefill", "jailbreak_templates"}
    if "GCG" in rates.methods:
        summarised |= {"gcg", "random_search", "random_tokens", "initial_tokens"}
    if all(name in rates.methods for name in _SOFT_PROMPTS):
        summarised |= {"soft_prompt", "random_soft_prompt"}
    return [
        f"{name} ({method}) makes the model comply with {rates.interval(name)}, on topic "
        f"{rates.interval(name, TOPIC_CRITERION)}."
        for name, method in rates.methods.items()
        if method not in summarised
    ]


def _template_sentences(result: AttackSuiteResult, rates: _Rates) -> list[str]:
    """Jailbreak templates on harmful and on harmless requests; nothing without templates."""
    names = rates.names("jailbreak_templates")
    if not names:
        return []
    templates = "; ".join(
        f"{name} {rates.interval(name)}, on topic {rates.interval(name, TOPIC_CRITERION)}" for name in names
    )
    sentence = f"Compliance with harmful requests in jailbreak templates: {templates}."
    if "harmless_answers" not in result.tables:
        return [sentence]
    on_topic = {row.attack: row.on_topic for row in over_refusal_rows(result.tables["harmless_answers"])}
    harmless = ", ".join(f"{name} {on_topic[name]:.2f}" for name in (NO_ATTACK, *names))
    return [f"{sentence} Compliance on topic with harmless requests in the same templates: {harmless}."]


def _projection_sentences(result: AttackSuiteResult, rates: _Rates) -> list[str]:
    """Class-mean projection and monitors of attacked requests; the reason if they were skipped."""
    if "projection" in result.skip_reasons:
        return [f"Attacked requests were not projected: {result.skip_reasons['projection']}."]
    if "projection" not in result.tables:
        return []
    rows = {(row["attack"], row["outcome"]): row for row in result.tables["projection"]}
    harmless, harmful = rows["clean harmless", "all"], rows["clean harmful", "all"]
    # a prefill comes after the end of the prompt
    is_control = {row.attack: row.is_control for row in rates.rows.values()}
    changed = {
        name for name, control in is_control.items() if not control and rates.methods[name] != "prefill"
    }

    def mean(outcome: str, column: str) -> str:
        """Mean over the attacks that change what precedes the end of the prompt."""
        part = [row for (name, o), row in rows.items() if o == outcome and name in changed]
        n = sum(row["n"] for row in part)
        return f"{sum(row['n'] * row[column] for row in part) / n:.2f}" if n else "n/a"

    monitors = "; ".join(
        f"{monitor} flags {harmful[column]:.2f} [{harmful[column.replace('rate', 'low')]:.2f}, "
        f"{harmful[column.replace('rate', 'high')]:.2f}] of clean harmful requests (95 %, over requests "
        f"and the error of its threshold), {mean('complied', column)} of attacked ones that "
        f"the model complies with, and {harmless[column]:.2f} of the harmless ones that set its threshold"
        for column, monitor in _FLAG_RATES.items()
    )
    return [
        f"τ at the end of the prompt, in units of the distance between the class means, is "
        f"{harmless['tau_normalised']:.2f} for clean harmless and {harmful['tau_normalised']:.2f} for clean "
        f"harmful requests; for attacked requests it is {mean('complied', 'tau_normalised')} where the model "
        f"complies on topic and {mean('refused', 'tau_normalised')} where it refuses. Of the monitors, "
        f"{monitors}."
    ]


def _union_sentences(attacked_answers: Rows, n: int) -> list[str]:
    """On how many requests any attack with text succeeded, controls included; nothing without one."""
    rows = [row for row in attacked_answers if row["retokenization_stable"] is not None]
    if not rows:
        return []
    succeeded = {row["request"] for row in rows if row["retokenization_stable"] and is_on_topic(row)}
    if not succeeded:
        return [
            f"No attack or control with text makes the model comply on topic with any of the {n} requests."
        ]
    return [
        f"Attacks and controls with text together make the model comply on topic with {len(succeeded)} of "
        f"{n} requests; none of them succeeds on the other {n - len(succeeded)}."
    ]


def _attack_section(success: list[SuccessRow], cost: list[AttackCostRow], answers: Rows) -> pd.DataFrame:
    """One row per attack for the page: success by every criterion with its interval, then the means."""
    rates = _Rates(success, answers)
    labels = {row.criterion: f"complied ({row.criterion})" for row in success}
    labels[TARGET_CRITERION] = "target begins the answer"
    rows = []
    for row in cost:
        control = " (control)" if rates.rows[row.attack, deciding_judge()].is_control else ""
        cells = {"attack": row.attack + control, "n": row.n}
        cells |= {label: rates.interval(row.attack, criterion) for criterion, label in labels.items()}
        cells |= {label: _cell(getattr(row, column)) for column, label in _COST_LABELS.items()}
        rows.append(cells)
    return pd.DataFrame(rows)


def _cell(value: Any) -> str:
    """A value as it is shown; empty if it is undefined."""
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2f}" if value != int(value) else f"{value:.0f}"
