"""Result of a study, and the sentences in which its claims are reported; common to all studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.earlier_claims import Verdict

_VERDICTS: tuple[Verdict, ...] = ("supported", "not supported", "inconclusive", "not run")


@dataclass(frozen=True)
class Results:
    """Tables and claims of a study, and where they come from."""

    tables: dict[str, pd.DataFrame]
    """Tables by name, one row per model and whatever else the table distinguishes."""
    claims: list[dict[str, Any]]
    """Rows of claims.json, as `Claim.evaluate` returns them."""
    folders: list[Path]
    """Folders of the store that the tables were computed from."""


def format_estimate(
    claims: Mapping[str, Mapping[str, Any]], claim: str, plus: float = 0.0, sign: int = 1
) -> str:
    """Estimate of a claim, converted to the unit of a sentence, with its verdict in brackets.

    Args:
        claims: Rows of claims.json by id.
        claim: Id of the claim.
        plus: What is added, because the statistic of a claim has its threshold subtracted.
        sign: -1 if the statistic is a threshold minus the quantity that the sentence names, else 1.

    Returns:
        `plus` + `sign` · estimate with two decimals and the verdict, or "n/a" if the claim was not run.
    """
    row = claims[claim]
    if row["estimate"] is None:
        return "n/a"
    return f"{round(plus + sign * row['estimate'], 2) + 0.0:.2f} ({row['verdict']})"


def format_verdicts(claims: Sequence[Mapping[str, Any]]) -> str:
    """One sentence that lists the ids of the claims by verdict; checks are left out."""
    parts = []
    for verdict in _VERDICTS:
        ids = [row["id"] for row in claims if row["verdict"] == verdict and row["kind"] == "claim"]
        if ids:
            parts.append(f"{verdict}: {', '.join(ids)}")
    return f"Of the claims examined, {'; '.join(parts)}."
