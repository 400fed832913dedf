"""Claims about activations and weights (M1 to M4) where refusal falls."""

from __future__ import annotations

import pandas as pd

from experiments.jan2024.claim_values import UNIFORM
from experiments.jan2024.matrices import rank_correlation
from experiments.rate_differences import POINTS
from makebreak.claims import Claim, Tables, for_each_seed, rows_of


def _internals(tables: Tables) -> pd.DataFrame:
    """Cells of the matrix at one learning rate, with widths before and rises."""
    internals = rows_of(tables, "internals", coverage=UNIFORM)
    cells = internals.merge(tables["widths"], on=["seed", "coverage", "format"])
    return cells.assign(rise=cells.refuse_before - cells.refuse)


def _rise_and_lost_separation(tables: Tables) -> float | None:
    cells = _internals(tables)
    return rank_correlation(cells.rise, cells.separation_before - cells.separation)


def _upper_minus_lower(tables: Tables) -> float | None:
    cells = _internals(tables)
    upper, lower = cells.refuse_tuned_upper, cells.refuse_tuned_lower
    total = float(cells.rise.sum())
    return float((lower - upper).sum()) / total if total > POINTS * len(cells) else None


def _rise_and_lost_null_share(tables: Tables) -> float | None:
    cells = _internals(tables)
    return rank_correlation(cells.rise, cells.null_share_before - cells.null_share)


def _rise_and_width(tables: Tables) -> float | None:
    cells = _internals(tables)
    return rank_correlation(cells.rise, cells.width)


INTERNAL_CLAIMS = (
    Claim(
        id="M1",
        statement="Where refusal falls, the separation of the classes falls",
        quantity="rank correlation of the rise and the loss of the normalised separation, cells of a seed",
        unit="rank correlation",
        value=for_each_seed(_rise_and_lost_separation),
    ),
    Claim(
        id="M2",
        statement="The tuned upper half accounts for more of the rise than the tuned lower half",
        quantity="share of the rise with the tuned upper half and the aligned lower one minus that with the "
        "tuned lower half, all cells together",
        unit="share",
        value=for_each_seed(_upper_minus_lower),
        negligible=0.1,
    ),
    Claim(
        id="M3",
        statement="Where refusal falls, the null share of unsafe requests falls",
        quantity="rank correlation of the rise and the loss of the null share above that of safe requests, "
        "cells of a seed",
        unit="rank correlation",
        value=for_each_seed(_rise_and_lost_null_share),
    ),
    Claim(
        id="M4",
        statement="Refusal falls more in formats with a smaller half-width before fine-tuning",
        quantity="rank correlation of the rise and the half-width before, cells of a seed",
        unit="rank correlation",
        value=for_each_seed(_rise_and_width),
        side="below",
    ),
)
"""Descriptive claims about activations and weights."""
