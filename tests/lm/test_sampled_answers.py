"""Tables of sampled answers, and their intervals over requests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from makebreak import lm, report
from makebreak.evaluation import deciding_judge
from makebreak.lm import sample_rate_rows
from makebreak.settings import GenerationSettings, SamplingSettings
from makebreak.stats import clustered_share_interval
from makebreak.store import Store
from tests.fixtures.tiny_lm import prompts, trained_lm

SETTINGS = GenerationSettings(n_new=6)


@pytest.mark.parametrize("p", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("correlation", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("n", [10, 60])
def test_coverage_of_the_interval_of_shares(n: int, correlation: float, p: float) -> None:
    """Whether answers to one request are independent, correlated or equal; of rare events it is lower."""
    rng, n_samples, n_trials = np.random.default_rng(0), 5, 800
    hits = 0
    for _ in range(n_trials):
        if correlation == 0:
            probabilities = np.full(n, p)
        elif correlation == 1:
            probabilities = (rng.random(n) < p).astype(float)
        else:
            scale = 1 / correlation - 1
            probabilities = rng.beta(p * scale, (1 - p) * scale, n)
        shares = rng.binomial(n_samples, probabilities) / n_samples
        low, high = clustered_share_interval(shares.tolist(), n_samples)
        hits += low <= p <= high
    assert hits / n_trials >= (0.91 if p * n < 2 else 0.93)


def test_interval_of_equal_shares_is_that_of_requests() -> None:
    """Answers that all agree may agree because the requests are few: no interval of width 0."""
    low, high = clustered_share_interval([0.0] * 10, 100)
    assert low == 0 < 0.2 < high
    with pytest.raises(ValueError, match="one share between 0 and 1 per request"):
        clustered_share_interval([], 5)


def test_inspection_with_samples(tmp_path: Path) -> None:
    """At a low temperature, sampled rates are the greedy ones; older steps keep their keys."""
    model, texts = trained_lm(refuses=True), {family: rows[:20] for family, rows in prompts().items()}
    plain = lm.inspect(model, texts, Store(tmp_path), SETTINGS)
    n_steps = len(list(tmp_path.glob("*/*/artifact.json")))
    sampling = SamplingSettings(samples=3, temperature=0.01)
    result = lm.inspect(model, texts, Store(tmp_path), SETTINGS, inspection=lm.InspectionSettings(sampling))
    assert len(list(tmp_path.glob("*/*/artifact.json"))) == n_steps + 2
    samples, rates = result.tables["samples"], result.tables["sample_rates"]
    assert {name: rows for name, rows in result.tables.items() if name in plain.tables} == plain.tables
    assert [row["sample"] for row in samples] == list(range(3)) * 40
    harmful = next(r for r in rates if (r["family"], r["judge"]) == ("harmful", deciding_judge()))
    assert harmful["refuse"] == harmful["greedy_refuse"] == 1
    assert harmful["any_comply"] == harmful["greedy_comply"] == 0
    assert harmful["n"] == 20
    page = report.write_inspection("trained", result, report.sampling_facts(sampling), tmp_path / "out")
    assert "With 3 answers per request at temperature 0.01" in page.read_text()
    assert (tmp_path / "out" / "tables" / "sample_rates.csv").exists()


def test_any_of_several_answers_counts() -> None:
    """One compliant answer of three is enough."""
    judges = dict.fromkeys(("qi2023", "arditi2024", "openings", "classifier"), True)
    refusal = {"family": "harmful", "degenerate": False, **judges}
    compliance = {**refusal, **dict.fromkeys(judges, False)}
    samples = [refusal, compliance, refusal, refusal, refusal, refusal]
    rows = sample_rate_rows(samples, [refusal, refusal], SamplingSettings(samples=3, temperature=1.0))
    assert rows[0].any_comply == 0.5
    assert rows[0].refuse == pytest.approx(5 / 6)
    assert rows[0].comply == pytest.approx(1 / 6)
    assert rows[0].greedy_comply == 0


@pytest.mark.parametrize(
    ("samples", "temperature", "message"),
    [
        (5, None, "--samples 5: give their --temperature as well"),
        (0, 1.0, "--temperature 1: greedy answers have none; give --samples as well"),
        (-1, 1.0, "samples"),
        (5, 0.0, "temperature"),
        (5, float("nan"), "temperature"),
        (5, float("inf"), "temperature"),
        (10**9, 1.0, "samples"),
    ],
)
def test_settings_that_contradict_are_errors(samples: int, temperature: float | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingSettings(samples=samples, temperature=temperature)
