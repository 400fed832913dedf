"""Tests of the detectability of a world's families by n-gram classifiers."""

from __future__ import annotations

import pytest

from makebreak.prompts import detectability_rows, load_world
from synthetic.detectability import FEATURES

N = 2000


def test_mini_is_detectable_by_combination_only() -> None:
    """On token-matched requests text and tasks are at chance, their combination is not."""
    rows = {
        (r.family, r.features, r.order): r
        for r in detectability_rows(load_world("mini"), n_requests=N, seed=0, orders=(1, 2))
    }
    for n in (1, 2):
        for reader, expected in (("text", 0.5), ("tasks", 0.5), ("both", 1.0)):
            assert rows["context_unsafe", reader, n].auroc == pytest.approx(expected, abs=0.02)
        assert rows["unsafe", "text", n].auroc == 0.5
        assert rows["unsafe", "both", n].predicted_unsafe > 0.95
        assert rows["safe", "both", n].predicted_unsafe < 0.05


@pytest.mark.parametrize("name", ["mini", "hidden", "jain2024"])
def test_every_family_has_a_row(name: str) -> None:
    """Each family has one row per features and order, which the seed determines."""
    world = load_world(name)
    rows = detectability_rows(world, n_requests=40, seed=3, orders=(1, 3))
    families = [f for f in world.families if not f.startswith("pretraining")]
    assert [(r.family, r.features, r.order) for r in rows] == [
        (f, reader, n) for f in families for reader in FEATURES for n in (1, 3)
    ]
    assert all(0 <= getattr(r, name) <= 1 for r in rows for name in ("predicted_unsafe", "auroc"))
    assert rows == detectability_rows(world, n_requests=40, seed=3, orders=(1, 3))
    assert rows != detectability_rows(world, n_requests=40, seed=4, orders=(1, 3))
