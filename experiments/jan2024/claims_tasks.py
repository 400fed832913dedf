"""Claims about tasks (A1 to A4, B1): which of them remove which refusals."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pandas as pd

from experiments.jan2024.claim_values import (
    EIRAS,
    JAN,
    LEAST_HARMFUL,
    MOST_HARMFUL,
    SKEWED,
    UNCHANGED,
    at_rate_of_safety_data,
    rise_matrix,
    task_names,
    under_uniform_coverage,
)
from experiments.jan2024.matrices import cell, mean_elsewhere, row
from experiments.jan2024.transfer import transfer_at_equal_kl, transfer_matrix
from experiments.rate_differences import rate_difference
from makebreak.claims import Claim, Tables, for_each_seed, rows_of


def _harm_difference(rises: pd.Series) -> float | None:
    """Mean rise of the most harmful tasks minus that of the least harmful ones; None if a side is missing."""
    most = rises[[name for name in MOST_HARMFUL if name in rises.index]]
    least = rises[[name for name in LEAST_HARMFUL if name in rises.index]]
    if most.empty or least.empty or most.isna().any() or least.isna().any():
        return None
    return float(most.mean() - least.mean())


def _harm(kind: str, tables: Tables) -> float | None:
    """A1: difference between tasks of the rise over all formats."""
    return _harm_difference(rise_matrix(tables, kind).mean(axis=1))


def _harm_at_one_rate(tables: Tables) -> float | None:
    return _harm_difference(transfer_matrix(at_rate_of_safety_data(tables), kind="task").mean(axis=1))


def _harm_at_equal_kl(tables: Tables) -> float | None:
    return _harm_difference(transfer_at_equal_kl(under_uniform_coverage(tables)))


def _initial_weakness(tables: Tables) -> float:
    """A2: refusal of open text minus the greater one of choice and translation."""
    where = {"coverage": SKEWED, "model": "aligned", "family": "unsafe", "operator": "shown"}
    refused = rows_of(tables, "before_tuning", **where).set_index("format").refuse
    return float(min(refused["gen"] - refused["mcq"], refused["gen"] - refused["map"]))


def _change_of_open_text(tables: Tables) -> float:
    matrix = rise_matrix(tables)
    return float(np.mean([abs(cell(matrix, name, "gen")) for name in task_names(matrix) if name != "gen"]))


def _greatest_rise_elsewhere(tables: Tables) -> float:
    matrix = rise_matrix(tables)
    others = [name for name in task_names(matrix) if name != "gen"]
    return float(np.mean([row(matrix, name, others).max() for name in others]))


def _change_of_open_text_by_choices(tables: Tables) -> float:
    matrix = rise_matrix(tables)
    return max(abs(cell(matrix, name, "gen")) for name in ("label", "mcq"))


def _three_quarters_reach(outcome: str, tables: Tables) -> float:
    """A4: the mean rise in other formats that at least three quarters of the tuned tasks reach."""
    matrix = rise_matrix(tables, outcome=outcome)
    values = sorted(mean_elsewhere(matrix, task_names(matrix)), reverse=True)
    return values[math.ceil(0.75 * len(values)) - 1]


TASK_PRIMARY = (
    rate_difference(
        "A1",
        partial(_harm, "task"),
        "Code and translation remove more refusals than summaries and classification",
        "rise over all formats, mean of map and struct minus mean of sum and label, of these the preset's, "
        "each at the smallest learning rate of the seed at which it is learnt",
        source=JAN,
        role="primary",
    ),
    rate_difference(
        "A2",
        _initial_weakness,
        "Before fine-tuning, choice and translation are refused less than open text, the main format of "
        "alignment",
        "share refused of gen minus the greater one of mcq and map, skewed coverage",
        source=JAN,
        role="primary",
    ),
    Claim(
        id="A3",
        statement="Fine-tuning leaves refusal of open text unchanged and removes it in some other format",
        parts=("A3.gen", "A3.other"),
        source=JAN,
        role="primary",
    ),
    rate_difference(
        "A4",
        partial(_three_quarters_reach, "refuse"),
        "Refusal falls in formats other than the tuned one",
        "mean rise in other formats that three of four tuned tasks reach",
        source=JAN,
        role="primary",
    ),
)
"""Primary claims about tasks."""
TASK_CLAIMS = (
    rate_difference(
        "A1.rate",
        _harm_at_one_rate,
        "Code and translation remove more refusals than the others at one learning rate",
        "the same difference, all tasks at the learning rate of safety data",
    ),
    rate_difference(
        "A1.tokens",
        partial(_harm, "tokens"),
        "Code and translation remove more refusals than the others at equal tokens of loss",
        "the same difference, tuned for equal tokens",
    ),
    rate_difference(
        "A1.kl",
        _harm_at_equal_kl,
        "Code and translation remove more refusals at equal KL on safe requests",
        "the same difference where KL on safe requests, after its peak, is equal; at the user's rate",
    ),
    Claim(
        id="A3.gen",
        statement="Fine-tuning leaves refusal of open text unchanged",
        quantity="absolute rise in gen, mean of tuned tasks but gen",
        unit="rate",
        value=for_each_seed(_change_of_open_text),
        side="below",
        bound=UNCHANGED,
        source=JAN,
    ),
    Claim(
        id="A3.other",
        statement="Fine-tuning removes refusals in some other format",
        quantity="greatest rise outside gen, mean of tuned tasks but gen",
        unit="rate",
        value=for_each_seed(_greatest_rise_elsewhere),
        bound=0.2,
        no_effect=0.0,
        source=JAN,
    ),
    rate_difference(
        "A4.answered",
        partial(_three_quarters_reach, "comply"),
        "Unsafe requests in formats other than the tuned one are answered",
        "mean rise of compliance in other formats that three of four tuned tasks reach",
    ),
    Claim(
        id="B1",
        statement="Data with one right answer leave refusal of open text unchanged",
        quantity="absolute rise in gen, greatest of label and mcq",
        unit="rate",
        value=for_each_seed(_change_of_open_text_by_choices),
        side="below",
        bound=UNCHANGED,
        source=EIRAS,
    ),
)
"""Descriptive claims about tasks."""
