"""Evaluation of the claims of a study on its tables: rows of claims.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from makebreak.claims.claim import Claim, NotRun, Tables, Verdict, are_equal
from makebreak.stats import holm_adjust, mean_confidence_interval

LEVEL = 0.025
"""One-sided level of a verdict, that of a 95 % interval; primary claims are tested together at this level."""


class ClaimRow(NamedTuple):
    """An evaluated claim, a row of claims.json."""

    id: str
    """Name of the claim."""
    role: str
    """`primary`, `part` or `check`."""
    statement: str
    """The claim as a sentence."""
    source: str
    """Paper and place that the claim is from, or `ours`."""
    quantity: str
    """What the value is, in words."""
    unit: str
    """Unit of estimate, interval, bound, no_effect and negligible."""
    estimate: float | None
    """Mean over seeds; None if the claim was not run, or is a conjunction."""
    interval: list[float] | None
    """95 % Student interval over seeds; None for one seed, and if all seeds are equal."""
    side: str
    """Where the value is claimed to lie: `above`, `below` or `within` the bound."""
    bound: float | None
    """Bound that the value must pass; None for a conjunction."""
    bound_source: str
    """Who set the bound."""
    no_effect: float | None
    """Value under no effect."""
    negligible: float
    """Distance from no effect below which a value is negligible."""
    n_seeds: int
    """Number of seeds with a value."""
    values: dict[str, float | None]
    """Value by seed."""
    tables: list[str]
    """Tables that the values were computed from."""
    p_value: float | None
    """Level at which the interval first has the verdict (`Claim.p_value`)."""
    p_holm: float | None
    """The same, adjusted for all primary claims of the study; None for parts and checks."""
    verdict: Verdict
    """The verdict; for a primary claim, after the adjustment."""
    reason: str
    """Why a claim was not run, why there is no interval, or what the adjustment changed."""


def evaluate_claims(claims: Sequence[Claim], tables: Tables) -> list[ClaimRow]:
    """Evaluates claims, with Holm's correction over the primary ones.

    Args:
        claims: The claims; those of a conjunction come with it.
        tables: Tables of the study.

    Returns:
        One row per claim, in their order.

    Raises:
        ValueError: If two claims have one id, or a conjunction names a claim that does not exist.
    """
    ids = [claim.id for claim in claims]
    if len(set(ids)) < len(ids):
        raise ValueError(f"claims {sorted(name for name in set(ids) if ids.count(name) > 1)} appear twice")
    rows = {claim.id: _evaluate(claim, tables) for claim in claims if not claim.parts}
    for claim in claims:
        if claim.parts:
            missing = [name for name in claim.parts if name not in rows]
            if missing:
                raise ValueError(f"claim {claim.id} is a conjunction of {missing}, which are no claims")
            rows[claim.id] = _conjunction(claim, [rows[name] for name in claim.parts])
    return _holm([rows[name] for name in ids])


def _evaluate(claim: Claim, tables: Tables) -> ClaimRow:
    assert claim.value is not None
    empty = _empty_row(claim)
    try:
        read = _ReadTables(tables)
        values = claim.value(read)
    except NotRun as error:
        return empty._replace(reason=str(error))
    by_seed = {str(seed): float(v) if np.isfinite(v) else None for seed, v in values.items()}
    defined = [value for value in by_seed.values() if value is not None]
    row = empty._replace(values=by_seed, tables=list(read.names), n_seeds=len(defined))
    if not defined or len(defined) < len(by_seed):
        return row._replace(reason=f"undefined on {len(by_seed) - len(defined)} of {len(by_seed)} seeds")
    mean, low, high, n = mean_confidence_interval(defined)
    row = row._replace(estimate=mean, verdict="inconclusive")
    if low is None or high is None:
        return row._replace(reason="one seed has no interval")
    is_constant = are_equal(defined)
    verdict = claim.verdict(mean, mean) if is_constant else claim.verdict(low, high)
    row = row._replace(p_value=claim.p_value(defined, verdict), verdict=verdict)
    if is_constant:
        return row._replace(reason=f"at ceiling or floor: all {n} seeds have this value")
    return row._replace(interval=[low, high])


class _ReadTables(dict[str, pd.DataFrame]):
    """Tables that remember which of them were read by name."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        self.names: dict[str, None] = {}

    def __getitem__(self, name: str) -> pd.DataFrame:
        table = super().__getitem__(name)
        self.names[name] = None
        return table

    def get(self, name: str, default: Any = None, /) -> Any:
        try:
            return self[name]
        except KeyError:
            return default


def _empty_row(claim: Claim) -> ClaimRow:
    """The row of a claim that was not run."""
    is_conjunction = bool(claim.parts)
    return ClaimRow(
        id=claim.id,
        role=claim.role,
        statement=claim.statement,
        source=claim.source,
        quantity=claim.quantity or f"all of {', '.join(claim.parts)}",
        unit=claim.unit,
        estimate=None,
        interval=None,
        side=claim.side,
        bound=None if is_conjunction else claim.bound,
        bound_source=claim.bound_source,
        no_effect=None if is_conjunction else claim.null,
        negligible=claim.negligible,
        n_seeds=0,
        values={},
        tables=[],
        p_value=None,
        p_holm=None,
        verdict="not run",
        reason="",
    )


def _conjunction(claim: Claim, parts: Sequence[ClaimRow]) -> ClaimRow:
    """The least favourable verdict of the parts, with its p.

    All parts have to be supported, so that the largest p counts (intersection-union test); any other verdict
    is that of one part among several, whose p is adjusted for their number.
    """
    order: tuple[Verdict, ...] = (
        "not run",
        "contradicted",
        "negligible",
        "weaker than stated",
        "inconclusive",
        "supported",
    )
    worst = min(parts, key=lambda row: (order.index(row.verdict), -(row.p_value or 0.0)))
    same = [row.id for row in parts if row.verdict == worst.verdict]
    p_values = [row.p_value for row in parts if row.p_value is not None]
    p = None if worst.p_value is None else min(1.0, len(parts) * worst.p_value)
    if worst.verdict == "supported":
        p = max(p_values, default=None)
    reason = "" if worst.verdict == "supported" else f"{worst.verdict}: {', '.join(same)}"
    tables = list(dict.fromkeys(name for row in parts for name in row.tables))
    return _empty_row(claim)._replace(
        n_seeds=min(row.n_seeds for row in parts),
        tables=tables,
        p_value=p,
        verdict=worst.verdict,
        reason=reason,
    )


def _holm(rows: list[ClaimRow]) -> list[ClaimRow]:
    """Primary claims with adjusted p; a verdict that does not survive becomes inconclusive.

    A claim that was not run counts among them, so that leaving one out makes no other one easier.
    """
    primary = [row for row in rows if row.role == "primary"]
    p_values = [1.0 if row.p_value is None else row.p_value for row in primary]
    pairs = zip(primary, holm_adjust(p_values), strict=True)
    adjusted = {row.id: p for row, p in pairs if row.p_value is not None}
    result = []
    for row in rows:
        p = adjusted.get(row.id)
        corrected = row._replace(p_holm=p)
        if p is not None and p >= LEVEL and row.verdict != "inconclusive":
            reason = f"{row.verdict} alone, not after Holm's correction over {len(primary)} primary claims"
            corrected = corrected._replace(verdict="inconclusive", reason=reason)
        result.append(corrected)
    return result
