"""Tables of the benchmark on planted mechanisms, from rows whose scores are known."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from experiments.planted.benchmark import (
    METHODS,
    NetworkRow,
    confusion,
    is_right,
    is_wrong,
    method_rows,
    network_row,
    summarise,
)
from makebreak.organisms import PlantSettings, plant

ROW = NetworkRow(0, "gpt2", 4, "route", "trigger", "route", "", 2, 2, 1, 4, None)


def test_scores_of_known_rows() -> None:
    """Abstentions are neither right nor wrong; a missing depth is not exact."""
    rows = pd.DataFrame(
        [
            ROW,
            ROW._replace(mechanism="mixed", verdict=1),
            ROW._replace(mechanism="erase"),
            ROW._replace(truth="undecided", mechanism="undecided", depth=None, verdict=None, probe=1),
        ]
    )
    assert is_right(rows).tolist() == [True, False, False, True]
    assert is_wrong(rows).tolist() == [False, False, True, False]
    assert confusion(rows).loc["route", ["route", "mixed", "erase"]].tolist() == [1, 1, 1]
    assert summarise(rows).startswith("right: 2 of 4, 0.500")
    scores = {row.method: row for row in method_rows(rows)}
    assert list(scores) == list(METHODS)
    verdict, patching, probe = scores["verdict"], scores["patching"], scores["probe"]
    assert (verdict.names, patching.names) == (0.5, None)
    assert (verdict.exact, verdict.within_one, verdict.silent) == (pytest.approx(2 / 3), 1.0, 1.0)
    assert (patching.exact, patching.within_one) == (0.0, 1.0)
    assert (probe.exact, probe.within_one, probe.silent) == (0.0, 0.0, 0.0)


def test_methods_see_a_planted_route_and_no_change() -> None:
    """The embeddings make this route: every depth is 0 where the method can see it, and none without it."""
    settings = PlantSettings(
        n_requests=100, n_layers=3, variant="trigger", way="embedding", layout="decision"
    )
    row = network_row(plant("route", 1500, "gpt2", settings))
    assert (row.truth, row.mechanism, row.depth) == ("route", "route", 0)
    assert (row.verdict, row.patching) == (0, 0)
    unchanged = network_row(plant("none", 1500, "gpt2", replace(settings, variant="noise", way=None)))
    assert (unchanged.truth, unchanged.mechanism) == ("undecided", "undecided")
    assert unchanged.verdict is unchanged.patching is None
