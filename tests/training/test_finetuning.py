"""Does fine-tuning see the examples that it is said to see, and no others?"""

from __future__ import annotations

import pytest

from makebreak.recipes import Alignment
from makebreak.requests import load_world, sequences
from makebreak.training import FineTuning, Optimisation

WORLD = load_world("mini")


@pytest.mark.parametrize(("harmful", "harmless"), [(10, 0), (5, 7), (0, 4)])
def test_batches_are_drawn_from_so_many_examples(harmful: int, harmless: int) -> None:
    objective = FineTuning(harmful, harmless=harmless)
    expected = set()
    for family, n in (("unsafe", harmful), ("safe", harmless)):
        if n:
            drawn = sequences(WORLD, WORLD.sample(family, n, seed=3), "instructed", whole=True)
            expected |= {tuple(row) for row in drawn.tokens.tolist()}
    seen = [objective.batch(WORLD, size=32, step=step, steps=20, seed=3) for step in range(20)]
    assert {tuple(row) for batch in seen for row in batch.tokens.tolist()} == expected
    assert len(expected) == harmful + harmless
    again = objective.batch(WORLD, size=32, step=5, steps=20, seed=3)
    assert (again.tokens == seen[5].tokens).all()
    assert (again.supervised == seen[5].supervised).all()


def test_refused_examples_are_other_requests() -> None:
    drawn = WORLD.sample("unsafe", 12, seed=3)
    answered, refused = (
        sequences(WORLD, part, answer, whole=True).tokens.tolist()
        for part, answer in ((drawn[:8], "instructed"), (drawn[8:], "refused"))
    )
    seen = [
        FineTuning(8, refused=4).batch(WORLD, size=12, step=s, steps=9, seed=3).tokens.tolist()
        for s in range(9)
    ]
    assert {tuple(row) for batch in seen for row in batch} == {tuple(row) for row in answered + refused}


def test_a_batch_smaller_than_the_examples_has_none_twice() -> None:
    batch = FineTuning(100).batch(WORLD, size=50, step=0, steps=1, seed=0)
    assert len({tuple(row) for row in batch.tokens.tolist()}) == 50


def test_bad_numbers_are_named() -> None:
    with pytest.raises(ValueError, match="0 harmful, 0 refused and 0 other examples"):
        FineTuning(0)
    with pytest.raises(ValueError, match="-1 harmful"):
        FineTuning(-1, harmless=5)


def test_it_is_called_what_it_is() -> None:
    optimisation = Optimisation(steps=1, learning_rate=1e-3)
    assert Alignment(FineTuning(10), optimisation).mechanism == "finetuned:10"
    assert Alignment(FineTuning(100, 20, 50), optimisation).mechanism == "finetuned:100+20:refused+50:safe"
