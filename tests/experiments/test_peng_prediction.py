"""P2 on planted models: nominal without an association, also under a common dose, and found where planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from experiments.peng2024 import STUDY, prediction
from experiments.peng2024.prediction import (
    CONFOUNDED,
    PredictionRow,
    dose,
    partial_correlations,
    prediction_row,
    prediction_table,
)
from experiments.peng2024.predictors import CHEAP, STEPS_TO_HALF, rank_correlation
from experiments.recipes.composition import METHODS
from makebreak.stats import mean_confidence_interval

ARMS = [f"{method}{factor}" for method in METHODS for factor in ("", " ×0.5", " ×2")] + ["dpo_paper", "npo"]
DOSE = np.log2([dose(arm) for arm in ARMS])
[P2] = [claim for claim in STUDY.claims if claim.id == "P2"]
N_SEEDS = 5


def planted_models(kind: str, random: np.random.Generator) -> pd.DataFrame:
    """Models of one seed. The dose sets the margin and the norm of the update, and by kind the others."""

    def noise(scale: float) -> np.ndarray:
        return scale * random.normal(size=len(ARMS))

    margin, norm = DOSE + noise(0.7), DOSE + noise(0.3)
    width, steps = {
        "noise": (noise(1), noise(1)),
        "dose": (-DOSE + noise(0.5), np.exp(DOSE + noise(0.5))),
        "step of the dose": ((DOSE > 0) * 3 + noise(0.5), (DOSE >= 0) * 3 + noise(0.5)),
        "norm": (np.exp(-norm) + noise(0.1), norm + noise(0.3)),
        "margin": (margin + noise(0.3), np.exp(margin + noise(0.3))),
    }.get(kind, (DOSE + noise(0.7), DOSE))
    if kind == "association":
        steps = DOSE + width + noise(0.5)
    columns = [ARMS, width, steps, margin, norm]
    return pd.DataFrame(dict(zip(["arm", "r50", STEPS_TO_HALF, *CHEAP], columns, strict=True)))


def planted_studies(kind: str, monkeypatch: pytest.MonkeyPatch, n: int = 60) -> list[list[PredictionRow]]:
    """Rows of several studies of `N_SEEDS` seeds."""
    monkeypatch.setattr(prediction, "N_PERMUTATIONS", 100)
    random, rows = np.random.default_rng(1000), []
    while len(rows) < n * N_SEEDS:
        row = prediction_row(planted_models(kind, random), len(rows) % N_SEEDS, "r50")
        rows += [row] if row.excess is not None else []
    return [rows[i : i + N_SEEDS] for i in range(0, len(rows), N_SEEDS)]


def estimates(studies: list[list[PredictionRow]]) -> list[tuple[float, float]]:
    """Intervals of the excess over seeds."""
    intervals = [mean_confidence_interval([row.excess or 0.0 for row in study]) for study in studies]
    return [(e.low, e.high) for e in intervals if e.low is not None and e.high is not None]


@pytest.mark.parametrize("kind", ["noise", "dose", "step of the dose", "norm"])
def test_without_an_association_the_rate_is_nominal(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """2.5 % of intervals lie above 0 and as many below: of 60, more than 6 have a probability of .1 %."""
    studies = planted_studies(kind, monkeypatch)
    intervals = estimates(studies)
    assert sum(low > 0 for low, _ in intervals) <= 6
    assert sum(high < 0 for _, high in intervals) <= 6
    assert sum(P2.verdict(*interval) == "supported" for interval in intervals) <= 3
    excess = [row.excess or 0.0 for study in studies for row in study]
    assert abs(np.mean(excess)) < 4 * np.std(excess) / len(excess) ** 0.5
    p_values = np.array([row.p_value or 0.0 for study in studies for row in study])
    assert (p_values <= 0.05).mean() < (0.17 if kind == "norm" else 0.1)


def test_what_follows_the_margin_alone_stays_below_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst case: ranks leave a remainder of a covariate whose correlation is .97, below the bound."""
    studies = planted_studies("margin", monkeypatch)
    excess = np.mean([row.excess or 0.0 for study in studies for row in study])
    assert 0.05 < excess < CONFOUNDED
    assert sum(P2.verdict(*interval) == "supported" for interval in estimates(studies)) <= 4


def test_a_planted_association_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    studies = planted_studies("association", monkeypatch)
    assert np.mean([P2.verdict(*interval) == "supported" for interval in estimates(studies)]) > 0.5


def test_the_dose_alone_correlates_and_the_earlier_statistic_is_not_centred() -> None:
    """Why the raw correlation, and its difference from the greater of two, are no tests."""
    random = np.random.default_rng(1000)
    raw = [rank_correlation(planted_models("dose", random), "r50") or 0.0 for _ in range(50)]
    assert np.mean(raw) < -0.4
    earlier = []
    for _ in range(50):
        models = planted_models("noise", random).assign(
            margin=random.normal(size=len(ARMS)), weight_change=random.normal(size=len(ARMS))
        )
        cheap = max(abs(rank_correlation(models, name) or 0.0) for name in CHEAP)
        earlier.append((rank_correlation(models, "r50") or 0.0) - cheap)
    assert np.mean(earlier) < -0.25


def test_partial_correlation_equals_that_of_residuals() -> None:
    """An oracle by least squares, and NaN where the covariates determine a variable."""
    random = np.random.default_rng(1000)
    x, y, given = random.normal(size=(3, 12)), random.normal(size=12), random.normal(size=(12, 2))
    design = np.column_stack([np.ones(12), given])

    def residual(v: np.ndarray) -> np.ndarray:
        return v - design @ np.linalg.lstsq(design, v, rcond=None)[0]

    expected = [np.corrcoef(residual(row), residual(y))[0, 1] for row in x]
    assert partial_correlations(x, y, given) == pytest.approx(expected)
    assert np.isnan(partial_correlations((design @ [1.0, 2.0, 3.0])[None], y, given)).all()


def test_table_has_a_row_per_seed_and_width() -> None:
    """Models that refuse nothing are left out, and too few models have no partial correlation."""
    random = np.random.default_rng(1000)
    models = pd.concat([planted_models("noise", random).assign(seed=seed) for seed in (0, 1)])
    models = models.assign(visage=models.r50, r50_capable=models.r50, r50_compliance=np.nan)
    start = models[["seed", "arm"]].assign(step=0, refusal_rate=1.0)
    start.loc[(start.seed == 1) & start.arm.str.contains("dpo|npo"), "refusal_rate"] = 0.0
    table = prediction_table({"predictors": models, "fine_tuning": start}).set_index(["seed", "predictor"])
    assert len(table) == 8
    assert table.loc[(0, "r50")].n_models == 11
    assert table.loc[(1, "r50")].n_models == 6
    assert table.loc[(0, "r50")].excess == table.loc[(0, "visage")].excess
    assert np.isnan(table.loc[(0, "r50_compliance")].excess)
