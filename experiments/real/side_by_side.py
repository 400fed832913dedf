"""Claims of the synthetic worlds and of the language model side by side.

`python -m experiments.real.side_by_side RUNS` puts results of the synthetic studies at `small` that lie in
RUNS/STUDY/small/claims.json on record.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import pandas as pd

from experiments.real.claims import CLAIMS, COUNTERPARTS
from makebreak.claims import ClaimRow, Tables, evaluate_claims
from makebreak.store import write_atomic

RECORD = Path(__file__).with_name("record.csv")
"""Results of the synthetic worlds, in natural units."""
SAME, DIFFERENT, EARLIER = "same verdict", "different verdict", "earlier definition"
"""Comparison of two verdicts that are decided, and of one that is of an earlier definition."""
_UNDECIDED = ("inconclusive", "not run")


class RecordRow(NamedTuple):
    """Result of a claim in a synthetic world, a row of record.csv."""

    study: str
    """Study of the claim."""
    preset: str
    """Its preset."""
    id: str
    """Id of the claim in that study."""
    estimate: float
    """Mean over pretraining seeds, in the unit of the claim."""
    low: float | None
    """Lower end of the 95 % Student interval; None where all seeds are equal."""
    high: float | None
    """Upper end of the interval."""
    verdict: str
    """Verdict of the claim, as published."""
    definition: Literal["present", "earlier"]
    """`earlier` if verdict and bound are of before 2026-11-27, when there was one word, `not supported`, for
    contradicted, negligible and weaker than stated."""
    note: str
    """What the quantity was, where it was another one; else empty."""


class SideBySideRow(NamedTuple):
    """One claim in the synthetic world and on the language model."""

    id: str
    """Id of the claim."""
    statement: str
    """The claim as a sentence."""
    unit: str
    """Unit of both estimates."""
    synthetic: str
    """Estimate and interval in the synthetic world."""
    synthetic_verdict: str
    """Verdict there."""
    real: str
    """Estimate and interval on the language model."""
    real_verdict: str
    """Verdict there."""
    comparison: str
    """`same verdict`, `different verdict`, which of the two is not decided, or `earlier definition`."""
    synthetic_source: str
    """Study, preset and id of the synthetic result, with its note; empty if there is none."""


def read_record(path: Path = RECORD) -> dict[tuple[str, str], RecordRow]:
    """Reads the results of the synthetic worlds that are on record.

    Args:
        path: The CSV file.

    Returns:
        Study and id → result.
    """
    rows = pd.read_csv(path).fillna({"note": ""}).to_dict("records")
    return {(row["study"], row["id"]): RecordRow(**cast("dict[str, Any]", row)) for row in rows}


def compare_verdicts(synthetic: RecordRow | None, verdict: str) -> str:
    """Comparison of the verdicts of a claim in the synthetic world and on the language model.

    Args:
        synthetic: The result of record.
        verdict: Verdict on the language model.

    Returns:
        See `SideBySideRow.comparison`; a verdict of an earlier definition is compared with none.
    """
    if synthetic is None:
        return "not run in the synthetic world"
    if synthetic.definition == "earlier":
        return EARLIER
    if synthetic.verdict in _UNDECIDED:
        return f"not decided in the synthetic world ({synthetic.verdict})"
    if verdict in _UNDECIDED:
        return f"not decided on the real model ({verdict})"
    return SAME if synthetic.verdict == verdict else DIFFERENT


def side_by_side_rows(
    claims: Iterable[ClaimRow], record: Mapping[tuple[str, str], RecordRow]
) -> list[SideBySideRow]:
    """Sets the results of both studies side by side.

    Args:
        claims: Evaluated claims on the language model.
        record: Results of the synthetic worlds by study and id.

    Returns:
        One row per claim; checks are left out.
    """
    rows = []
    for claim in claims:
        if claim.role == "check":
            continue
        result = record.get(COUNTERPARTS.get(claim.id, ("", "")))
        synthetic, source, verdict = "n/a", "", "not run"
        if result is not None:
            synthetic = _format_interval(result.estimate, result.low, result.high)
            verdict = f"{result.verdict} ({EARLIER})" if result.definition == "earlier" else result.verdict
            parts = (f"{result.study} {result.preset} {result.id}", result.note)
            source = ": ".join(part for part in parts if part)
        low, high = claim.interval or (None, None)
        rows.append(
            SideBySideRow(
                claim.id,
                claim.statement,
                claim.unit,
                synthetic,
                verdict,
                _format_interval(claim.estimate, low, high),
                claim.verdict,
                compare_verdicts(result, claim.verdict),
                source,
            )
        )
    return rows


def _format_interval(estimate: float | None, low: float | None, high: float | None) -> str:
    if estimate is None:
        return "n/a"
    interval = "" if pd.isna(low) or pd.isna(high) else f" [{low:.2f}, {high:.2f}]"
    return f"{estimate:.2f}{interval}"


def side_by_side_table(tables: Tables) -> pd.DataFrame:
    """The claims of the study, evaluated on its tables, beside those of record."""
    return pd.DataFrame(
        side_by_side_rows(evaluate_claims(CLAIMS, tables), read_record()), columns=SideBySideRow._fields
    )


def update_record(runs: Path, path: Path = RECORD) -> list[str]:
    """Puts results of the synthetic studies at `small` on record; others stay.

    Args:
        runs: Folder of all studies' results.
        path: The CSV file of record.

    Returns:
        Ids that were put on record.
    """
    record = read_record(path)
    names = []
    for study, name in COUNTERPARTS.values():
        file = runs / study / "small" / "claims.json"
        evaluated = (
            [row for row in json.loads(file.read_text()) if row["id"] == name] if file.is_file() else []
        )
        for row in evaluated:
            if row["estimate"] is not None:
                low, high = row["interval"] or (None, None)
                result = RecordRow(
                    study, "small", name, row["estimate"], low, high, row["verdict"], "present", ""
                )
                record[study, name] = result
                names.append(name)
    write_atomic(path, pd.DataFrame(record.values()).to_csv(index=False, float_format="%.3f"))
    return names


def main(arguments: Sequence[str]) -> int:
    """Updates the record from a folder of results."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print(
            "usage: python -m experiments.real.side_by_side RUNS, a folder of studies' results",
            file=sys.stderr,
        )
        return 2
    print(f"on record: {' '.join(update_record(Path(arguments[0]))) or 'nothing new'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
