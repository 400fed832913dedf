"""Answers of a language model as a page shows them: request, answer, verdict of every judge, log-odds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from makebreak.evaluation import JUDGES, deciding_judge
from makebreak.report.cells import MISSING, Text, page_value

_GROUPS = ("condition", "family", "attack", "sample")
"""Columns by which a reader may filter, where a table has more than one value of them."""
_DISAGREE, _OFF_TOPIC = "judges disagree", "off topic"
_LABELS = {
    "attack_text": "text of the attack",
    "target": "target",
    "exact_match": "target begins the answer",
    "on_topic": "on topic",
    "loss": "loss of the target",
    "n_candidates": "candidates",
    "stable_candidate_share": "stable candidates",
    "retokenization_stable": "retokenisation-stable",
}
"""Further columns that are shown, as they are named."""


class Filter(NamedTuple):
    """A choice by which a reader filters answers."""

    name: str
    """Name of the choice, such as `family`."""
    options: tuple[str, ...]
    """Values to choose from."""


class Verdict(NamedTuple):
    """A verdict, and who gives it."""

    word: str
    """`refused` or `complied`."""
    judges: tuple[str, ...]
    """Names of the judges."""


@dataclass(frozen=True)
class PageAnswer:
    """One answer."""

    groups: tuple[str, ...]
    """Values of the columns of groups."""
    request: Text
    """The request."""
    answer: Text
    """The answer."""
    outcome: str
    """`refused`, `complied` or `degenerate`, by the judge that decides."""
    verdicts: tuple[Verdict, ...]
    """Verdicts of all judges, one or two."""
    log_odds: Text
    """Log-odds that a refusal begins after the prompt, in nats."""
    notes: tuple[tuple[str, Text], ...]
    """Further values by their names."""
    tags: str
    """Options of the filters that the answer belongs to: `FILTER.OPTION`, both as indices."""


@dataclass(frozen=True)
class PageAnswers:
    """Answers, and the choices by which a reader filters them."""

    groups: tuple[str, ...]
    """Names of the columns of groups."""
    filters: tuple[Filter, ...]
    """The choices."""
    rows: tuple[PageAnswer, ...]
    """The answers."""
    judge: str
    """The judge that decides about the outcome."""


def page_answers(table: pd.DataFrame) -> PageAnswers:
    """Answers as a page shows them.

    Args:
        table: Columns request, answer, degenerate, log_odds and one per judge; the columns of groups and
            those with further values are optional.

    Returns:
        The answers in the order of the table.
    """
    rows: Sequence[Mapping[str, Any]] = table.to_dict("records")  # pyright: ignore[reportAssignmentType]
    groups = tuple(name for name in _GROUPS if name in table and table[name].nunique() > 1)
    verdicts = [_verdicts(row) for row in rows]
    outcomes = [_outcome(row) for row in rows]
    labels = [
        (outcome, *_remarks(row, each)) for outcome, row, each in zip(outcomes, rows, verdicts, strict=True)
    ]
    by_judge = [f"refused by {judge}" for judge in JUDGES]
    known = [*dict.fromkeys(outcomes), _DISAGREE, _OFF_TOPIC, *by_judge]
    used = {label for each in labels for label in each}
    values = {name: list(map(str, table[name])) for name in groups}
    filters = [Filter(name, tuple(dict.fromkeys(each))) for name, each in values.items()]
    filters.append(Filter("verdict", tuple(label for label in known if label in used)))
    notes = [name for name in _LABELS if name in table and table[name].notna().any()]
    shown = []
    for i, row in enumerate(rows):
        selections = [(values[name][i],) for name in groups] + [labels[i]]
        shown.append(
            PageAnswer(
                groups=tuple(values[name][i] for name in groups),
                request=Text(str(row["request"])),
                answer=Text(str(row["answer"])),
                outcome=outcomes[i],
                verdicts=verdicts[i],
                log_odds=page_value(row.get("log_odds")),
                notes=tuple((_LABELS[name], note) for name in notes if (note := _note(row[name]))),
                tags=_tags(filters, selections),
            )
        )
    return PageAnswers(groups, tuple(filters), tuple(shown), deciding_judge())


def _note(value: Any) -> Text | None:
    """A further value; None for one that is not defined."""
    shown = page_value(value)
    return None if shown.text in (MISSING, "") else shown


def _tags(filters: Sequence[Filter], selections: Sequence[Sequence[str]]) -> str:
    """Options of the filters that a row belongs to, as pairs of indices."""
    return " ".join(
        f"{i}.{choice.options.index(option)}"
        for i, (choice, options) in enumerate(zip(filters, selections, strict=True))
        for option in options
    )


def _verdicts(row: Mapping[str, Any]) -> tuple[Verdict, ...]:
    """Verdicts of all judges, each with those who give it."""
    judges = {
        "refused": tuple(judge for judge in JUDGES if row[judge]),
        "complied": tuple(judge for judge in JUDGES if not row[judge]),
    }
    return tuple(Verdict(word, names) for word, names in judges.items() if names)


def _outcome(row: Mapping[str, Any]) -> str:
    """Outcome by the judge that decides; a degenerate answer is neither a refusal nor compliance."""
    if row["degenerate"]:
        return "degenerate"
    return "refused" if row[deciding_judge()] else "complied"


def _remarks(row: Mapping[str, Any], verdicts: Sequence[Verdict]) -> list[str]:
    """What else of the filter of verdicts an answer belongs to."""
    remarks = [f"refused by {judge}" for judge in JUDGES if row[judge]]
    remarks += [_DISAGREE] if len(verdicts) > 1 else []
    return remarks + ([_OFF_TOPIC] if row.get("on_topic") is False else [])
