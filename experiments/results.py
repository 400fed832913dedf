"""What is a study's result, and how are its claims put into a sentence? Common to studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Results:
    """The study's tables, its claims, and the folders that everything came from."""

    tables: dict[str, pd.DataFrame]
    claims: list[dict[str, Any]]
    folders: list[Path]


def teller(claims: Mapping[str, Mapping[str, Any]]) -> Callable[..., str]:
    """told(ID, plus=0, sign=1): plus + sign · the estimate of a claim, and its verdict. claims: by id."""

    def told(claim: str, plus: float = 0.0, sign: int = 1) -> str:
        row = claims[claim]
        if row["estimate"] is None:
            return "n/a"
        return f"{round(plus + sign * row['estimate'], 2) + 0.0:.2f} ({row['verdict']})"

    return told


def by_verdict(claims: Sequence[Mapping[str, Any]]) -> str:
    """Which claims were supported, which not …, checks left out."""
    verdicts = {
        v: [c["id"] for c in claims if c["verdict"] == v and c["kind"] == "claim"]
        for v in ("supported", "not supported", "inconclusive", "not run")
    }
    return (
        "Of the claims examined, "
        + "; ".join(f"{v}: {', '.join(ids)}" for v, ids in verdicts.items() if ids)
        + "."
    )
