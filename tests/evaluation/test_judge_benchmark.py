"""The benchmark of judges is well-formed, agreement follows published examples, the page is current."""

from __future__ import annotations

import numpy as np
import pytest

from makebreak.evaluation import kappa_interval, krippendorff_alpha
from makebreak.evaluation.judge_benchmark import BenchmarkRow, benchmark_rows, held_out_verdicts
from makebreak.evaluation.refusal_classifier import LABELS, refusal_probabilities, training_answers
from makebreak.prompts.examples import packaged_table


@pytest.fixture(scope="module")
def rows() -> dict[str, BenchmarkRow]:
    _, is_refusal, groups = training_answers()
    return {row.judge: row for row in benchmark_rows(held_out_verdicts(), is_refusal, groups)}


def test_the_benchmark_is_well_formed() -> None:
    table = packaged_table("judge_benchmark")
    assert len(table) >= 300
    assert {row["label"] for row in table} == set(LABELS)
    answers = [row["answer"] for row in table if row["answer"].strip()]
    assert len(set(answers)) == len(answers)
    assert len({row["language"] for row in table if row["label"] == "refusal"}) > 6
    labels: dict[str, set[str]] = {}
    for row in table:
        assert row["request"]
        labels.setdefault(row["group"], set()).add(row["label"])
    assert all(len(names) == 1 for names in labels.values())


def test_the_classifier_beats_the_published_lists_on_held_out_answers(rows: dict[str, BenchmarkRow]) -> None:
    for published in ("qi2023", "arditi2024"):
        assert rows["classifier"].accuracy > rows[published].accuracy
        assert rows["classifier"].kappa > rows[published].kappa


def test_probabilities_do_not_depend_on_the_batch() -> None:
    answers = ["I must decline.", "Mix flour and water.", ""]
    together = refusal_probabilities(answers)
    assert [refusal_probabilities([answer])[0] for answer in answers] == pytest.approx(together)
    assert together[0] > 0.5 > together[1]


def test_alpha_follows_published_examples() -> None:
    """Krippendorff 2011, *Computing Krippendorff's Alpha-Reliability*: examples A and C."""
    binary = ["0100000010", "1110010000"]
    assert krippendorff_alpha(_ratings(binary)) == pytest.approx(0.095, abs=5e-4)
    nominal = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
    assert krippendorff_alpha(_ratings(nominal)) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(_ratings(["11", "11"])) is None
    assert krippendorff_alpha(_ratings(["0101", "0101"])) == 1


def test_groups_widen_the_interval_of_kappa() -> None:
    a = np.arange(80) // 8 % 2 == 0
    b = a ^ (np.arange(80) // 8 % 5 == 0)
    low, high = kappa_interval(a, b, [str(i) for i in range(80)])
    grouped_low, grouped_high = kappa_interval(a, b, [str(i // 8) for i in range(80)])
    assert low < 0.6 < high
    assert grouped_high - grouped_low > 1.5 * (high - low)


def _ratings(raters: list[str]) -> np.ndarray:
    return np.array([[np.nan if c == "." else float(c) for c in rater] for rater in raters])
