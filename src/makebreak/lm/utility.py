"""Loss on plain text beside every number on safety, with intervals over texts.

A change that lowers refusal and raises this loss has damaged the model, not only its refusals. The texts are
40 paragraphs of general knowledge in plain English, which the authors of the package wrote for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from makebreak.evaluation import TextLossRow, text_losses
from makebreak.lm.prompts import prompts_digest
from makebreak.lm.step_cache import StepCache
from makebreak.models import LanguageModel, model_digest
from makebreak.prompts import plain_texts
from makebreak.revisions import cache_revision
from makebreak.stats import ratio_interval
from makebreak.store import Store
from makebreak.tables import Rows

UNCHANGED = "nothing"
"""Condition of a model without an intervention."""


class UtilityRow(NamedTuple):
    """Loss of a model on plain text under one condition."""

    condition: str
    """`before` or `after` training, `base` or `aligned`, or an intervention; `nothing` for none."""
    n: int
    """Number of texts."""
    tokens: int
    """Number of tokens that are predicted."""
    nll: float
    """Mean negative log-likelihood per token, in nats."""
    low: float
    """Lower end of its 95 % interval over texts."""
    high: float
    """Upper end of that interval."""
    increase: float | None
    """Increase over the first condition, in nats per token, on the same texts; None for the first one, and
    where the tokens are others."""
    increase_low: float | None
    """Lower end of the 95 % interval of the increase over texts."""
    increase_high: float | None
    """Upper end of that interval."""


def text_loss_rows(lm: LanguageModel, store: Store) -> Rows:
    """Loss of a model on each of our plain texts, cached.

    Args:
        lm: The model.
        store: Cache of the losses.

    Returns:
        The fields of `TextLossRow`, one row per text.
    """
    texts = plain_texts()
    steps = StepCache(
        "utility", store, {"model": model_digest(lm), "texts": prompts_digest({"plain": texts})}
    )
    return steps.run("of a model", partial(measure_text_losses, lm, texts))


@cache_revision(1)
def measure_text_losses(lm: LanguageModel, texts: Sequence[str]) -> list[TextLossRow]:
    """Loss of a model on each text (`text_losses`), as a step of a cache."""
    return text_losses(lm, texts)


def utility_rows(losses: Mapping[str, Rows]) -> list[UtilityRow]:
    """Loss by condition, and its increase over the first one.

    Args:
        losses: Rows of `text_loss_rows` by condition, of the same texts.

    Returns:
        One row per condition.
    """
    first = next(iter(losses.values()))
    return [_utility_row(condition, rows, first) for condition, rows in losses.items()]


def _utility_row(condition: str, rows: Rows, first: Rows) -> UtilityRow:
    tokens, total = _column(rows, "tokens"), _column(rows, "nll") * _column(rows, "tokens")
    before = _column(first, "nll") * _column(first, "tokens")
    is_comparable = rows is not first and np.array_equal(tokens, _column(first, "tokens"))
    increase = ratio_interval(total - before, tokens) if is_comparable else (None, None, None)
    n_tokens = int(tokens.sum())
    return UtilityRow(condition, len(rows), n_tokens, *ratio_interval(total, tokens), *increase)


def _column(rows: Rows, name: str) -> Any:
    return np.array([row[name] for row in rows], dtype=np.float64)
