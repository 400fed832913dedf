"""Does a guard see what it was made of, and nothing that has nothing to do with it?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm

from makebreak.defences import answered, guard_rows, guards
from makebreak.mechanism import Pair
from makebreak.requests import load_world
from tests.attacks.asked import answering, asked

MODEL, N, APART = answering("gpt2", d_vocab=12), 4000, 3.5
MANY = asked([1] * N, d_vocab=12)
AXES = {
    "a": 0,
    "b": 0,
    "c": 1,
}  # what makes a request unsafe lies in the same place for two kinds, elsewhere for one


def found(
    monkeypatch: pytest.MonkeyPatch, *, planted: bool = True, shifted: float = 0.0
) -> dict[tuple[str, str], dict[str, float]]:
    random = torch.Generator().manual_seed(0)
    states = {}
    for kind, role in (
        (k, r) for k in AXES for r in ("safe", "unsafe", "quiet", "asked safe", "asked unsafe")
    ):
        states[f"{kind} {role}"] = torch.randn(N, 2, generator=random)
        if role.endswith("unsafe") and planted:
            states[f"{kind} {role}"][:, AXES[kind]] += APART
        states[f"{kind} {role}"][:, 0] += shifted * (kind == "c")
    monkeypatch.setattr(guards, "collect", lambda model, requests, sites: [states[requests.family]])

    def named(*roles: str) -> dict[str, Pair]:
        return {kind: Pair(*(replace(MANY, family=f"{kind} {role}") for role in roles)) for kind in AXES}

    quiet = {kind: replace(MANY, family=f"{kind} quiet") for kind in AXES}
    rows = guard_rows(MODEL, named("safe", "unsafe"), quiet, named("asked safe", "asked unsafe"), layer=0)
    return {(row["made_of"], row["asked"]): row for row in rows}


def test_a_guard_sees_kinds_that_are_alike_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = found(monkeypatch)
    best = norm.cdf(APART - norm.ppf(0.99))
    for own, other in (("a", "b"), ("b", "a")):
        for asked_of in (own, other):
            assert rows[own, asked_of]["recall"] == pytest.approx(best, abs=0.04)
            assert rows[own, asked_of]["alarms"] == pytest.approx(0.01, abs=0.006)
        assert rows[own, "c"]["recall"] < 0.03
        assert rows[own, "c"]["auroc"] == pytest.approx(0.5, abs=0.05)
    assert rows["all but c", "c"]["recall"] < 0.03
    assert min(rows["all", kind]["recall"] for kind in AXES) > 0.4
    assert {made for made, _ in rows} == {"a", "b", "c", "all", "all but a", "all but b", "all but c"}


def test_recall_is_at_the_same_false_alarms_in_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kind c lies where a guard of a raises alarms, safe or not: it sees nothing there, and says so."""
    rows = found(monkeypatch, shifted=5.0)
    assert rows["a", "c"]["alarms"] > 0.95
    assert rows["a", "c"]["recall"] == pytest.approx(0.01, abs=0.01)
    assert rows["a", "c"]["auroc"] == pytest.approx(0.5, abs=0.05)
    assert rows["c", "c"]["recall"] > 0.4


def test_a_guard_against_nothing_sees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(
        row["recall"] < 0.03 and abs(row["auroc"] - 0.5) < 0.05
        for row in found(monkeypatch, planted=False).values()
    )


def test_what_was_answered_is_read_to_its_end() -> None:
    world = load_world("formats_mini")
    requests = world.sample("safe", 30, seed=0)
    read = answered(requests)
    for i in range(30):
        whole = [
            *requests.prompt[i, : requests.prompt_length[i]],
            *requests.instructed[i, : requests.judged[i, 1]],
        ]
        assert read.prompt[i, : read.prompt_length[i]].tolist() == whole
        assert read.spans["eot"][i].tolist() == [len(whole) - 1, len(whole)]
    later = replace(requests, judged=requests.judged + np.array([1, 1]))
    with pytest.raises(
        ValueError, match="family 'safe' is judged on a later output: expected one judged on the first"
    ):
        answered(later)


def test_too_few_for_a_threshold_is_told() -> None:
    pair, few = Pair(*(asked([5] * 20, d_vocab=12, seed=s) for s in (0, 1))), asked([5] * 30, d_vocab=12)
    with pytest.raises(ValueError, match=r"30 safe requests for a threshold: 0.01 false alarms need 100"):
        guard_rows(MODEL, {"a": pair}, {"a": few}, {"a": pair}, layer=0)
