"""The rule for single requests, on stitchings whose effects are given."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import synthetic
from makebreak.mechanism import NOT_JUDGED, MechanismRow, Stitching, mechanism_rows
from makebreak.mechanism.additive import AdditiveLogOdds
from makebreak.models import MODEL_SIZES, create_model

N, DEPTH, D = 20, 4, 8
NO, YES = -6.0, 6.0
REQUESTS = synthetic.load("mini").sample("unsafe", N, seed=0)
UNUSED = create_model(MODEL_SIZES["tiny"], d_vocab=8, n_ctx=8, seed=0)
"""In place of models, which the rule does not run in these cases."""


def stitching(**columns: list[float] | Any) -> Stitching:
    """Every request flips; by default no combination refuses and nothing changes the base."""
    values: dict[str, Any] = {
        "requests": REQUESTS,
        "answer": "refused",
        "cuts": tuple(range(DEPTH + 1)),
        "n_layers": DEPTH,
        "base_log_odds": torch.full((N,), NO),
        "tuned_log_odds": torch.full((N,), YES),
        "base_is_likeliest": torch.zeros(N, dtype=torch.bool),
        "tuned_is_likeliest": torch.ones(N, dtype=torch.bool),
        "base_tokens": torch.arange(N) % 2,
        "tuned_kl": torch.ones(N),
        "base_final": torch.eye(D)[torch.arange(N) % 2],
        "lower_final": torch.eye(D)[torch.arange(N) % 2].expand(DEPTH + 1, N, D),
        "movement": torch.zeros(DEPTH + 1, N, D),
    }
    for name in ("lower", "upper", "direct", "random"):
        values[name] = torch.full((DEPTH + 1, N), NO)
    values["kl"] = torch.zeros(DEPTH + 1, N)
    values["keeps_answer"] = torch.ones(DEPTH + 1, N, dtype=torch.bool)
    for name, column in columns.items():
        is_by_cut = isinstance(column, list)
        values[name] = torch.tensor(column)[:, None].expand(-1, N) if is_by_cut else column
    return Stitching(**values)


NO_SUM, WHOLE_SUM = (NO, NO, NO, NO), (YES, YES, YES, YES)
"""Sums of changes: carried, the same by the refusal alone; reacting, the same by the refusal alone."""


def rows_of(monkeypatch: pytest.MonkeyPatch, sums: Any = NO_SUM, **columns: Any) -> list[MechanismRow]:
    monkeypatch.setattr(
        "makebreak.mechanism.combinations.additive_log_odds",
        lambda _, rows, *__, **___: AdditiveLogOdds(*(torch.full((len(rows),), value) for value in sums)),
    )
    return mechanism_rows(stitching(**columns), base=UNUSED, tuned=UNUSED, seed=0)


def named(monkeypatch: pytest.MonkeyPatch, sums: Any = NO_SUM, **columns: Any) -> set[str]:
    return {row.mechanism for row in rows_of(monkeypatch, sums, **columns)}


UPPER_1 = [YES, NO, NO, NO, NO]
"""The change is complete after block 1."""
LOWER_1, LOWER_3, LOWER_4 = [NO, YES, YES, YES, YES], [NO, NO, NO, YES, YES], [NO, NO, NO, NO, YES]
LOUD = [0.0, 0.5, 0.5, 0.9, 0.9]
LATE = [0.0, 0.0, 0.5, 0.9, 0.9]
"""The base reacts to what a tuned block above the complete cut writes, such as a part of the refusal."""
LOUD_SILENCE = {"upper": UPPER_1, "lower": LOWER_3, "direct": LOWER_3, "kl": LOUD}
TO_THE_LAST = {"upper": UPPER_1, "lower": LOWER_4, "direct": LOWER_4, "kl": LOUD}
"""The last block is needed, too."""
CONSTANT = torch.zeros(DEPTH + 1, N, D)


@pytest.mark.parametrize(
    ("mechanism", "columns"),
    [
        ("route", {"upper": UPPER_1, "lower": LOWER_1}),
        ("written directly", {"upper": UPPER_1, "lower": LOWER_1, "direct": LOWER_1}),
        ("unspecific", {"upper": UPPER_1, "lower": LOWER_1, "random": LOWER_1}),
        ("redundant", {"upper": [YES, YES, YES, NO, NO], "lower": LOWER_1}),
        ("last block", {"upper": [YES, YES, YES, YES, NO], "lower": [NO, NO, NO, NO, YES]}),
        ("last block", {"upper": [YES, YES, YES, YES, YES]}),
        ("silence", {"upper": UPPER_1, "lower": LOWER_3, "direct": LOWER_3}),
        ("rewrite", LOUD_SILENCE),
        ("silence", {**LOUD_SILENCE, "kl": LATE}),
        ("rewrite", {**LOUD_SILENCE, "kl": LATE, "keeps_answer": [True, True, False, True, True]}),
        (
            "erase",
            {"upper": UPPER_1, "lower": LOWER_3, "direct": LOWER_3, "kl": LOUD, "lower_final": CONSTANT},
        ),
        ("unread", {"upper": UPPER_1, "kl": LOUD, "base_tokens": torch.zeros(N, dtype=torch.int64)}),
        ("written directly", {**LOUD_SILENCE, "sums": WHOLE_SUM}),
        ("written directly", {**TO_THE_LAST, "sums": WHOLE_SUM}),
        ("written directly", {**TO_THE_LAST, "kl": [0.0] * 5, "sums": WHOLE_SUM}),
        ("unspecific", {**TO_THE_LAST, "random": LOWER_4, "sums": WHOLE_SUM}),
        ("rewrite", TO_THE_LAST),
        ("route", {**TO_THE_LAST, "sums": (NO, NO, YES, YES)}),
        ("rewrite", {**TO_THE_LAST, "sums": (NO, NO, YES, NO)}),
        ("written directly", {**TO_THE_LAST, "sums": (YES, NO, YES, YES)}),
        ("erase", {**TO_THE_LAST, "lower_final": CONSTANT, "sums": (YES, NO, YES, YES)}),
        ("rewrite", {**TO_THE_LAST, "sums": (YES, YES, NO, NO)}),
        ("written directly", {"upper": UPPER_1, "lower": LOWER_3, "sums": (YES, YES, YES, NO)}),
        ("route", {"upper": UPPER_1, "lower": LOWER_3, "sums": WHOLE_SUM}),
        ("route", {"upper": UPPER_1, "lower": LOWER_3, "kl": LOUD}),
    ],
)
def test_each_word(monkeypatch: pytest.MonkeyPatch, mechanism: str, columns: dict[str, Any]) -> None:
    """The last case is a route of two tuned blocks, the second of which reads the mark of the first.

    Before it: changes that add up. Where the base's blocks are needed it is a route, but not where they only
    make the answer weaker; where the answer's loss is needed and complete, it is erased.
    """
    assert named(monkeypatch, **columns) == {mechanism}


def test_half_erased_is_not_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    """One group of requests, of which some lost their answer: neither a rewrite nor an erasure."""
    tokens, names = torch.arange(N) % 2, []
    for n_erased in (0, 6, 12, N):
        final = torch.eye(D)[torch.where(torch.arange(N) < n_erased, 2, tokens)].expand(DEPTH + 1, N, D)
        names.append(named(monkeypatch, **LOUD_SILENCE | {"lower_final": final}))
    assert names == [{"rewrite"}, {"unread"}, {"unread"}, {"erase"}]


def test_only_requests_that_flip_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a base that refuses already nor a tuned model that does not; none if too few flip."""
    route = {"upper": UPPER_1, "lower": LOWER_1}
    already = torch.arange(N) < 5
    rows = mechanism_rows(stitching(**route, base_is_likeliest=already), base=UNUSED, tuned=UNUSED, seed=0)
    assert [row.request for row in rows] == list(range(5, N))
    assert named(monkeypatch, **route, base_is_likeliest=torch.arange(N) < N - 9) == {NOT_JUDGED}
    assert not named(monkeypatch, **route, tuned_is_likeliest=torch.zeros(N, dtype=torch.bool))


def test_flips_without_a_gain_are_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The likeliest token can become the refusal because another one falls."""
    falls = torch.where(torch.arange(N) < 8, -1.0, YES)
    base = torch.full((N,), -0.5)
    silence = {"upper": [YES, -0.5, -0.5, -0.5, -0.5], "lower": [-0.5, -0.5, -0.5, -0.5, YES]}
    rows = rows_of(monkeypatch, **silence, base_log_odds=base, tuned_log_odds=falls)
    assert [row.mechanism for row in rows] == [NOT_JUDGED] * 8 + ["silence"] * 12
    assert all(row.gain < 0 and row.complete_at is None for row in rows[:8])


def test_all_cuts_are_needed() -> None:
    with pytest.raises(ValueError, match=r"expected every cut from 0 to 4"):
        mechanism_rows(stitching(cuts=(0, 2)), base=UNUSED, tuned=UNUSED, seed=0)
