"""Results of the synthetic worlds and of the language model side by side, claim by claim."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.real.claims import synthetic_study

RECORD = Path(__file__).with_name("record.csv")
"""Published results of the synthetic worlds at `small` (docs/results)."""
SAME, OPPOSITE = "same verdict", "opposite verdict"
"""Comparison of two verdicts that are decided."""
NOT_RUN = "not run"
"""Verdict of a claim without a result."""
_DECIDED = ("supported", "not supported")


class SyntheticResult(NamedTuple):
    """Result of a claim in the synthetic world of its study."""

    estimate: float
    """Estimate, mean over pretraining seeds."""
    low: float | None
    """Lower end of the 95 % interval; None for one seed."""
    high: float | None
    """Upper end of the interval; None for one seed."""
    verdict: str
    """Verdict of the claim."""
    study: str
    """Study of the claim."""
    source: str
    """Study and preset, and whether the result was computed here or is of record."""


class SideBySideRow(NamedTuple):
    """One claim in the synthetic world and on the language model."""

    id: str
    """Id of the claim in both studies."""
    statement: str
    """The claim as a sentence."""
    synthetic: str
    """Estimate and interval in the synthetic world."""
    synthetic_verdict: str
    """Verdict there."""
    real: str
    """Estimate and interval on the language model."""
    real_verdict: str
    """Verdict there."""
    comparison: str
    """`same verdict`, `opposite verdict`, or which of the two is not decided."""
    synthetic_source: str
    """Where the result of the synthetic world is from; empty if there is none."""


def synthetic_results(claims: Sequence[Mapping[str, Any]], runs: Path) -> dict[str, SyntheticResult]:
    """Results of claims in the synthetic worlds, by id.

    Args:
        claims: Rows of claims.json, whose studies are looked up.
        runs: Folder of all studies' results.

    Returns:
        The result of preset `small` if it was run here, else the one of record, else that of preset `mini`.
    """
    studies = {synthetic_study(claim["id"]) for claim in claims}
    return {
        **_results_of_runs(studies, runs, "mini"),
        **_results_of_record(),
        **_results_of_runs(studies, runs, "small"),
    }


def _results_of_record() -> dict[str, SyntheticResult]:
    results = {}
    with RECORD.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            estimate, low, high = float(row["estimate"]), float(row["low"]), float(row["high"])
            source = f"{row['study']} {row['preset']}, of record"
            results[row["id"]] = SyntheticResult(estimate, low, high, row["verdict"], row["study"], source)
    return results


def _results_of_runs(studies: Collection[str], runs: Path, preset: str) -> dict[str, SyntheticResult]:
    results = {}
    for study in studies:
        path = runs / study / preset / "claims.json"
        if not path.is_file():
            continue
        for row in json.loads(path.read_text()):
            if synthetic_study(row["id"]) == study and row["estimate"] is not None:
                low, high = row["interval"]
                source = f"{study} {preset}, run here"
                results[row["id"]] = SyntheticResult(
                    row["estimate"], low, high, row["verdict"], study, source
                )
    return results


def compare_verdicts(synthetic: str, real: str) -> str:
    """Comparison of the verdicts of a claim in the synthetic world and on the language model."""
    if synthetic not in _DECIDED:
        return "not decided in the synthetic world"
    if real not in _DECIDED:
        return f"not decided on the real model ({real})"
    return SAME if synthetic == real else OPPOSITE


def side_by_side_rows(claims: Sequence[Mapping[str, Any]], runs: Path) -> list[SideBySideRow]:
    """Sets the results of both studies side by side.

    Args:
        claims: Rows of claims.json on the language model.
        runs: Folder of all studies' results.

    Returns:
        One row per claim; checks are left out.
    """
    results = synthetic_results(claims, runs)
    rows = []
    for claim in claims:
        if claim["kind"] == "check":
            continue
        result = results.get(claim["id"])
        synthetic, verdict, source = NOT_RUN, NOT_RUN, ""
        if result is not None:
            synthetic = _format_interval(result.estimate, result.low, result.high)
            verdict, source = result.verdict, result.source
        rows.append(
            SideBySideRow(
                claim["id"],
                claim["statement"],
                synthetic,
                verdict,
                _format_interval(claim["estimate"], *claim["interval"]),
                claim["verdict"],
                compare_verdicts(verdict, claim["verdict"]),
                source,
            )
        )
    return rows


def _format_interval(estimate: float | None, low: float | None, high: float | None) -> str:
    if estimate is None:
        return "n/a"
    return f"{estimate:.2f}" + ("" if low is None or high is None else f" [{low:.2f}, {high:.2f}]")
