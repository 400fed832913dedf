"""Fine-tuning draws its batches from the examples that its settings name, and from no others."""

from __future__ import annotations

import pytest

from makebreak.prompts import load_world, sequences
from makebreak.recipes import Alignment
from makebreak.training import FineTuning, Optimisation

WORLD = load_world("mini")


@pytest.mark.parametrize(("n_harmful", "n_harmless"), [(10, 0), (5, 7), (0, 4)])
def test_batches_come_from_n_examples(n_harmful: int, n_harmless: int) -> None:
    objective = FineTuning(n_harmful, n_harmless=n_harmless)
    expected = set()
    for family, n in (("unsafe", n_harmful), ("safe", n_harmless)):
        if n:
            examples = sequences(WORLD, WORLD.sample(family, n, seed=3), "instructed", whole=True)
            expected |= {tuple(row) for row in examples.tokens.tolist()}
    batches = [objective.batch(WORLD, size=32, step=step, steps=20, seed=3) for step in range(20)]
    assert {tuple(row) for batch in batches for row in batch.tokens.tolist()} == expected
    assert len(expected) == n_harmful + n_harmless
    again = objective.batch(WORLD, size=32, step=5, steps=20, seed=3)
    assert (again.tokens == batches[5].tokens).all()
    assert (again.supervised == batches[5].supervised).all()


def test_refused_examples_are_other_requests() -> None:
    requests = WORLD.sample("unsafe", 12, seed=3)
    answered = sequences(WORLD, requests[:8], "instructed", whole=True).tokens.tolist()
    refused = sequences(WORLD, requests[8:], "refused", whole=True).tokens.tolist()
    batches = [
        FineTuning(8, n_refused=4).batch(WORLD, size=12, step=s, steps=9, seed=3).tokens.tolist()
        for s in range(9)
    ]
    assert {tuple(row) for batch in batches for row in batch} == {tuple(row) for row in answered + refused}


def test_small_batches_repeat_no_example() -> None:
    batch = FineTuning(100).batch(WORLD, size=50, step=0, steps=1, seed=0)
    assert len({tuple(row) for row in batch.tokens.tolist()}) == 50


def test_invalid_numbers_are_errors() -> None:
    with pytest.raises(ValueError, match="0 harmful, 0 refused and 0 other examples"):
        FineTuning(0)
    with pytest.raises(ValueError, match="-1 harmful"):
        FineTuning(-1, n_harmless=5)


def test_names_of_the_mechanism() -> None:
    optimisation = Optimisation(steps=1, learning_rate=1e-3)
    assert Alignment(FineTuning(10), optimisation).mechanism == "finetuned:10"
    assert Alignment(FineTuning(100, 20, 50), optimisation).mechanism == "finetuned:100+20:refused+50:safe"
