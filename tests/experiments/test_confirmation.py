"""The confirmatory results that are kept: numbers follow from the values by seed, and the page shows them."""

from __future__ import annotations

import csv
import json
import runpy
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
N_SEEDS = 10


def rows() -> list[dict[str, Any]]:
    with (RESULTS / "confirmation.csv").open(encoding="utf-8", newline="") as file:
        return [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]


def test_estimates_and_intervals_follow_from_the_seeds() -> None:
    estimated = [row for row in rows() if row["estimate"]]
    assert len(estimated) > 200
    for row in estimated:
        values = np.array([float(value) for value in row["values"].split()])
        label = f"{row['study']} {row['world']} {row['id']}"
        assert len(values) == int(row["n_seeds"]) == N_SEEDS, label
        assert float(row["estimate"]) == pytest.approx(values.mean(), rel=1e-4, abs=2e-5), label
        if row["low"]:
            interval = stats.t.interval(0.95, N_SEEDS - 1, values.mean(), stats.sem(values))
            assert (float(row["low"]), float(row["high"])) == pytest.approx(interval, rel=1e-3, abs=2e-5), (
                label
            )


def test_p_of_primary_claims_is_adjusted_by_holm() -> None:
    """The k-th smallest of m p-values is multiplied by m - k + 1, and none falls below an earlier one."""
    primary = [row for row in rows() if row["role"] == "primary"]
    for run, of_run in groupby(primary, key=lambda row: (row["study"], row["world"])):
        claims = list(of_run)
        assert 5 <= len(claims) <= 8, run
        known = sorted((row for row in claims if row["p_value"]), key=lambda row: float(row["p_value"]))
        smallest = 0.0
        for k, row in enumerate(known):
            smallest = max(smallest, min(1.0, (len(claims) - k) * float(row["p_value"])))
            assert float(row["p_holm"]) == pytest.approx(smallest, rel=1e-3), (run, row["id"])
            assert row["verdict"] == "inconclusive" or smallest < 0.025, (run, row["id"])


def test_definitions_are_those_of_the_code() -> None:
    definitions = json.loads((RESULTS / "definitions.json").read_text(encoding="utf-8"))
    for row in rows():
        [claim] = [claim for claim in definitions[row["study"]] if claim["id"] == row["id"]]
        assert claim["role"] == row["role"], row["id"]
        if row["bound"]:
            for name in ("bound", "no_effect", "negligible"):
                assert float(row[name]) == pytest.approx(claim[name], rel=1e-5), (row["id"], name)


def test_page_has_the_table() -> None:
    table = runpy.run_path(str(ROOT / "dev" / "confirmation.py"))["table"]
    assert table(rows()) in (RESULTS / "confirmation.md").read_text(encoding="utf-8")
