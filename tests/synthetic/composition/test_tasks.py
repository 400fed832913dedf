"""Tests of the bijections of Jain et al. 2024 (reference §1.3) and of their composition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthetic.composition.tasks import apply_tasks, permutation_maps

DUPLICATES = {10: 0, 11: 0, 12: 1, 13: 1, 14: 2, 15: 2, 16: 0, 17: 5, 18: 6, 19: 7, 20: 8}


def slow_apply(table: list[list[int]], tasks: list[int], text: list[int]) -> list[int]:
    """One letter at a time, tasks from left to right; -1 stays."""
    result = []
    for letter in text:
        for task in tasks:
            letter = -1 if letter < 0 else table[task][letter]
        result.append(letter)
    return result


def test_maps_are_bijections_and_map_0_the_identity(world):
    """Every map is a bijection and map 0 is the identity."""
    n_letters = world.config.n_letters
    assert (np.sort(world.maps, axis=-1) == np.arange(n_letters)).all()
    assert (world.maps[:, 0] == np.arange(n_letters)).all()
    assert not (world.maps[:, 1 : world.config.n_maps] == np.arange(n_letters)).all(axis=-1).any()


def test_the_distinct_maps_differ(world):
    for table in world.maps[:, : world.config.n_maps]:
        assert len({tuple(row) for row in table}) == world.config.n_maps


@pytest.mark.parametrize("grammar", range(4))
@pytest.mark.parametrize("j", range(1, 10))
def test_seeds_of_the_paper(jain, grammar, j):
    expected = np.random.RandomState(150 * grammar + j - 1).permutation(30)
    assert (jain.maps[grammar, j] == expected).all()


def test_tokens_have_other_maps_in_other_grammars(jain):
    """One token is another bijection in another grammar."""
    for j in range(1, 10):
        assert len({tuple(jain.maps[g, j]) for g in range(4)}) == 4


def test_mini_shares_its_maps_between_grammars(mini):
    for j in range(1, 10):
        expected = np.random.RandomState(j - 1).permutation(12)
        assert (mini.maps[:, j] == expected).all()
    assert (mini.maps[:, 10] == mini.maps[:, 0]).all()
    assert (mini.maps[:, 11] == mini.maps[:, 1]).all()


def test_duplicates_of_the_paper(jain):
    assert jain.maps.shape == (4, 21, 30)
    for token, original in DUPLICATES.items():
        for g in range(4):
            same = [j for j in range(10) if (jain.maps[g, token] == jain.maps[g, j]).all()]
            assert same == [original]


@st.composite
def problems(draw):
    letters, slots, length = draw(st.integers(2, 9)), draw(st.integers(1, 4)), draw(st.integers(1, 7))
    n, tokens = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    ints = lambda low, high, *shape: np.array(  # noqa: E731
        draw(st.lists(st.integers(low, high), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    ).reshape(shape)
    maps = np.array([[draw(st.permutations(range(letters))) for _ in range(tokens)] for _ in range(n)])
    return maps, ints(0, tokens - 1, n, slots), ints(-1, letters - 1, n, length)


@settings(deadline=None, database=None, derandomize=True, max_examples=60)
@given(problems())
def test_composition_against_a_loop(problem):
    maps, tasks, text = problem
    expected = [
        slow_apply(m.tolist(), t.tolist(), x.tolist()) for m, t, x in zip(maps, tasks, text, strict=True)
    ]
    assert apply_tasks(maps, tasks, text).tolist() == expected
    shared = [slow_apply(maps[0].tolist(), t.tolist(), x.tolist()) for t, x in zip(tasks, text, strict=True)]
    assert apply_tasks(maps[0], tasks, text).tolist() == shared


@settings(deadline=None, database=None, derandomize=True, max_examples=40)
@given(problems())
def test_tasks_compose(problem):
    """Tasks applied one after another equal the row of tasks."""
    maps, tasks, text = problem
    stepwise = text
    for slot in range(tasks.shape[1]):
        stepwise = apply_tasks(maps, tasks[:, slot : slot + 1], stepwise)
    assert (apply_tasks(maps, tasks, text) == stepwise).all()
    inverse = np.argsort(maps, axis=-1)
    assert (apply_tasks(inverse, tasks[:, ::-1], stepwise) == text).all(), "a bijection can be undone"


def test_the_order_of_tasks_matters():
    """Negative control: from left to right is not from right to left."""
    maps = permutation_maps(30, 3, 0)
    text = np.arange(30)[None]
    assert (apply_tasks(maps, np.array([[1, 2]]), text)[0] == maps[2][maps[1]]).all()
    assert not (apply_tasks(maps, np.array([[2, 1]]), text)[0] == maps[2][maps[1]]).all()
