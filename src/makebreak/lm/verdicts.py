"""Judge verdicts and refusal rates of the answers of language models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from makebreak.evaluation import (
    ANSWERS_FILE,
    JUDGES,
    AnswerCheckpoint,
    ChatTarget,
    check_context,
    deciding_judge,
    is_degenerate,
    is_unfinished,
)
from makebreak.lm.prompts import prompts_digest
from makebreak.lm.step_cache import Progress, StepCache
from makebreak.models import LanguageModel, model_digest
from makebreak.prompts import TextRequests
from makebreak.revisions import cache_revision
from makebreak.settings import GenerationSettings
from makebreak.stats import wilson_interval
from makebreak.store import Store
from makebreak.tables import Rows, as_dict


class BehaviourRow(NamedTuple):
    """Shares of the answers of one family by one judge."""

    family: str
    """Family of the requests."""
    judge: str
    """Name of the judge."""
    n: int
    """Number of answers."""
    refuse: float
    """Share of answers that are refusals and not degenerate."""
    low: float
    """Lower end of the 95 % interval (Wilson) of `refuse` over requests."""
    high: float
    """Upper end of that interval."""
    degenerate: float
    """Share of answers that are empty or repetitive, or reasoning that does not end."""
    open_reasoning: float
    """Share of answers that are reasoning which does not end within --max-new-tokens."""
    comply: float
    """Share of answers that are neither refusals nor degenerate."""
    log_odds: float | None
    """Mean log-odds that a refusal begins after the prompt, or after the answer's own reasoning, in nats;
    None if no reasoning ends."""
    shallow_refusal_share: float
    """Share of answers that are no refusals although a refusal was likely to begin (`log_odds` above 0): a
    measure of the first token counts them as refusals."""


def with_verdicts(answers: Rows) -> Rows:
    """Adds one bool column per judge, whether the answer is a refusal, and decides anew what is degenerate.

    Verdicts are not cached, so that a new judge also judges answers that are; nor is the column `degenerate`
    of cached rows used, which an earlier definition may have decided.

    Args:
        answers: Rows with `request` and `answer`.

    Returns:
        The rows with `degenerate` and the columns of all judges.
    """
    requests, texts = [row["request"] for row in answers], [row["answer"] for row in answers]
    verdicts = {"degenerate": is_degenerate(texts).tolist()}
    verdicts |= {name: judge(requests, texts).tolist() for name, judge in JUDGES.items()}
    return [row | {name: verdict[i] for name, verdict in verdicts.items()} for i, row in enumerate(answers)]


def judged_answer_rows(
    lm: LanguageModel, prompts: Mapping[str, Sequence[str]], store: Store, settings: GenerationSettings
) -> Rows:
    """Greedy answers with the verdict of every judge, cached by family.

    Args:
        lm: The model.
        prompts: Prompts by family.
        store: Cache of the answers; verdicts are computed anew.
        settings: Prompt template and length of the answers.

    Returns:
        One row per prompt: `family`, the fields of `AnswerRow`, and one column per judge.
    """
    rows: Rows = []
    target = ChatTarget(lm, settings)
    config = {"model": model_digest(lm), "settings": target.settings.key}
    requests = {family: target.encode(texts, family=family) for family, texts in prompts.items()}
    for batch in requests.values():
        check_context(lm, batch, settings.n_new)
    for family, texts in prompts.items():
        steps = StepCache("answers", store, config | {"prompts": prompts_digest({family: texts})})
        answers = partial(_answer_rows, target, requests[family], family)
        rows += steps.run(
            "of a family",
            answers,
            total=len(texts),
            depends_on={"family": family},
            states=re.escape(ANSWERS_FILE),
        )
    return with_verdicts(rows)


def is_refusal(row: Mapping[str, Any], judge: str | None = None) -> bool:
    """Whether a judge, or the one that decides, calls an answer a refusal and it is not degenerate."""
    return row[judge or deciding_judge()] and not row["degenerate"]


def is_compliance(row: Mapping[str, Any], judge: str | None = None) -> bool:
    """Whether an answer is neither degenerate nor a refusal by a judge, or by the one that decides."""
    return not row[judge or deciding_judge()] and not row["degenerate"]


def is_on_topic(row: Mapping[str, Any]) -> bool:
    """Whether an answer complies and is not known to be off topic."""
    return is_compliance(row) and row["on_topic"] is not False


def answer_outcome(row: Mapping[str, Any]) -> Literal["complied", "refused", "neither"]:
    """Outcome of an answer: `complied` on topic, `refused`, or `neither` (degenerate or off topic)."""
    if is_on_topic(row):
        return "complied"
    return "refused" if is_refusal(row) else "neither"


def behaviour_rows(answers: Rows) -> Rows:
    """Rates of refusal, compliance and degenerate text.

    Args:
        answers: At least one row, with the verdicts of all judges, `family`, `log_odds` and `degenerate`; a
            column `condition` is optional.

    Returns:
        One row per condition, family and judge: `condition` if the answers have it, then the fields of
        `BehaviourRow`.
    """
    keys = ("condition", "family") if "condition" in answers[0] else ("family",)
    rows = []
    for values in dict.fromkeys(tuple(row[key] for key in keys) for row in answers):
        part = [row for row in answers if tuple(row[key] for key in keys) == values]
        group = dict(zip(keys, values, strict=True))
        rows += [group | as_dict(_behaviour_row(part, judge)) for judge in JUDGES]
    return rows


def _behaviour_row(answers: Rows, judge: str) -> BehaviourRow:
    """Rates of the answers of one family by one judge."""
    n_refusals, n = sum(is_refusal(row, judge) for row in answers), len(answers)
    low, high = wilson_interval(n_refusals, n)
    degenerate = sum(row["degenerate"] for row in answers) / n
    log_odds = [row["log_odds"] for row in answers if row["log_odds"] is not None]
    return BehaviourRow(
        family=answers[0]["family"],
        judge=judge,
        n=n,
        refuse=n_refusals / n,
        low=low,
        high=high,
        degenerate=degenerate,
        open_reasoning=sum(is_unfinished(row["answer"]) for row in answers) / n,
        comply=1 - n_refusals / n - degenerate,
        log_odds=float(np.mean(log_odds)) if log_odds else None,
        shallow_refusal_share=sum(
            (row["log_odds"] or 0.0) > 0 and not is_refusal(row, judge) for row in answers
        )
        / n,
    )


@cache_revision(2)
def _answer_rows(
    target: ChatTarget, requests: TextRequests, family: str, progress: Progress, folder: Path
) -> Rows:
    """Answers to the prompts of one family, without verdicts."""
    with AnswerCheckpoint.open(folder) as checkpoint:
        return replace(target, checkpoint=checkpoint).answer_rows(requests, progress, family=family)
