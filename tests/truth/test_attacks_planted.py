"""Is an attack that works because it looks safe told from one that works otherwise?

The planted attack writes the unsafe request's letter with the safe ending: the network, which refuses by one feature of
the ending, answers. Its twin is the same attack on a network that refuses nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from makebreak.attacks import Tried, cause_rows, land, landing_rows, prediction_rows, tried, undone_at
from makebreak.mechanism import Pair
from tests.truth.planted import DEPTH, Planted, planted

HALF = DEPTH // 2


def attacked(found: Planted, *, share: float = 0.5, name: str = "relabelled") -> Tried:
    """Unsafe requests, a share of them with the safe ending of the same letter."""
    requests, n_letters = found.unsafe, int(found.unsafe.refused[0, 0])
    chosen = np.random.default_rng(0).random(len(requests)) < share
    prompt = requests.prompt.copy()
    prompt[np.arange(len(requests)), requests.prompt_length - 1] -= n_letters * chosen
    text = {"text": np.arange(len(requests))[:, None]}
    return tried(name, found.aligned, replace(requests, prompt=prompt, truth=dict(requests.truth) | text))


def halves(found: Planted) -> tuple[Pair, Pair]:
    return Pair(found.safe[:150], found.unsafe[:150]), Pair(found.safe[150:], found.unsafe[150:])


def told_by(found: Planted, attacks: list[Tried]) -> dict[str, dict[str, Any]]:
    rows = prediction_rows(land(found.aligned, halves(found)[0], attacks), seed=0)
    return {row["reader"]: row for row in rows}


@pytest.mark.parametrize("kind", ["route", "rewrite"])
def test_success_lands_on_the_safe_side_and_failure_does_not(kind: str) -> None:
    found = planted(kind, seed=1)
    attack = attacked(found)
    assert 100 < attack.complied.sum() < 200
    assert (attack.complied != attack.refused).all()
    rows = landing_rows(land(found.aligned, halves(found)[0], [attack]))
    told = max((row for row in rows if row["outcome"] == "all"), key=lambda row: row["auroc"])
    at = {row["outcome"]: row for row in rows if row["layer"] == told["layer"]}
    assert at["complied"]["safe_side"] == 1
    assert at["refused"]["safe_side"] == 0
    assert at["complied"]["normalised"] > 0.5
    assert at["all"]["auroc"] == 1
    assert at["neither"]["n"] == 0
    assert at["neither"]["tau"] is None


def test_landing_predicts_success_where_it_is_the_cause_and_not_where_success_is_a_coin() -> None:
    found = planted("rewrite", seed=2)
    attacks = [attacked(found), attacked(found, share=0.6, name="another")]
    told = told_by(found, attacks)
    assert told["tau"]["auroc"] > 0.95
    assert told["tau"]["within"] > 0.95
    assert told["attack"]["auroc"] < 0.65
    assert 0.4 < told["shuffled"]["auroc"] < 0.6
    coin = np.random.default_rng(1).random((2, 300)) < 0.5
    by_chance = [replace(a, complied=c, refused=~c) for a, c in zip(attacks, coin, strict=True)]
    told = told_by(found, by_chance)
    assert 0.4 < told["both"]["auroc"] < 0.6
    few = [a[:15] for a in attacks]
    assert all(row["auroc"] is None for row in told_by(found, few).values())


@pytest.mark.parametrize(("cause", "undone"), [(True, True), (False, False)])
def test_putting_it_back_undoes_success_where_refusal_hangs_on_it(cause: bool, undone: bool) -> None:
    found = planted("route", seed=3, cause=cause)
    fit, clean = halves(found)
    rows = cause_rows(found.aligned, fit, clean, [attacked(found)], layer=HALF, seed=0)
    at = {(row["kind"], row["scale"]): row for row in rows}
    [mirrored] = [row for row in rows if row["kind"] == "mirrored"]
    [control] = [row for row in rows if row["kind"] == "mirrored_distance"]
    assert mirrored["n"] == (attacked(found).complied.sum())
    assert (mirrored["undone"] > 0.9) == undone
    assert (mirrored["refused"] > 0.9) == undone
    assert (at["difference", 1.0]["gained"] or 0) > 0.9 if undone else at["difference", 1.0]["gained"] is None
    assert control["undone"] < 0.2
    assert mirrored["safe_before"] == 1
    if undone:  # the attack is nothing but a safe request: what undoes it refuses safe ones as well
        assert at["difference", 1.0]["safe_refused"] > 0.9
        assert undone_at(rows, "difference") == pytest.approx(0.0, abs=0.05)


def test_without_success_nothing_is_undone() -> None:
    found = planted("route", seed=4)
    fit, clean = halves(found)
    rows = cause_rows(found.aligned, fit, clean, [attacked(found, share=0.0)], layer=HALF, seed=0)
    assert all(row["undone"] is None and row["n"] == 0 for row in rows)
    assert undone_at(rows, "difference") is None
    assert not any(row["kind"].startswith("mirrored") for row in rows)
