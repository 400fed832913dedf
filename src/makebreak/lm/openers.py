"""Tokens with which a model's own refusals begin, found in its answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from makebreak.evaluation import ChatTarget, final_answer, planning_judge
from makebreak.lm.prompts import FAMILIES
from makebreak.lm.step_cache import StepCache
from makebreak.lm.verdicts import is_compliance, is_refusal
from makebreak.prompts import REFUSAL_OPENERS, TextRequests, encode_texts
from makebreak.revisions import cache_revision
from makebreak.tables import Rows

MIN_REFUSALS = 8
"""Fewest refusals whose first tokens are taken."""
MIN_SHARE = 0.05
"""Least share of the refusals that begin with a token."""


class Openers(NamedTuple):
    """Tokens with which refusals begin."""

    ids: tuple[int, ...]
    """Their ids, sorted; empty for those of `REFUSAL_OPENERS`."""
    description: str
    """Which they are, and how they were found."""


def half_of_answers(answers: Rows) -> Rows:
    """Answers to every second harmful and harmless request, the first of either among them."""
    return [row for name in FAMILIES[:2] for row in [r for r in answers if r["family"] == name][::2]]


def own_openers(tokenizer: PreTrainedTokenizerFast, answers: Rows) -> Openers:
    """Finds the tokens with which a model's refusals begin.

    Args:
        tokenizer: The model's tokenizer.
        answers: Answers with the verdicts of the judges.

    Returns:
        The first visible tokens of at least `MIN_SHARE` of the answers that the planning judge calls refusals
        and of a smaller share of the compliant ones, each at the start of a text and after a space. None if
        there are fewer than `MIN_REFUSALS`, or no token distinguishes them.
    """
    refusals, others = (
        _first_tokens(tokenizer, [row["answer"] for row in answers if is_of(row, planning_judge())])
        for is_of in (is_refusal, is_compliance)
    )
    n_refusals = len(refusals)
    if n_refusals < MIN_REFUSALS:
        reason = (
            f"{n_refusals} refusals of half of the requests: at least {MIN_REFUSALS} show the model's own"
        )
        return Openers((), f"{', '.join(REFUSAL_OPENERS)} ({reason})")
    counts, other_counts = (Counter(first for first, _ in tokens) for tokens in (refusals, others))
    chosen = [
        (token, n)
        for token, n in counts.most_common()
        if n >= MIN_SHARE * n_refusals and n / n_refusals > other_counts[token] / max(len(others), 1)
    ]
    if not chosen:
        return Openers((), f"{', '.join(REFUSAL_OPENERS)} (no first token is typical of the refusals)")
    tokens = {token for token, _ in chosen}
    ids = sorted(tokens | {after_space for first, after_space in refusals if first in tokens})
    shares = ", ".join(f"{tokenizer.decode([token])!r} ({n / n_refusals:.0%})" for token, n in chosen)
    return Openers(tuple(ids), f"{shares} of {n_refusals} refusals of half of the requests")


def with_openers(requests: TextRequests, openers: Openers) -> TextRequests:
    """Requests whose refusals begin with these tokens; without change for none."""
    if not openers.ids:
        return requests
    return replace(requests, openers=np.tile(np.array(openers.ids, dtype=np.int64), (len(requests), 1)))


def opener_key(requests: TextRequests, openers: Openers) -> dict[str, Any]:
    """The part of a key that says which tokens begin refusals; empty for those that requests have anyway."""
    if not openers.ids or list(openers.ids) == requests.openers[0].tolist():
        return {}
    return {"openers": list(openers.ids)}


def rescored_answers(
    target: ChatTarget,
    requests: Mapping[str, TextRequests],
    answers: Rows,
    openers: Openers,
    steps: StepCache,
) -> Rows:
    """Answers with the log-odds of a refusal that begins with other tokens; none is generated again.

    Args:
        target: The model.
        requests: The requests by family, in the order of the answers.
        answers: Answers to them with `log_odds`.
        openers: Tokens with which refusals begin.
        steps: Cache of the log-odds.

    Returns:
        The answers.
    """
    key = opener_key(next(iter(requests.values())), openers)
    if not key:
        return answers
    texts = [row["answer"] for row in answers]
    step = partial(
        _log_odds_rows, target, [with_openers(batch, openers) for batch in requests.values()], texts
    )
    rows = steps.run("log-odds", step, depends_on=key)
    return [answer | row for answer, row in zip(answers, rows, strict=True)]


@cache_revision(1)
def _log_odds_rows(target: ChatTarget, batches: Sequence[TextRequests], answers: Sequence[str]) -> Rows:
    """One row per answer, with the column `log_odds`."""
    rows: Rows = []
    for batch in batches:
        of_batch = answers[len(rows) : len(rows) + len(batch)]
        rows += [{"log_odds": value} for value in target.refusal_log_odds(batch, of_batch)]
    return rows


def _first_tokens(tokenizer: PreTrainedTokenizerFast, answers: Sequence[str]) -> list[tuple[int, int]]:
    """Ids of the first visible token of each answer, at the start of a text and after a space."""
    texts = [text for text in map(final_answer, answers) if text]
    if not texts:
        return []
    plain, spaced = (
        [_first_visible(tokenizer, ids) for ids in encode_texts(tokenizer, variant)["input_ids"]]
        for variant in (texts, [f" {text}" for text in texts])
    )
    return [pair for pair in zip(plain, spaced, strict=True) if None not in pair]  # type: ignore[misc]


def _first_visible(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> int | None:
    """The first token that is no white space and not unknown; None if there is none."""
    known = (i for i in ids if i != tokenizer.unk_token_id and str(tokenizer.decode([i])).strip())
    return next(known, None)
