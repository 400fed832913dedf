"""Page on the attacks on a language model: tables, figures, and a summary with the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from makebreak.attacks import JAILBREAK_TEMPLATES
from makebreak.evaluation import JUDGES
from makebreak.lm.attack import CONTROLS, INITIAL_TOKENS, SEARCH_METHODS, AttackSuiteResult
from makebreak.lm.attack_runner import N_TOPIC_CONTROLS, NO_ATTACK, RANDOM_SOFT_PROMPT, SOFT_PROMPT
from makebreak.lm.verdicts import JUDGE, is_compliance, is_on_topic, is_refusal
from makebreak.plots import plot_attacks, plot_search
from makebreak.report import Page, write_figures, write_page, write_tables
from makebreak.stats import wilson_interval
from makebreak.tables import Rows

TARGET_CRITERION = "target"
"""Criterion of success: the target begins the answer. Those by a judge's verdict have the judge's name."""
TOPIC_CRITERION = "on topic"
"""Criterion of success: compliance by `JUDGE`, on the topic of the request."""
_PREFILL = "prefill "
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
}


class SuccessRow(NamedTuple):
    """Success rate of one attack by one criterion."""

    attack: str
    """Name of the attack."""
    is_control: bool
    """Whether it is a control."""
    criterion: str
    """`target`: the target begins the answer. The name of a judge: it no longer calls the answer a refusal,
    and the answer is not degenerate. `on topic`: in addition to `JUDGE`, the answer is on the topic of the
    request."""
    n: int
    """Number of requests that the criterion applies to."""
    success_rate: float | None
    """Share of them on which the attack succeeds; None if n is 0."""
    low: float | None
    """Lower end of its 95 % interval (Wilson) over requests; None if n is 0."""
    high: float | None
    """Upper end of that interval; None if n is 0."""


class AttackCostRow(NamedTuple):
    """Means over the requests of one attack; a mean is None if it is undefined for all of them."""

    attack: str
    """Name of the attack."""
    n: int
    """Number of requests."""
    loss: float | None
    """Negative log-likelihood per token of what is left of the target, in nats."""
    log_odds: float | None
    """Log-odds that a refusal begins after the prompt, in nats."""
    degenerate: float | None
    """Share of answers that are empty or repetitive."""
    n_candidates: float | None
    """Candidates per request."""
    stable_candidate_share: float | None
    """Share of proposed candidates that were retokenisation-stable."""
    retokenization_stable: float | None
    """Share of attacked prompts that encode to the same tokens."""


class OverRefusalRow(NamedTuple):
    """Outcomes of harmless requests in one jailbreak template."""

    attack: str
    """Name of the template, or of the control without one."""
    n: int
    """Number of requests."""
    refuse: float
    """Share that is refused."""
    degenerate: float
    """Share of answers that are empty or repetitive."""
    on_topic: float
    """Share that is complied with on topic."""


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
    sections = {"Answers without an attack": _answer_section(tables["answers"])}
    figures = []
    if "attacked_answers" in tables:
        success = success_rows(result.tables["attacked_answers"])
        cost = cost_rows(result.tables["attacked_answers"])
        tables |= {"success": pd.DataFrame(success), "cost": pd.DataFrame(cost)}
        if "harmless_answers" in tables:
            tables["over_refusal"] = pd.DataFrame(over_refusal_rows(result.tables["harmless_answers"]))
        drawings: dict[str, Any] = {
            "success": lambda: plot_attacks(tables["success"]),
            "search": lambda: plot_search(tables["search_history"]),
        }
        figures = write_figures(drawings, _CAPTIONS, out / "figures")
        history = tables["search_history"].pivot(index="step", columns="attack", values="loss")
        sections = {
            "Attacks": _attack_section(success, cost),
            **{title: tables[table] for title, table in _SECTIONS.items() if table in tables},
            "Answers under attack": _answer_section(tables["attacked_answers"]),
            **sections,
            "Best loss by step": history.reset_index(),
        }
    write_tables(tables, out / "tables")
    path = out / "report.html"
    title = f"Attacks on {Path(name).name}"
    write_page(Page(title, attack_summary(result), facts, [], figures, sections), path)
    return path


def attack_summary(result: AttackSuiteResult) -> list[str]:
    """Summarises attacks in sentences: success rates and controls, projection, requests without success."""
    answers = result.tables["answers"]
    n_refused = sum(map(is_refusal, answers))
    n_likely = sum(row["log_odds"] > 0 for row in answers)
    paragraphs = [
        f"The model refuses {n_refused} of {len(answers)} harmful requests (judge {JUDGE}); for {n_likely}, "
        "a refusal is the likelier first token."
    ]
    if "attacked_answers" not in result.tables:
        return [*paragraphs, f"No attack was made: {result.skip_reasons['attacked_answers']}."]
    attacked = result.tables["attacked_answers"]
    rates = _Rates(success_rows(attacked))
    return [
        *paragraphs,
        _search_sentences(rates, cost_rows(attacked), n_refused),
        _soft_prompt_sentence(rates),
        _prefill_sentence(rates),
        *_template_sentences(result, rates),
        *_projection_sentences(result),
        _union_sentence(attacked, rates.n),
    ]


def success_rows(attacked_answers: Rows) -> list[SuccessRow]:
    """Success rate of every attack by every criterion.

    Args:
        attacked_answers: Answers under attack, with the verdicts of all judges.

    Returns:
        One row per attack and criterion.
    """
    rows = []
    for attack, answers in _by_attack(attacked_answers).items():
        criteria = {
            TARGET_CRITERION: [row["exact_match"] for row in answers if row["exact_match"] is not None]
        }
        criteria |= {judge: [is_compliance(row, judge) for row in answers] for judge in JUDGES}
        topic_known = any(
            row["on_topic"] is not None for row in answers
        )  # else too few requests were attacked
        criteria[TOPIC_CRITERION] = [is_on_topic(row) for row in answers] if topic_known else []
        for criterion, successes in criteria.items():
            n = len(successes)
            rate, (low, high) = None, (None, None)
            if n:
                rate, (low, high) = sum(successes) / n, wilson_interval(sum(successes), n)
            rows.append(SuccessRow(attack, attack in CONTROLS, criterion, n, rate, low, high))
    return rows


def cost_rows(attacked_answers: Rows) -> list[AttackCostRow]:
    """Means over the requests of every attack: losses, degenerate answers and candidates.

    Args:
        attacked_answers: Answers under attack.

    Returns:
        One row per attack.
    """
    return [
        AttackCostRow(attack, len(answers), *(_mean(answers, column) for column in _COST_LABELS))
        for attack, answers in _by_attack(attacked_answers).items()
    ]


def over_refusal_rows(harmless: Rows) -> list[OverRefusalRow]:
    """Outcomes of harmless requests in every jailbreak template.

    Args:
        harmless: Answers to harmless requests, with the verdicts of all judges.

    Returns:
        One row per template.
    """
    rows = []
    for attack, answers in _by_attack(harmless).items():
        n = len(answers)
        rows.append(
            OverRefusalRow(
                attack,
                n,
                refuse=sum(map(is_refusal, answers)) / n,
                degenerate=sum(row["degenerate"] for row in answers) / n,
                on_topic=sum(map(is_on_topic, answers)) / n,
            )
        )
    return rows


class _Rates:
    """Success rates by attack and criterion, as text."""

    def __init__(self, rows: list[SuccessRow]) -> None:
        self.rows = {(row.attack, row.criterion): row for row in rows}
        self.n = self.rows[INITIAL_TOKENS, JUDGE].n

    def interval(self, attack: str, criterion: str = JUDGE) -> str:
        """Rate with its interval."""
        row = self.rows[attack, criterion]
        return (
            "n/a" if row.success_rate is None else f"{row.success_rate:.2f} [{row.low:.2f}, {row.high:.2f}]"
        )

    def rate(self, attack: str, criterion: str = JUDGE) -> str:
        """Rate without its interval."""
        row = self.rows[attack, criterion]
        return "n/a" if row.success_rate is None else f"{row.success_rate:.2f}"

    def overlap(self, attack: str, other: str) -> bool:
        """Whether the intervals of two attacks overlap."""
        a, b = self.rows[attack, JUDGE], self.rows[other, JUDGE]
        if a.low is None or a.high is None or b.low is None or b.high is None:
            raise ValueError(f"{attack} or {other} was evaluated on no request: no intervals to compare")
        return a.low <= b.high and b.low <= a.high

    @property
    def attacks(self) -> list[str]:
        """Names of the attacks."""
        return list(dict.fromkeys(attack for attack, _ in self.rows))


def _search_sentences(rates: _Rates, cost: list[AttackCostRow], n_refused: int) -> str:
    """GCG beside random search, random tokens and the initial tokens."""
    excluded = n_refused - rates.n
    intro = ""
    if excluded:
        intro = (
            f"{excluded} refused requests are not evaluated: they are not retokenisation-stable, or a "
            "universal attack is optimised on them. "
        )
    difference = (
        "overlap: the difference is undecided" if rates.overlap("GCG", "random search") else "do not overlap"
    )
    targets = ", ".join(
        f"{rates.rate(name, TARGET_CRITERION)} ({name})" for name in (*SEARCH_METHODS, INITIAL_TOKENS)
    )
    stable = {row.attack: row.stable_candidate_share for row in cost}
    shares = ", ".join(f"{stable[name]:.2f} of {name}" for name in SEARCH_METHODS if stable[name] is not None)
    filtered = f" Only retokenisation-stable candidates are evaluated: {shares}." if shares else ""
    return (
        f"{intro}GCG makes the model comply with {rates.interval('GCG')} of the {rates.n} attacked requests "
        "(neither refused nor degenerate; 95 % intervals over requests). With the same number of candidates, "
        f"random search reaches {rates.interval('random search')} and random tokens "
        f"{rates.interval('random tokens')}; the initial tokens alone reach "
        f"{rates.interval(INITIAL_TOKENS)}. The intervals of GCG and random search {difference}. Shares "
        f"of the answers that begin with the target: {targets}.{filtered}"
    )


def _soft_prompt_sentence(rates: _Rates) -> str:
    return (
        "A soft prompt, which corresponds to no text, makes the model comply with "
        f"{rates.interval(SOFT_PROMPT)}; random vectors of the same norm, with "
        f"{rates.interval(RANDOM_SOFT_PROMPT)}. The target begins "
        f"{rates.rate(SOFT_PROMPT, TARGET_CRITERION)} and {rates.rate(RANDOM_SOFT_PROMPT, TARGET_CRITERION)} "
        "of the answers."
    )


def _prefill_sentence(rates: _Rates) -> str:
    names = [name for name in rates.attacks if name.startswith(_PREFILL)]
    lengths = " / ".join(name.removeprefix(_PREFILL) for name in names)
    return (
        f"With the first {lengths} target tokens forced, the model complies with "
        f"{' / '.join(map(rates.rate, names))} (the last: {rates.interval(names[-1])})."
    )


def _template_sentences(result: AttackSuiteResult, rates: _Rates) -> list[str]:
    """Jailbreak templates on harmful and on harmless requests; nothing without templates."""
    names = [name for name in JAILBREAK_TEMPLATES if (name, JUDGE) in rates.rows]
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


def _projection_sentences(result: AttackSuiteResult) -> list[str]:
    """Class-mean projection and monitors of attacked requests; the reason if they were skipped."""
    if "projection" in result.skip_reasons:
        return [f"Attacked requests were not projected: {result.skip_reasons['projection']}."]
    if "projection" not in result.tables:
        return []
    rows = {(row["attack"], row["outcome"]): row for row in result.tables["projection"]}
    harmless, harmful = rows["clean harmless", "all"], rows["clean harmful", "all"]

    def mean(outcome: str, column: str) -> str:
        """Mean over the attacks that change what precedes the end of the prompt."""
        part = [row for (name, o), row in rows.items() if o == outcome and _changes_prompt(name)]
        n = sum(row["n"] for row in part)
        return f"{sum(row['n'] * row[column] for row in part) / n:.2f}" if n else "n/a"

    monitors = "; ".join(
        f"{monitor} flags {harmful[column]:.2f} of clean harmful requests, {mean('complied', column)} of "
        f"attacked ones that the model complies with, and {harmless[column]:.2f} of the harmless ones that "
        "set its threshold"
        for column, monitor in _FLAG_RATES.items()
    )
    return [
        f"τ at the end of the prompt, in units of the distance between the class means, is "
        f"{harmless['tau_normalised']:.2f} for clean harmless and {harmful['tau_normalised']:.2f} for clean "
        f"harmful requests; for attacked requests it is {mean('complied', 'tau_normalised')} where the model "
        f"complies on topic and {mean('refused', 'tau_normalised')} where it refuses. Of the monitors, "
        f"{monitors}."
    ]


def _changes_prompt(name: str) -> bool:
    """Whether a row is of an attack that changes the prompt; a prefill comes after its end."""
    return not name.startswith(("clean ", "harmless, ", _PREFILL)) and name not in CONTROLS


def _union_sentence(attacked_answers: Rows, n: int) -> str:
    """On how many requests any attack with text succeeded, controls included."""
    succeeded = {
        row["request"] for row in attacked_answers if row["retokenization_stable"] and is_on_topic(row)
    }
    if not succeeded:
        return f"No attack or control with text makes the model comply on topic with any of the {n} requests."
    return (
        f"Attacks and controls with text together make the model comply on topic with {len(succeeded)} of "
        f"{n} requests; none of them succeeds on the other {n - len(succeeded)}."
    )


def _attack_section(success: list[SuccessRow], cost: list[AttackCostRow]) -> pd.DataFrame:
    """One row per attack for the page: success by every criterion with its interval, then the means."""
    rates = _Rates(success)
    labels = {row.criterion: f"complied ({row.criterion})" for row in success}
    labels[TARGET_CRITERION] = "target begins the answer"
    rows = []
    for row in cost:
        control = " (control)" if row.attack in CONTROLS else ""
        cells = {"attack": row.attack + control, "n": row.n}
        cells |= {label: rates.interval(row.attack, criterion) for criterion, label in labels.items()}
        cells |= {label: _cell(getattr(row, column)) for column, label in _COST_LABELS.items()}
        rows.append(cells)
    return pd.DataFrame(rows)


def _answer_section(answers: pd.DataFrame) -> pd.DataFrame:
    """Answers for the page: texts first, then verdicts in words."""
    labels: Mapping[str, str] = {
        "attack": "attack",
        "request": "request",
        "attack_text": "text of the attack",
        "answer": "answer",
        "target": "target",
        "exact_match": "target begins the answer",
        "on_topic": "on topic",
        **{judge: f"refused ({judge})" for judge in JUDGES},
        **_COST_LABELS,
    }
    without = {"stable_candidate_share"}
    if answers["attack"].nunique() == 1:  # no attack
        without |= {"attack", "attack_text", "n_candidates", "retokenization_stable"}
    columns = [column for column in labels if column not in without]
    return answers.loc[:, columns].map(_cell).rename(columns=dict(labels))


def _cell(value: Any) -> str:
    """A value as it is shown; empty if it is undefined."""
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2f}" if value != int(value) else f"{value:.0f}"


def _by_attack(rows: Rows) -> dict[str, Rows]:
    """Rows by the name of the attack, in the order in which the names occur."""
    groups: dict[str, Rows] = {}
    for row in rows:
        groups.setdefault(row["attack"], []).append(row)
    return groups


def _mean(rows: Rows, column: str) -> float | None:
    """Mean of the defined values of a column, None if there are none."""
    values = [row[column] for row in rows if row[column] is not None]
    return sum(values) / len(values) if values else None
