"""Are twins compared with their own method, seed by seed, at the end of both runs?"""

from __future__ import annotations

import pandas as pd
import pytest

from experiments.jain2024.checks import matched, twins


def step(seed: int, arm: str, at: int, change: float, taught: float | None) -> dict[str, object]:
    return {
        "seed": seed,
        "arm": arm,
        "at": at,
        "weight_change": change,
        "taught": taught,
        "taught_margin": at / 100,
    }


def test_twins_beside_their_methods() -> None:
    rows = [
        step(0, "base", 400, 0.0, None),
        step(0, "ssft", 400, 5.0, 1.0),
        step(0, "ssft", 200, 1.0, 0.5),
        step(0, "sham_ssft", 400, 4.0, 0.9),
        step(0, "remap", 400, 5.5, 1.0),
        step(1, "ssft", 400, 4.0, 1.0),
        step(1, "sham_ssft", 400, 4.0, 1.0),
        step(1, "dpo", 400, 10.0, 0.8),
        step(1, "sham_dpo", 400, 9.0, 1.0),
        step(1, "unlearning", 400, 2.0, 0.0),
        step(1, "sham_unlearning", 400, 1.0, 0.0),
    ]
    found = twins(pd.DataFrame(rows).sample(frac=1, random_state=0)).set_index(["seed", "arm"])
    expected = {
        (0, "sham_ssft"): (0.2, 0.1),
        (0, "remap"): (0.1, 0.0),
        (1, "sham_ssft"): (0.0, 0.0),
        (1, "sham_dpo"): (0.1, 0.25),
        (1, "sham_unlearning"): (0.5, float("nan")),  # nothing was taught
    }
    assert set(found.index) == set(expected)
    for key, values in expected.items():
        assert found.loc[key, ["weight_change", "taught"]].tolist() == pytest.approx(values, nan_ok=True)
    assert (found.taught_margin == 4.0).all()


def test_the_worst_twin_of_a_seed_counts() -> None:
    """Shams: seed 0 is off by 20 %, seed 1 by 5 %, seed 2 undefined; there is no remap twin."""
    rows = [(0, "sham_ssft", 0.2, 0.0), (0, "sham_dpo", 0.01, 0.0), (1, "sham_ssft", 0.0, 0.05)]
    rows += [(1, "sham_dpo", 0.02, 0.01), (2, "sham_ssft", 0.0, float("nan")), (2, "sham_dpo", 0.0, 0.0)]
    found = matched(pd.DataFrame(rows, columns=["seed", "arm", "weight_change", "taught"]))
    assert found["C1.sham_matched"] == [pytest.approx(-0.1), pytest.approx(0.05), None]
    assert found["C1.remap_matched"] == []
