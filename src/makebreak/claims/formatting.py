"""Evaluated claims as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from makebreak.claims.evaluation import ClaimRow

_MOST_DECIMALS = 6


def format_value(row: ClaimRow | Mapping[str, Any]) -> str:
    """Estimate of a claim with its interval and number of seeds, such as `0.38 [0.21, 0.55], n = 5`.

    Args:
        row: The evaluated claim.

    Returns:
        The text, with as many decimals as the interval needs to have a width, at least two.
    """
    values = row._asdict() if isinstance(row, ClaimRow) else row
    if values["estimate"] is None:
        return "not run" if values["verdict"] == "not run" else values["verdict"]
    interval = values["interval"]
    scale = abs(values["estimate"]) if interval is None else (interval[1] - interval[0]) / 2
    decimals = min(max(2, -math.floor(math.log10(scale))), _MOST_DECIMALS) if scale > 0 else 2

    def text(value: float) -> str:
        return f"{round(value, decimals) + 0.0:.{decimals}f}"  # + 0.0: no minus before a zero

    if interval is None:
        return f"{text(values['estimate'])}, n = {values['n_seeds']}"
    ends = f"[{text(interval[0])}, {text(interval[1])}]"
    return f"{text(values['estimate'])} {ends}, n = {values['n_seeds']}"


def format_finding(row: ClaimRow) -> str:
    """Value of a claim and its verdict for a sentence, such as `0.38 [0.21, 0.55], n = 5 (supported)`.

    Args:
        row: The evaluated claim.

    Returns:
        The text; an inconclusive claim is `not decided`, and one that was not run has no value.
    """
    verdict = "not decided" if row.verdict == "inconclusive" else row.verdict
    return verdict if row.estimate is None else f"{format_value(row)} ({verdict})"


def format_claims(rows: Sequence[ClaimRow]) -> str:
    """The claims as an aligned table for the terminal."""
    signs = {"above": ">", "below": "<", "within": "±"}
    cells = [("id", "role", "verdict", "value", "95 % interval", "bound", "seeds", "statement")]
    for row in rows:
        estimate = "n/a" if row.estimate is None else f"{row.estimate:+.3f}"
        interval = "n/a" if row.interval is None else f"[{row.interval[0]:+.3f}, {row.interval[1]:+.3f}]"
        bound = "n/a" if row.bound is None else f"{signs[row.side]} {row.bound:g}"
        seeds = str(row.n_seeds)
        cells.append((row.id, row.role, row.verdict, estimate, interval, bound, seeds, row.statement))
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]) - 1)]
    lines = []
    for *columns, statement in cells:
        padded = [cell.ljust(width) for cell, width in zip(columns, widths, strict=True)]
        lines.append("  ".join([*padded, statement]))
    return "\n".join(lines)
