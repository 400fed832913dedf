"""The verdict names the planted mechanism, and none where none is planted."""

from __future__ import annotations

import numpy as np
import pytest

from makebreak.evaluation import first_tokens, log_odds, next_token_log_probs
from makebreak.mechanism import MechanismVerdict, mechanism_verdict, stitching_rows
from makebreak.tables import as_dicts
from tests.truth.planted import DEPTH, KINDS, Planted, planted

EXPECTED = {kind: kind for kind in ("silence", "route", "rewrite", "erase")} | {
    "upper only": "undecided",
    "nothing": "undecided",
}
SEEDS = range(10)


def verdict(networks: Planted) -> MechanismVerdict:
    return mechanism_verdict(
        stitching_rows(networks.aligned, networks.base, networks.unsafe, cuts=[DEPTH // 2], seed=0)
    )


def test_planted_networks_behave_as_built() -> None:
    for kind in KINDS:
        for seed in SEEDS:
            networks = planted(kind, seed)
            for requests, model, answer in (
                (networks.safe, networks.base, "instructed"),
                (networks.unsafe, networks.base, "instructed"),
                (networks.safe, networks.aligned, "instructed"),
                (networks.unsafe, networks.aligned, "instructed" if kind == "nothing" else "refused"),
            ):
                margins = log_odds(next_token_log_probs(model, requests), first_tokens(requests, answer))
                assert float((margins > 0).double().mean()) > 0.99, (kind, seed, answer)


QUICK = ("route", "silence")
"""Kinds of mechanism that `make test` judges; `make test-all` judges all of them."""


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind not in QUICK)) for kind in KINDS]
)
def test_verdict_is_right_in_nine_of_ten(kind: str) -> None:
    verdicts = [verdict(planted(kind, seed)) for seed in SEEDS]
    right = [v.mechanism == EXPECTED[kind] for v in verdicts]
    assert sum(right) >= 9, verdicts


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "nothing"])
def test_verdict_needs_the_planted_cause(kind: str) -> None:
    assert verdict(planted(kind, 0, cause=False)).mechanism == "undecided"


@pytest.mark.slow
def test_rows_do_not_depend_on_order_or_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = planted("rewrite", 1)
    whole = as_dicts(stitching_rows(networks.aligned, networks.base, networks.unsafe, seed=0))
    monkeypatch.setattr("makebreak.evaluation.decisions.MAX_BATCH_SIZE", 7)
    parts = as_dicts(stitching_rows(networks.aligned, networks.base, networks.unsafe, seed=0))
    monkeypatch.undo()
    reversed_rows = as_dicts(
        stitching_rows(
            networks.aligned,
            networks.base,
            networks.unsafe[np.arange(len(networks.unsafe))[::-1].copy()],
            seed=0,
        )
    )
    exact = [
        "base_margin",
        "aligned_margin",
        "aligned_lower",
        "aligned_upper",
        "aligned_lower_share",
        "aligned_upper_share",
        "kl",
    ]
    for a, b, c in zip(whole, parts, reversed_rows, strict=True):
        assert [b[k] for k in exact] == pytest.approx([a[k] for k in exact], abs=1e-4)
        assert [c[k] for k in exact] == pytest.approx([a[k] for k in exact], abs=1e-4)
