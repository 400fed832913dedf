"""Probes separate planted directions of harm and refusal; steering is compared at a matched disturbance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from makebreak.mechanism import SafeUnsafeRequests, harm_refusal_rows, matched_steering_rows
from makebreak.mechanism.harm_refusal import LabelledRequests
from makebreak.tables import as_dicts
from synthetic import Requests
from tests.truth.planted import Planted, planted


def with_jailbreak(made: Planted, seed: int) -> dict[str, LabelledRequests]:
    """Unsafe requests; those that end in one half of the letters count as successful jailbreaks."""
    letter = made.unsafe.instructed[:, 0]
    passes = letter < np.median(letter)

    def part(rows: np.ndarray, refused: bool) -> LabelledRequests:
        some: Requests = made.unsafe[rows]
        return LabelledRequests(some, np.full(len(some), refused))

    safe = LabelledRequests(made.safe, np.zeros(len(made.safe), dtype=bool))
    return {"safe": safe, "unsafe": part(~passes, True), "jailbreak": part(passes, False)}


@pytest.mark.parametrize("seed", range(3))
def test_probes_separate_each_label(seed: int) -> None:
    made = planted("route", seed, n=400)
    asked = {
        name: LabelledRequests(_spanned(found.requests), found.is_refused)
        for name, found in with_jailbreak(made, seed).items()
    }
    rows = as_dicts(harm_refusal_rows(made.aligned, asked, seed=0))
    assert [(row["layer"], row["position"]) for row in rows] == [
        (i, p) for p in ("text", "eot") for i in range(4)
    ]
    for row in rows:
        assert row["harm_auroc"] > 0.95, row
        assert row["refusal_auroc"] > 0.95, "the half of the letters is in the states too"
        assert abs(row["cosine"]) < 0.5, "they are two directions"
        assert 0.2 < row["shuffled_refusal_auroc"] < 0.8
        assert 0.2 < row["shuffled_harm_auroc"] < 0.8


def _spanned(requests: Requests) -> Requests:
    spans = {"text": requests.spans["eot"], "eot": requests.spans["eot"]}
    return Requests(**(vars(requests) | {"spans": spans}))


def test_equal_labels_give_none() -> None:
    made = planted("route", 0, n=100)
    asked = {
        "safe": LabelledRequests(_spanned(made.safe), np.zeros(100, dtype=bool)),
        "unsafe": LabelledRequests(_spanned(made.unsafe), np.ones(100, dtype=bool)),
    }
    rows = as_dicts(harm_refusal_rows(made.aligned, asked, seed=0))
    assert {(row["harm_auroc"], row["refusal_auroc"]) for row in rows} == {(None, None)}


@pytest.mark.parametrize("seed", range(2))
def test_route_steers_more_than_matched_controls(seed: int) -> None:
    made = planted("route", seed, n=200)
    halves = [
        SafeUnsafeRequests(*(r[slice(a, b)] for r in (made.safe, made.unsafe)))
        for a, b in ((0, 100), (100, 200))
    ]
    other = torch.from_numpy(
        np.concatenate([halves[0].safe.instructed[:, 0], halves[0].unsafe.instructed[:, 0]])
    )
    rows = {
        row["kind"]: row
        for row in as_dicts(
            matched_steering_rows(made.aligned, *halves, control_labels=other, layer=2, seed=0)
        )
    }
    assert set(rows) == {"difference", "shuffled", "other_label", "covariance", "random"}
    own = rows.pop("difference")
    assert own["scale"] == 1.0
    assert own["safe_margin"] - own["safe_baseline"] > 5
    assert own["unsafe_baseline"] - own["unsafe_margin"] > 5
    for kind, row in rows.items():
        if row["kl_is_matched"]:
            assert row["kl"] == pytest.approx(own["kl"], rel=0.05), kind
        assert row["safe_margin"] < own["safe_margin"] - 2, kind
        assert row["safe_baseline"] == own["safe_baseline"]
