"""Quantities of two checkpoints side by side, over all requests and request by request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedModel

from makebreak.evaluation import first_tokens, log_odds, next_token_log_probs
from makebreak.prompts import TextRequests, request_truth
from makebreak.revisions import cache_revision
from makebreak.tables import Rows


class RequestLogOddsRow(NamedTuple):
    """Log-odds that a refusal begins after one prompt, in nats, in two models that read the same tokens."""

    family: str
    """Family of the request."""
    request: str
    """The request."""
    base_log_odds: float
    """Log-odds in the base."""
    aligned_log_odds: float
    """Log-odds in the aligned model."""
    change: float
    """Log-odds in the aligned model less those in the base."""


class QuantityRow(NamedTuple):
    """One quantity of two models."""

    quantity: str
    """What is measured, with its unit if it has one."""
    family: str
    """Family of the requests."""
    n: int
    """Number of requests."""
    base: float
    """Value of the base."""
    aligned: float
    """Value of the aligned model."""
    difference: float
    """Value of the aligned model less that of the base."""


@cache_revision(1)
def request_log_odds_rows(
    requests: Mapping[str, TextRequests], *, base: PreTrainedModel, tuned: PreTrainedModel
) -> list[RequestLogOddsRow]:
    """Log-odds of a refusal under both models, the greatest change first.

    Args:
        requests: Requests by family, of which both models read the same tokens.
        base: The model before alignment.
        tuned: The model after it.

    Returns:
        One row per request.
    """
    rows = []
    for family, batch in requests.items():
        refusal = first_tokens(batch, "refused")
        before, after = (
            log_odds(next_token_log_probs(model, batch), refusal).tolist() for model in (base, tuned)
        )
        texts = request_truth(batch, "request").tolist()
        for text, first, second in zip(texts, before, after, strict=True):
            rows.append(RequestLogOddsRow(family, text, first, second, second - first))
    return sorted(rows, key=lambda row: -abs(row.change))


def quantity_rows(tables: Mapping[str, Rows]) -> list[QuantityRow]:
    """What both models have, side by side: refusals at the first token, log-odds, margin and sensitivity.

    Args:
        tables: The tables answer_rates, request_log_odds, stitching and sensitivity of a comparison.

    Returns:
        One row per quantity and family.
    """
    rows = [
        _row(
            "refusal is the likeliest first token (share)",
            rate["family"],
            rate["n"],
            rate["base_rate"],
            rate["tuned_rate"],
        )
        for rate in tables["answer_rates"]
    ]
    by_family: dict[str, Rows] = {}
    for row in tables["request_log_odds"]:
        by_family.setdefault(row["family"], []).append(row)
    for family, own in by_family.items():
        base, aligned = (
            float(np.mean([row[f"{name}_log_odds"] for row in own])) for name in ("base", "aligned")
        )
        rows.append(_row("log-odds of a refusal, mean (nats)", family, len(own), base, aligned))
    cut = tables["stitching"][0]
    n = cut["n_requests"]
    rows.append(
        _row("margin of a refusal, mean (nats)", "harmful", n, cut["base_margin"], cut["tuned_margin"])
    )
    names = {"max_logit": "the greatest logit", "log_p": "its log-probability"}
    sizes = {rate["family"]: rate["n"] for rate in tables["answer_rates"]}
    for row in tables["sensitivity"]:
        quantity = f"gradient norm of {names.get(row['output'], row['output'])}, median"
        n = sizes[row["family"]]
        rows.append(_row(quantity, row["family"], n, row["base_median"], row["aligned_median"]))
    return rows


def _row(quantity: str, family: str, n: int, base: float, aligned: float) -> QuantityRow:
    return QuantityRow(quantity, family, n, base, aligned, aligned - base)
