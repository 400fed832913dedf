"""Does a monitor see what it should, at the false alarms asked for, and does an attack that knows it escape?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from makebreak.attacks import SoftTokens, soften
from makebreak.defences import KINDS, fit_monitor, monitors
from makebreak.mechanism import Pair
from makebreak.requests import Requests
from tests.attacks.asked import answering, asked

D_VOCAB = 12


@pytest.fixture
def gaussian(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """States of `quiet`, `safe`, `unsafe` and `attacked` requests, by family, as if a model had them."""
    random = torch.Generator().manual_seed(0)
    shifts = {"safe": 0.0, "unsafe": 3.5, "quiet": 0.0, "attacked": 3.5, "evading": 0.0}
    states = {name: torch.randn(20_000, 1, generator=random) + shift for name, shift in shifts.items()}
    monkeypatch.setattr(monitors, "collect", lambda model, requests, sites: [states[requests.family]])
    return states


MODEL, MANY = answering("gpt2", d_vocab=D_VOCAB), asked([1] * 20_000, d_vocab=D_VOCAB)


def named(family: str) -> Requests:
    return replace(MANY, family=family)


@pytest.mark.parametrize("kind", KINDS)
def test_detection_is_that_of_the_closed_form(kind: str, gaussian: dict[str, Tensor]) -> None:
    """One normal variable, means 3.5 apart: at a share a of false alarms, Φ(3.5 - z(1 - a)) is seen."""
    found = fit_monitor(MODEL, Pair(named("safe"), named("unsafe")), named("quiet"), kind=kind, layer=0)
    seen = {family: found.alarms(MODEL, named(family)).mean() for family in ("attacked", "evading")}
    assert seen["attacked"] == pytest.approx(norm.cdf(3.5 - norm.ppf(0.99)), abs=0.02)
    assert seen["evading"] == pytest.approx(0.01, abs=0.004)


def test_a_monitor_on_labels_that_mean_nothing_sees_nothing(gaussian: dict[str, Tensor]) -> None:
    gaussian["unsafe"][:] = gaussian["safe"].flip(0)
    found = fit_monitor(
        MODEL, Pair(named("safe"), named("unsafe")), named("quiet"), kind="nearest mean", layer=0
    )
    gaussian["attacked"] -= 3.5
    assert found.alarms(MODEL, named("attacked")).mean() < 0.02


def test_an_attack_that_knows_the_monitor_lowers_its_score() -> None:
    model = answering("gpt2", d_vocab=D_VOCAB)
    safe, unsafe, quiet = (asked([5] * n, d_vocab=D_VOCAB, seed=s) for s, n in enumerate((40, 40, 100)))
    unsafe.prompt[:, 1:3] = 3  # what makes them unsafe
    for kind in KINDS:
        monitor = fit_monitor(model, Pair(safe, unsafe), quiet, kind=kind, layer=0)
        scores = monitor.scores(model, unsafe)
        assert scores.shape == (40,)
        assert (scores.detach() > monitor.threshold).numpy().tolist() == monitor.alarms(
            model, unsafe
        ).tolist()
        plain = soften(model, unsafe, SoftTokens(4, 20), seed=0)
        knowing = soften(model, unsafe, SoftTokens(4, 20), seed=0, penalty=monitor.evasion(20.0))
        with plain.inside(model):
            before = monitor.scores(model, plain.requests).detach()
        with knowing.inside(model):
            after = monitor.scores(model, knowing.requests).detach()
        excess = [float((s - monitor.threshold).clamp(min=0).mean()) for s in (before, after)]
        assert excess[1] < excess[0] or excess[0] == 0


def test_bad_input_gets_one_line() -> None:
    model = answering("gpt2", d_vocab=D_VOCAB)
    pair, few = (
        Pair(*(asked([5] * 20, d_vocab=D_VOCAB, seed=s) for s in (0, 1))),
        asked([5] * 30, d_vocab=D_VOCAB),
    )
    with pytest.raises(ValueError, match="monitor 'guess': expected one of probe, nearest mean"):
        fit_monitor(model, pair, few, kind="guess", layer=0)
    with pytest.raises(ValueError, match=r"30 safe requests for a threshold: 0.01 false alarms need 100"):
        fit_monitor(model, pair, few, kind="probe", layer=0)


def test_the_probe_is_that_of_scikit_learn_in_the_states_own_units() -> None:
    model = answering("gpt2", d_vocab=D_VOCAB)
    pair = Pair(*(asked([5] * 60, d_vocab=D_VOCAB, seed=s) for s in (0, 1)))
    found = fit_monitor(model, pair, asked([5] * 100, d_vocab=D_VOCAB, seed=2), kind="probe", layer=1)
    states = [monitors.collect(model, requests, [found.site])[0].double() for requests in pair]
    x, y = torch.cat(states).numpy(), np.repeat([0, 1], 60)
    fitted = monitors.make_pipeline(
        monitors.StandardScaler(), monitors.LogisticRegression(max_iter=1000)
    ).fit(x, y)
    np.testing.assert_allclose(
        found.score(torch.from_numpy(x)).numpy(), fitted.decision_function(x), atol=1e-8
    )
