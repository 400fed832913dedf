"""Methods of the benchmark on planted mechanisms, on networks whose depth is known, and its tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from experiments.planted.__main__ import write_tables
from experiments.planted.methods import METHODS
from makebreak.model_organisms import PlantSettings, plant, score


def test_methods_see_a_planted_route_and_no_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embeddings make this route: every depth is 0 where the method can see it, and none without it."""
    common = {"n_requests": 100, "n_layers": 3, "layout": "decision"}
    settings = PlantSettings(variant="added trigger", way="embedding", coverage=1.0, **common)
    networks = {
        "route": plant("route", 1500, "gpt2", settings),
        "none": plant("none", 1500, "gpt2", PlantSettings(variant="noise", **common)),
    }
    rows = {
        (truth, name): score(planted, name, method)
        for truth, planted in networks.items()
        for name, method in METHODS.items()
    }
    route, none = rows["route", "verdict"], rows["none", "verdict"]
    assert (route.truth, route.mechanism, route.true_depth, route.depth) == ("route", "route", 0, 0)
    assert route.request_accuracy is not None
    assert route.request_accuracy >= 0.8, "as the verdict is a route"
    assert rows["route", "patching"].depth == 0
    assert (none.truth, none.mechanism, none.depth) == ("undecided", "undecided", None)
    assert none.request_accuracy is None
    assert rows["none", "patching"].depth is None
    write_tables(pd.DataFrame(rows.values()), tmp_path)
    assert "right: 2 of 2" in capsys.readouterr().out
    assert sorted(path.stem for path in tmp_path.iterdir()) == [
        "confusion",
        "methods",
        "networks",
        "requests",
    ]
