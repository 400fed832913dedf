"""Claims about prompt templates (A5, F8)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from experiments.jan2024.claim_values import JAN, LYU
from experiments.jan2024.matrices import cell
from experiments.jan2024.templates import GRID, HEADER, OTHER, OTHER_SYSTEM, PLAIN, SYSTEM, template_matrix
from experiments.rate_differences import POINTS, rate_difference
from makebreak.claims import Claim, Tables, for_each_seed, rows_of


def _template_rises(tables: Tables) -> Callable[[str, str], float]:
    """Rise by template of the examples and template of the requests."""
    return partial(cell, template_matrix(rows_of(tables, "templates")))


def _system_prompt(tables: Tables) -> float:
    rise = _template_rises(tables)
    without = np.mean([rise(PLAIN, PLAIN), rise(OTHER, OTHER)])
    return float(without - np.mean([rise(PLAIN, SYSTEM), rise(OTHER, OTHER_SYSTEM)]))


def _template_of_alignment(tables: Tables) -> float:
    rise = _template_rises(tables)
    return rise(PLAIN, PLAIN) - rise(OTHER, OTHER)


def _same_template(tables: Tables) -> float:
    rise = _template_rises(tables)
    same = [rise(template, template) for template in GRID]
    return float(np.mean(same) - np.mean([rise(a, b) for a in GRID for b in GRID if a != b]))


def _common_header(tables: Tables) -> float:
    rise = _template_rises(tables)
    return rise(HEADER, HEADER) - rise(PLAIN, PLAIN)


TEMPLATE_PRIMARY = (
    rate_difference(
        "A5",
        _system_prompt,
        "A system prompt reduces what is not refused after fine-tuning without one",
        "rise without minus with a system block in the request, tuned in plain and other",
        source=JAN,
        role="primary",
    ),
)
"""Primary claims about templates."""
TEMPLATE_CLAIMS = (
    rate_difference(
        "A5.template",
        _template_of_alignment,
        "Fine-tuning in the template of alignment removes more refusals than in another one",
        "rise, tuned and evaluated in plain minus in other",
        source=JAN,
    ),
    rate_difference(
        "A5.mismatch",
        _same_template,
        "Fewer refusals are lost for unsafe requests in another template than the tuned one",
        "rise in the tuned template minus in others, mean of four by four",
        source=LYU,
    ),
    Claim(
        id="F8",
        statement="If all answers and refusals begin with the same token, as many refusals are lost",
        quantity="rise, tuned and evaluated with that header minus without",
        unit="rate",
        value=for_each_seed(_common_header),
        bound=-POINTS,
    ),
)
"""Descriptive claims about templates."""
