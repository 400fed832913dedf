"""Probes separate planted directions of harm and refusal; steering is compared at a matched disturbance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from makebreak.mechanism import SafeUnsafeRequests, harm_refusal_rows, matched_steering_rows
from makebreak.mechanism.harm_refusal import LabelledRequests, _Labels, _row
from makebreak.tables import as_dicts
from synthetic import Requests
from tests.attacks.random_requests import random_requests
from tests.truth.planted import Planted, planted


def with_jailbreak(networks: Planted, seed: int) -> dict[str, LabelledRequests]:
    """Unsafe requests; those that end in one half of the letters count as successful jailbreaks."""
    letter = networks.unsafe.instructed[:, 0]
    passes = letter < np.median(letter)

    def part(rows: np.ndarray, refused: bool) -> LabelledRequests:
        selected: Requests = networks.unsafe[rows]
        return LabelledRequests(selected, np.full(len(selected), refused))

    safe = LabelledRequests(networks.safe, np.zeros(len(networks.safe), dtype=bool))
    return {"safe": safe, "unsafe": part(~passes, True), "jailbreak": part(passes, False)}


@pytest.mark.parametrize("seed", range(3))
def test_probes_separate_each_label(seed: int) -> None:
    networks = planted("route", seed, n=400)
    labelled = {
        name: LabelledRequests(_with_text_span(family.requests), family.is_refused)
        for name, family in with_jailbreak(networks, seed).items()
    }
    rows = as_dicts(harm_refusal_rows(networks.aligned, labelled, seed=0))
    assert [(row["layer"], row["position"]) for row in rows] == [
        (i, p) for p in ("text", "eot") for i in range(4)
    ]
    for row in rows:
        assert row["harm_auroc"] > 0.95, row
        assert row["refusal_auroc"] > 0.95, "the half of the letters is in the states too"
        assert abs(row["cosine"]) < 0.5, "they are two directions"
        assert 0.2 < row["shuffled_refusal_auroc"] < 0.8
        assert 0.2 < row["shuffled_harm_auroc"] < 0.8


def _with_text_span(requests: Requests) -> Requests:
    spans = {"text": requests.spans["eot"], "eot": requests.spans["eot"]}
    return Requests(**(vars(requests) | {"spans": spans}))


@pytest.mark.parametrize("cosine", [-0.5, 0.0, 0.5, 0.9])
@pytest.mark.parametrize("noise_of_unsafe", [1.0, 2.0])
def test_the_cosine_is_that_of_the_planted_directions(cosine: float, noise_of_unsafe: float) -> None:
    """Correlated labels, noise in 64 dimensions: uncorrected cosines are too low."""
    random, rows = np.random.default_rng(1000), []
    harm, refusal = np.zeros((2, 64))
    harm[0], refusal[0], refusal[1] = 3, 3 * cosine, 3 * (1 - cosine**2) ** 0.5
    for seed in range(12):
        unsafe = random.random(600) < 0.5
        is_refused = random.random(600) < np.where(unsafe, 0.6, 0.1)
        requests = replace(random_requests([1] * 600, d_vocab=9), unsafe=unsafe)
        labels = _Labels.create([LabelledRequests(requests, is_refused)], seed)
        noise = random.normal(size=(600, 64)) * np.where(unsafe, noise_of_unsafe, 1)[:, None]
        rows.append(_row(noise + unsafe[:, None] * harm + is_refused[:, None] * refusal, labels, 0, "eot"))
    assert np.mean([row.cosine for row in rows]) == pytest.approx(cosine, abs=0.1)
    assert sum(row.cosine_low <= cosine <= row.cosine_high for row in rows) >= 10
    assert all(-1 <= row.cosine_low <= row.cosine <= row.cosine_high <= 1 for row in rows)
    raw_error = np.mean([row.raw_cosine for row in rows]) - cosine
    assert raw_error < -0.1 if cosine > 0 else raw_error < 0


def test_equal_labels_give_none() -> None:
    networks = planted("route", 0, n=100)
    labelled = {
        "safe": LabelledRequests(_with_text_span(networks.safe), np.zeros(100, dtype=bool)),
        "unsafe": LabelledRequests(_with_text_span(networks.unsafe), np.ones(100, dtype=bool)),
    }
    rows = as_dicts(harm_refusal_rows(networks.aligned, labelled, seed=0))
    assert {(row["harm_auroc"], row["refusal_auroc"]) for row in rows} == {(None, None)}


@pytest.mark.parametrize("seed", range(2))
def test_route_steers_more_than_matched_controls(seed: int) -> None:
    networks = planted("route", seed, n=200)
    halves = [
        SafeUnsafeRequests(*(r[slice(a, b)] for r in (networks.safe, networks.unsafe)))
        for a, b in ((0, 100), (100, 200))
    ]
    control_labels = torch.from_numpy(
        np.concatenate([halves[0].safe.instructed[:, 0], halves[0].unsafe.instructed[:, 0]])
    )
    rows = {
        row["kind"]: row
        for row in as_dicts(
            matched_steering_rows(networks.aligned, *halves, control_labels=control_labels, layer=2, seed=0)
        )
    }
    assert set(rows) == {"difference", "shuffled", "other_label", "covariance", "random"}
    difference = rows.pop("difference")
    assert difference["scale"] == 1.0
    assert difference["safe_margin"] - difference["safe_baseline"] > 5
    assert difference["unsafe_baseline"] - difference["unsafe_margin"] > 5
    for kind, row in rows.items():
        if row["kl_is_matched"]:
            assert row["kl"] == pytest.approx(difference["kl"], rel=0.05), kind
        assert row["safe_margin"] < difference["safe_margin"] - 2, kind
        assert row["safe_baseline"] == difference["safe_baseline"]
