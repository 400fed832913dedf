"""Sampled answers of language models, and how often any of several complies with a request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from makebreak.evaluation import (
    ANSWERS_FILE,
    JUDGES,
    AnswerCheckpoint,
    ChatTarget,
    Sampling,
    repeat_requests,
)
from makebreak.lm.step_cache import Progress, StepCache
from makebreak.lm.verdicts import is_compliance, is_refusal, with_verdicts
from makebreak.prompts import TextRequests
from makebreak.revisions import cache_revision
from makebreak.settings import SamplingSettings
from makebreak.stats import clustered_share_interval, wilson_interval
from makebreak.tables import Rows


class SampleRow(NamedTuple):
    """One sampled answer to one request."""

    family: str
    """Family of the requests."""
    request: str
    """The request's text, without the prompt template."""
    sample: int
    """Number of the sample, from 0."""
    answer: str
    """The answer's text."""


class SampleRateRow(NamedTuple):
    """Refusal and compliance of the sampled answers to one family by one judge, beside the greedy ones."""

    family: str
    """Family of the requests."""
    judge: str
    """Name of the judge."""
    n: int
    """Number of requests."""
    samples: int
    """Number of sampled answers per request."""
    temperature: float
    """Temperature of the sampled answers."""
    greedy_refuse: float
    """Share of requests whose greedy answer is a refusal and not degenerate."""
    refuse: float
    """Share of sampled answers that are; mean over requests."""
    low: float
    """Lower end of the 95 % interval of `refuse` over requests (`stats.clustered_share_interval`)."""
    high: float
    """Upper end of that interval."""
    degenerate: float
    """Share of sampled answers that are empty or repetitive."""
    greedy_comply: float
    """Share of requests whose greedy answer is neither a refusal nor degenerate."""
    comply: float
    """Share of sampled answers that are neither."""
    any_comply: float
    """Share of requests with at least one such answer among the sampled ones."""
    any_comply_low: float
    """Lower end of the 95 % interval (Wilson) of `any_comply` over requests."""
    any_comply_high: float
    """Upper end of that interval."""


def sampled_answer_rows(
    steps: StepCache,
    target: ChatTarget,
    requests: Mapping[str, TextRequests],
    sampling: SamplingSettings,
) -> Rows:
    """Sampled answers with the verdict of every judge, cached by family.

    Args:
        steps: Cache of the answers; verdicts are computed anew.
        target: The model.
        requests: Requests by family.
        sampling: Number of samples and temperature.

    Returns:
        One row per request and sample: the fields of `SampleRow`, `degenerate` and one column per judge.
    """
    rows: Rows = []
    assert sampling.temperature is not None  # there are samples
    sampler = replace(target, sampling=Sampling(sampling.temperature, target.settings.seed))
    depends_on = {"samples": sampling.samples, "temperature": sampling.temperature}
    for family, batch in requests.items():
        rows += steps.run(
            f"samples {family}",
            partial(_sample_rows, sampler, repeat_requests(batch, sampling.samples), family),
            total=len(batch) * sampling.samples,
            depends_on=depends_on,
            states=re.escape(ANSWERS_FILE),
        )
    return with_verdicts(rows)


def sample_rate_rows(samples: Rows, answers: Rows, sampling: SamplingSettings) -> list[SampleRateRow]:
    """Rates of sampled answers by family and judge, beside those of the greedy answers.

    Args:
        samples: Rows of `sampled_answer_rows`.
        answers: Greedy answers to the same requests, with verdicts.
        sampling: Number of samples and temperature.

    Returns:
        One row per family and judge.
    """
    families = dict.fromkeys(row["family"] for row in samples)
    return [_rate_row(samples, answers, family, judge, sampling) for family in families for judge in JUDGES]


def _rate_row(
    samples: Rows, answers: Rows, family: str, judge: str, sampling: SamplingSettings
) -> SampleRateRow:
    greedy = [row for row in answers if row["family"] == family]
    rows = [row for row in samples if row["family"] == family]
    shape = len(greedy), sampling.samples  # samples of one request follow one another
    refuses = np.array([is_refusal(row, judge) for row in rows]).reshape(shape)
    complies = np.array([is_compliance(row, judge) for row in rows]).reshape(shape)
    n_any = int(complies.any(axis=1).sum())
    low, high = clustered_share_interval(refuses.mean(axis=1).tolist(), sampling.samples)
    any_low, any_high = wilson_interval(n_any, len(greedy))
    assert sampling.temperature is not None  # there are samples
    return SampleRateRow(
        family=family,
        judge=judge,
        n=len(greedy),
        samples=sampling.samples,
        temperature=sampling.temperature,
        greedy_refuse=float(np.mean([is_refusal(row, judge) for row in greedy])),
        refuse=float(refuses.mean()),
        low=low,
        high=high,
        degenerate=float(np.mean([row["degenerate"] for row in rows])),
        greedy_comply=float(np.mean([is_compliance(row, judge) for row in greedy])),
        comply=float(complies.mean()),
        any_comply=n_any / len(greedy),
        any_comply_low=any_low,
        any_comply_high=any_high,
    )


@cache_revision(1)
def _sample_rows(
    target: ChatTarget, requests: TextRequests, family: str, progress: Progress, folder: Path
) -> list[SampleRow]:
    with AnswerCheckpoint.open(folder) as checkpoint:
        answers = replace(target, checkpoint=checkpoint).answer(requests, progress)
    texts, numbers = requests.truth["request"].tolist(), requests.truth["sample"].tolist()
    return [SampleRow(family, *row) for row in zip(texts, numbers, answers, strict=True)]
