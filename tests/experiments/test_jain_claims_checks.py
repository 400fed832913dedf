"""Sham and remap controls are compared with their own method, seed by seed, at the end of both runs."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from experiments.jain2024.claims_checks import CHECKS, control_match_rows
from makebreak.claims import NotRun


def step(seed: int, arm: str, at: int, change: float, rate: float | None) -> dict[str, object]:
    return {
        "seed": seed,
        "arm": arm,
        "at": at,
        "weight_change": change,
        "trained_answer_rate": rate,
        "trained_family_margin": at / 100,
    }


def test_controls_are_compared_with_their_methods() -> None:
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
    matches = control_match_rows(pd.DataFrame(rows).sample(frac=1, random_state=0))
    table = pd.DataFrame(matches).set_index(["seed", "arm"])
    expected = {
        (0, "sham_ssft"): (0.2, 0.1),
        (0, "remap"): (0.1, 0.0),
        (1, "sham_ssft"): (0.0, 0.0),
        (1, "sham_dpo"): (0.1, 0.25),
        (1, "sham_unlearning"): (0.5, float("nan")),  # the method learnt nothing
    }
    assert set(table.index) == set(expected)
    for key, values in expected.items():
        differences = table.loc[key, ["weight_change", "trained_answer_rate"]].tolist()
        assert differences == pytest.approx(values, nan_ok=True)
    assert (table.trained_family_margin == 4.0).all()


def value(claim: str, rows: list[dict[str, object]]) -> list[float]:
    [chosen] = [each for each in CHECKS if each.id == claim]
    assert chosen.value is not None
    return chosen.value({"zoo": pd.DataFrame(rows)}).tolist()


def test_worst_control_of_a_seed_counts() -> None:
    """Shams: seed 0 is off by 20 %, seed 1 by 5 %, seed 2 undefined; there is no remap control."""
    rows = [step(seed, arm, 400, 10.0, 1.0) for seed in (0, 1, 2) for arm in ("ssft", "dpo")]
    rows += [step(0, "sham_ssft", 400, 8.0, 1.0), step(0, "sham_dpo", 400, 9.9, 1.0)]
    rows += [step(1, "sham_ssft", 400, 10.0, 0.95), step(1, "sham_dpo", 400, 9.8, 0.99)]
    rows += [step(2, "sham_ssft", 400, 10.0, None), step(2, "sham_dpo", 400, 10.0, 1.0)]
    first, second, third = value("C1.sham_matched", rows)
    assert (first, second) == (pytest.approx(0.2), pytest.approx(0.05))
    assert math.isnan(third)
    with pytest.raises(NotRun, match="no remap control"):
        value("C1.remap_matched", rows)
