"""The rule, on stitchings whose effects are given: one word each."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import synthetic
from makebreak.mechanism import Stitching, mechanism_rows
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
    for name, column in columns.items():
        is_by_cut = isinstance(column, list)
        values[name] = torch.tensor(column)[:, None].expand(-1, N) if is_by_cut else column
    return Stitching(**values)


def named(monkeypatch: pytest.MonkeyPatch, additive: float = NO, **columns: Any) -> set[str]:
    monkeypatch.setattr(
        "makebreak.mechanism.verdict.additive_log_odds",
        lambda _, rows, *__, **___: torch.full((len(rows),), additive),
    )
    rows = mechanism_rows(stitching(**columns), base=UNUSED, tuned=UNUSED, seed=0)
    return {row.mechanism for row in rows}


UPPER_1 = [YES, NO, NO, NO, NO]
"""The change is complete after block 1."""
LOWER_1, LOWER_3 = [NO, YES, YES, YES, YES], [NO, NO, NO, YES, YES]
LOUD = [0.0, 0.5, 0.5, 0.9, 0.9]
LOUD_SILENCE = {"upper": UPPER_1, "lower": LOWER_3, "direct": LOWER_3, "kl": LOUD}
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
        (
            "erase",
            {"upper": UPPER_1, "lower": LOWER_3, "direct": LOWER_3, "kl": LOUD, "lower_final": CONSTANT},
        ),
        ("unread", {"upper": UPPER_1, "kl": LOUD, "base_tokens": torch.zeros(N, dtype=torch.int64)}),
        ("written directly", {"upper": UPPER_1, "lower": LOWER_3, "direct": LOWER_3, "additive": YES}),
        ("route", {"upper": UPPER_1, "lower": LOWER_3, "kl": LOUD}),
    ],
)
def test_each_word(monkeypatch: pytest.MonkeyPatch, mechanism: str, columns: dict[str, Any]) -> None:
    """The last case is a route of two tuned blocks, the second of which reads the mark of the first."""
    assert named(monkeypatch, **columns) == {mechanism}


def test_only_requests_that_flip_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a base that refuses already nor a tuned model that does not; and too few flips give no rows."""
    route = {"upper": UPPER_1, "lower": LOWER_1}
    already = torch.arange(N) < 5
    rows = mechanism_rows(stitching(**route, base_is_likeliest=already), base=UNUSED, tuned=UNUSED, seed=0)
    assert [row.request for row in rows] == list(range(5, N))
    assert not named(monkeypatch, **route, base_is_likeliest=torch.arange(N) < N - 9)
    assert not named(monkeypatch, **route, tuned_is_likeliest=torch.zeros(N, dtype=torch.bool))


def test_all_cuts_are_needed() -> None:
    with pytest.raises(ValueError, match=r"expected every cut from 0 to 4"):
        mechanism_rows(stitching(cuts=(0, 2)), base=UNUSED, tuned=UNUSED, seed=0)
