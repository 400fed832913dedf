"""What does an answer come to, by judges and by what it is about? Rows are those of `answered`, with verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from makebreak.behaviour import JUDGES
from makebreak.pages.steps import Rows
from makebreak.stats import wilson

JUDGE = "arditi2024"  # decides wherever one judge has to


def with_verdicts(answers: Rows) -> Rows:
    """Also each judge's verdict. These are not kept in the store: a judge added later judges answers of before."""
    texts, said = ([row[key] for row in answers] for key in ("request", "answer"))
    verdicts = {name: judge(texts, said).tolist() for name, judge in JUDGES.items()}
    return [row | {name: verdict[i] for name, verdict in verdicts.items()} for i, row in enumerate(answers)]


def refused(row: Mapping[str, Any], judge: str = JUDGE) -> bool:
    return row[judge] and not row["broken"]


def complied(row: Mapping[str, Any], judge: str = JUDGE) -> bool:
    """Neither refused nor broken."""
    return not row[judge] and not row["broken"]


def on_topic(row: Mapping[str, Any]) -> bool:
    """Complied with, and about the request, as far as there are enough others to tell."""
    return complied(row) and row["on_topic"] is not False


def outcome(row: Mapping[str, Any]) -> Literal["answered", "refused", "neither"]:
    """`answered` is on topic; `neither` is broken, or about something else."""
    return "answered" if on_topic(row) else "refused" if refused(row) else "neither"


def behaviour_rows(answers: Rows) -> Rows:
    """One row per family, judge and condition if there are several: shares of answers that are refused, complied with
    and broken, the first with Wilson's interval over requests; and the mean log-odds that a refusal begins."""
    rows = []
    keys = ("condition", "family") if "condition" in answers[0] else ("family",)
    for values in dict.fromkeys(tuple(row[k] for k in keys) for row in answers):
        part = [row for row in answers if tuple(row[k] for k in keys) == values]
        for judge in JUDGES:
            n_refused = sum(refused(row, judge) for row in part)
            low, high = wilson(n_refused, len(part))
            spoilt = sum(row["broken"] for row in part) / len(part)
            rows.append(
                dict(zip(keys, values, strict=True))
                | {"judge": judge, "n": len(part), "refuse": n_refused / len(part), "low": low, "high": high}
                | {"broken": spoilt, "comply": 1 - n_refused / len(part) - spoilt}
                | {"log_odds": float(np.mean([row["log_odds"] for row in part]))}
            )
    return rows
