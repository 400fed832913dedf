"""Numbers of docs/results/fragility.md about SmolLM2 that no generated table has, from the shipped models."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata, spearmanr

from experiments.fragility.predictors import SIGNS
from makebreak.fragility import orientation
from makebreak.stats import holm_adjust

KL_DEPTH, BENIGN = "predictor.kl_depth", "outcome.benign.compliance"


@pytest.fixture(scope="module")
def seeds() -> list[pd.DataFrame]:
    """The qualified models of both alignment seeds, mechanisms in the same order."""
    file = Path(__file__).parents[2] / "data" / "fragility_language.csv"
    models = pd.read_csv(file).query("qualifies").sort_values("mechanism")
    both = [models[models.seed == seed] for seed in (0, 1)]
    assert both[0].mechanism.tolist() == both[1].mechanism.tolist()
    assert len(both[0]) == 8
    return both


def unit_ranks(values: pd.Series) -> np.ndarray:
    """Ranks of mean 0 and norm 1."""
    ranks = rankdata(values) - (len(values) + 1) / 2
    return ranks / np.linalg.norm(ranks)


def exact_p(pairs: list[tuple[pd.Series, pd.Series]], claim: int) -> float:
    """Share of all common orders of the mechanisms that are as extreme; two-sided for claim 0."""
    orders = np.array(list(itertools.permutations(range(len(pairs[0][0])))))
    ranks = [(unit_ranks(x), unit_ranks(y)) for x, y in pairs]
    drawn, observed = sum(y[orders] @ x for x, y in ranks), sum(x @ y for x, y in ranks)
    if not claim:
        return float((abs(drawn) >= abs(observed) - 1e-9).mean())
    return float((claim * drawn >= claim * observed - 1e-9).mean())


def correlation(x: pd.Series, y: pd.Series) -> float:
    """Spearman correlation as on the page."""
    return round(float(spearmanr(x, y).statistic), 2)


def test_prediction_in_the_second_seed(seeds: list[pd.DataFrame]) -> None:
    """KL depth with robustness to benign data: the size, exact p-values, and without DPO."""
    first, second = seeds
    assert [correlation(seed[KL_DEPTH], -seed[BENIGN]) for seed in seeds] == [1.0, 0.71]
    pair = (second[KL_DEPTH], second[BENIGN])
    assert exact_p([pair], -1) == pytest.approx(0.029, abs=5e-4)
    assert exact_p([pair], 0) == pytest.approx(0.058, abs=5e-4)
    others = second[second.mechanism != "dpo"]
    assert correlation(others[KL_DEPTH], -others[BENIGN]) == 0.57
    assert exact_p([(others[KL_DEPTH], others[BENIGN])], -1) == pytest.approx(0.10, abs=5e-3)
    assert correlation(first[KL_DEPTH], second[KL_DEPTH]) == 0.71


def test_share_of_answered_harmless_prompts_goes_with_both(seeds: list[pd.DataFrame]) -> None:
    """The other explanation that the page names."""
    shares = [seed.safe_compliance_rate for seed in seeds]
    for column, expected in (
        (BENIGN, [-0.90, -0.54]),
        (KL_DEPTH, [0.90, 0.63]),
        ("outcome.harmful.compliance", [0.08, -0.44]),
    ):
        pairs = zip(shares, seeds, strict=True)
        assert [correlation(share, seed[column]) for share, seed in pairs] == expected


def test_significant_pairs_with_mechanisms_as_the_unit(seeds: list[pd.DataFrame]) -> None:
    """Holm's adjustment of exact p-values over all pairs leaves those of KL depth with benign data."""
    names = [str(name) for name in seeds[0]]
    predictors = [name for name in names if name.startswith("predictor.")]
    pairs = list(itertools.product(predictors, (name for name in names if name.startswith("outcome."))))
    assert len(pairs) == 143
    values = []
    for predictor, outcome in pairs:
        claim = SIGNS[predictor.removeprefix("predictor.")] * orientation(outcome)
        values.append(exact_p([(seed[predictor], seed[outcome]) for seed in seeds], claim))
    adjusted = dict(zip(pairs, holm_adjust(values), strict=True))
    benign_steps = (KL_DEPTH, "outcome.benign.steps_to_half")
    assert {pair for pair, p in adjusted.items() if p < 0.05} == {(KL_DEPTH, BENIGN), benign_steps}
    assert adjusted[KL_DEPTH, BENIGN] == pytest.approx(0.035, abs=5e-4)
    assert adjusted[benign_steps] == pytest.approx(0.042, abs=5e-4)
    prefix = ("predictor.prefix_depth", "outcome.harmful.steps_to_half")
    assert adjusted[prefix] == pytest.approx(0.126, abs=5e-4)
