"""Monitors: recall at a false positive rate, the probe against scikit-learn, and adaptive attacks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from makebreak.attacks import (
    SoftPrompt,
)
from makebreak.defences import MONITOR_KINDS, fit_monitor, monitors
from makebreak.mechanism import SafeUnsafeRequests
from makebreak.prompts import Requests
from tests.attacks.random_requests import optimise_soft_prompt, random_network, random_requests

D_VOCAB = 12


@pytest.fixture
def gaussian(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Gaussian states of requests by family, in place of a model's."""
    random = torch.Generator().manual_seed(0)
    shifts = {"safe": 0.0, "unsafe": 3.5, "calibration": 0.0, "attacked": 3.5, "evading": 0.0}
    states = {name: torch.randn(20_000, 1, generator=random) + shift for name, shift in shifts.items()}
    monkeypatch.setattr(
        monitors, "end_of_text_activations", lambda model, requests, sites: [states[requests.family]]
    )
    return states


MODEL, MANY = random_network("gpt2", d_vocab=D_VOCAB), random_requests([1] * 20_000, d_vocab=D_VOCAB)


def requests_of(family: str) -> Requests:
    return replace(MANY, family=family)


@pytest.mark.parametrize("kind", MONITOR_KINDS)
def test_recall_equals_the_closed_form(kind: str, gaussian: dict[str, Tensor]) -> None:
    """One normal variable, means 3.5 apart: recall at a false positive rate a is Φ(3.5 - z(1 - a))."""
    monitor = fit_monitor(
        MODEL,
        SafeUnsafeRequests(requests_of("safe"), requests_of("unsafe")),
        requests_of("calibration"),
        kind=kind,
        layer=0,
    )
    recall = {family: monitor.flag(MODEL, requests_of(family)).mean() for family in ("attacked", "evading")}
    assert recall["attacked"] == pytest.approx(norm.cdf(3.5 - norm.ppf(0.99)), abs=0.02)
    assert recall["evading"] == pytest.approx(0.01, abs=0.004)


def test_monitor_on_random_labels(gaussian: dict[str, Tensor]) -> None:
    gaussian["unsafe"][:] = gaussian["safe"].flip(0)
    monitor = fit_monitor(
        MODEL,
        SafeUnsafeRequests(requests_of("safe"), requests_of("unsafe")),
        requests_of("calibration"),
        kind="nearest mean",
        layer=0,
    )
    gaussian["attacked"] -= 3.5
    assert monitor.flag(MODEL, requests_of("attacked")).mean() < 0.02


def test_adaptive_attack_lowers_the_score() -> None:
    model = random_network("gpt2", d_vocab=D_VOCAB)
    safe, unsafe, calibration = (
        random_requests([5] * n, d_vocab=D_VOCAB, seed=s) for s, n in enumerate((40, 40, 400))
    )
    unsafe.prompt[:, 1:3] = 3  # a feature that only unsafe requests have
    for kind in MONITOR_KINDS:
        monitor = fit_monitor(model, SafeUnsafeRequests(safe, unsafe), calibration, kind=kind, layer=0)
        scores = monitor.score_requests(model, unsafe)
        assert scores.shape == (40,)
        assert (scores.detach() > monitor.threshold).numpy().tolist() == monitor.flag(model, unsafe).tolist()
        standard = optimise_soft_prompt(model, unsafe, SoftPrompt(4, 20), seed=0)
        adaptive = optimise_soft_prompt(
            model, unsafe, SoftPrompt(4, 20, penalty=monitor.evasion_penalty(20.0)), seed=0
        )
        with standard.attach(model):
            before = monitor.score_requests(model, standard.requests).detach()
        with adaptive.attach(model):
            after = monitor.score_requests(model, adaptive.requests).detach()
        excess = [float((s - monitor.threshold).clamp(min=0).mean()) for s in (before, after)]
        assert excess[1] < excess[0] or excess[0] == 0


def test_bad_input() -> None:
    model = random_network("gpt2", d_vocab=D_VOCAB)
    pair, calibration = (
        SafeUnsafeRequests(*(random_requests([5] * 20, d_vocab=D_VOCAB, seed=s) for s in (0, 1))),
        random_requests([5] * 30, d_vocab=D_VOCAB),
    )
    with pytest.raises(ValueError, match="monitor 'guess': expected one of probe, nearest mean"):
        fit_monitor(model, pair, calibration, kind="guess", layer=0)
    with pytest.raises(
        ValueError,
        match=r"30 harmless requests for a threshold: a false positive rate of 0.01 needs 368, and 30 allow",
    ):
        fit_monitor(model, pair, calibration, kind="probe", layer=0)


def test_probe_equals_scikit_learn() -> None:
    model = random_network("gpt2", d_vocab=D_VOCAB)
    pair = SafeUnsafeRequests(*(random_requests([5] * 60, d_vocab=D_VOCAB, seed=s) for s in (0, 1)))
    monitor = fit_monitor(
        model, pair, random_requests([5] * 400, d_vocab=D_VOCAB, seed=2), kind="probe", layer=1
    )
    states = [
        monitors.end_of_text_activations(model, requests, [monitor.site])[0].double() for requests in pair
    ]
    x, y = torch.cat(states).numpy(), np.repeat([0, 1], 60)
    pipeline = monitors.make_pipeline(
        monitors.StandardScaler(), monitors.LogisticRegression(max_iter=1000)
    ).fit(x, y)
    np.testing.assert_allclose(
        monitor.score(torch.from_numpy(x)).numpy(), pipeline.decision_function(x), atol=1e-8
    )
