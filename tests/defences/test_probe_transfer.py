"""Transfer of probes between categories of requests, on activations that are planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm

from makebreak.defences import append_instructed_answer, probe_transfer, probe_transfer_rows
from makebreak.mechanism import SafeUnsafeRequests
from makebreak.prompts import load_world
from tests.attacks.random_requests import random_network, random_requests

MODEL, N, DISTANCE = random_network("gpt2", d_vocab=12), 4000, 3.5
MANY = random_requests([1] * N, d_vocab=12)
AXES = {
    "a": 0,
    "b": 0,
    "c": 1,
}  # unsafe requests differ along the same axis in two categories, along another in the third


def transfer(
    monkeypatch: pytest.MonkeyPatch, *, planted: bool = True, shifted: float = 0.0
) -> dict[tuple[str, str], dict[str, float]]:
    random = torch.Generator().manual_seed(0)
    states = {}
    for kind, role in (
        (k, r) for k in AXES for r in ("safe", "unsafe", "calibration", "score safe", "score unsafe")
    ):
        states[f"{kind} {role}"] = torch.randn(N, 2, generator=random)
        if role.endswith("unsafe") and planted:
            states[f"{kind} {role}"][:, AXES[kind]] += DISTANCE
        states[f"{kind} {role}"][:, 0] += shifted * (kind == "c")
    monkeypatch.setattr(
        probe_transfer, "end_of_text_activations", lambda model, requests, sites: [states[requests.family]]
    )

    def pairs(*roles: str) -> dict[str, SafeUnsafeRequests]:
        return {
            kind: SafeUnsafeRequests(*(replace(MANY, family=f"{kind} {role}") for role in roles))
            for kind in AXES
        }

    calibration = {kind: replace(MANY, family=f"{kind} calibration") for kind in AXES}
    rows = probe_transfer_rows(
        MODEL, pairs("safe", "unsafe"), calibration, pairs("score safe", "score unsafe"), layer=0
    )
    return {(row.trained_on, row.evaluated_on): row for row in rows}


def test_probes_transfer_between_similar_categories(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = transfer(monkeypatch)
    best = norm.cdf(DISTANCE - norm.ppf(0.99))
    for category, other in (("a", "b"), ("b", "a")):
        for evaluated_on in (category, other):
            assert rows[category, evaluated_on].recall == pytest.approx(best, abs=0.04)
            assert rows[category, evaluated_on].fpr == pytest.approx(0.01, abs=0.006)
        assert rows[category, "c"].recall < 0.03
        assert rows[category, "c"].auroc == pytest.approx(0.5, abs=0.05)
    assert rows["all but c", "c"].recall < 0.03
    assert min(rows["all", kind].recall for kind in AXES) > 0.4
    assert {trained_on for trained_on, _ in rows} == {
        "a",
        "b",
        "c",
        "all",
        "all but a",
        "all but b",
        "all but c",
    }


def test_recall_at_equal_false_positive_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe fitted on a flags all requests of c, safe ones too: recall there is that of chance."""
    rows = transfer(monkeypatch, shifted=5.0)
    assert rows["a", "c"].fpr > 0.95
    assert rows["a", "c"].recall == pytest.approx(0.01, abs=0.01)
    assert rows["a", "c"].auroc == pytest.approx(0.5, abs=0.05)
    assert rows["c", "c"].recall > 0.4


def test_probes_without_a_signal_are_at_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(
        row.recall < 0.03 and abs(row.auroc - 0.5) < 0.05
        for row in transfer(monkeypatch, planted=False).values()
    )


def test_instructed_answers_are_appended() -> None:
    world = load_world("formats_mini")
    requests = world.sample("safe", 30, seed=0)
    answered = append_instructed_answer(requests)
    for i in range(30):
        tokens = [
            *requests.prompt[i, : requests.prompt_length[i]],
            *requests.instructed[i, : requests.judged[i, 1]],
        ]
        assert answered.prompt[i, : answered.prompt_length[i]].tolist() == tokens
        assert answered.spans["eot"][i].tolist() == [len(tokens) - 1, len(tokens)]
    later = replace(requests, judged=requests.judged + np.array([1, 1]))
    with pytest.raises(
        ValueError, match="family 'safe' is judged on a later output: expected one judged on the first"
    ):
        append_instructed_answer(later)


def test_too_few_calibration_requests() -> None:
    pair, calibration = (
        SafeUnsafeRequests(*(random_requests([5] * 20, d_vocab=12, seed=s) for s in (0, 1))),
        random_requests([5] * 30, d_vocab=12),
    )
    with pytest.raises(
        ValueError, match=r"30 harmless requests for a threshold: a false positive rate of 0.01 needs 368"
    ):
        probe_transfer_rows(MODEL, {"a": pair}, {"a": calibration}, {"a": pair}, layer=0)
