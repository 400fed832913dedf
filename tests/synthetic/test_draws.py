"""Tests of the hashed draws: uniform, independent, and the same in any batch."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthetic.draws import Draws, hash_key, hash_rows

N = 40_000
MASK = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15


def slow_mix(x: int) -> int:
    """SplitMix64's finaliser on Python integers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def draws(seed: int = 0, attempt: int = 0, start: int = 0, n: int = N) -> Draws:
    return Draws(seed, np.arange(start, start + n), attempt)


@pytest.mark.parametrize("high", [2, 3, 7, 100])
def test_integers_are_uniform(goodness_z, high):
    counts = np.bincount(draws(3).integers("x", 1, high)[:, 0], minlength=high)
    assert len(counts) == high
    assert abs(goodness_z(counts, np.full(high, N / high))) < 5


def test_integers_with_a_bound_per_entry(goodness_z):
    high = np.where(np.arange(N)[:, None] % 2 == 0, 5, 8)
    values = draws().integers("x", 1, high)[:, 0]
    for parity, bound in ((0, 5), (1, 8)):
        counts = np.bincount(values[parity::2])
        assert len(counts) == bound
        assert abs(goodness_z(counts, np.full(bound, N / 2 / bound))) < 5


def test_uniform_floats(goodness_z):
    x = draws(5).uniform("u", 3)
    assert x.shape == (N, 3)
    assert 0 <= x.min() < x.max() < 1
    for column in x.T:
        assert abs(goodness_z(np.histogram(column, 64, (0, 1))[0], np.full(64, N / 64))) < 5


def test_permutations_of_four_are_uniform(goodness_z):
    order = draws(1).permutation("p", 4)
    assert (np.sort(order, axis=1) == np.arange(4)).all()
    codes, counts = np.unique(order @ [64, 16, 4, 1], return_counts=True)
    assert len(codes) == 24
    assert abs(goodness_z(counts, np.full(24, N / 24))) < 5


@pytest.mark.parametrize(
    "other",
    [
        lambda: draws(start=1).integers("x", 1, 8),
        lambda: draws(attempt=1).integers("x", 1, 8),
        lambda: draws(seed=1).integers("x", 1, 8),
        lambda: draws().integers("y", 1, 8),
        lambda: draws().integers("x", 2, 8)[:, 1:],
    ],
    ids=["next index", "next attempt", "next seed", "other name", "next position"],
)
def test_choices_are_independent(independence_z, other):
    first, second = draws().integers("x", 1, 8)[:, 0], other()[:, 0]
    table = np.bincount(first * 8 + second, minlength=64).reshape(8, 8)
    assert abs(independence_z(table)) < 5


def test_independence_test_detects_dependence(independence_z):
    """Negative control: one draw in fifty copied from the other is detected."""
    first, second = draws().integers("x", 1, 8)[:, 0], draws().integers("y", 1, 8)[:, 0]
    second = np.where(np.arange(N) % 50 == 0, first, second)
    assert independence_z(np.bincount(first * 8 + second, minlength=64).reshape(8, 8)) > 5


@settings(deadline=None, database=None, derandomize=True, max_examples=40)
@given(seed=st.integers(0, 10**6), start=st.integers(0, 10**9), rows=st.lists(st.integers(0, 19), min_size=1))
def test_rows_of_draws_are_draws_of_rows(seed, start, rows):
    """A selection of rows draws what the whole draws in those rows."""
    rows = np.array(rows)
    whole = Draws(seed, np.arange(start, start + 20))
    for part in (whole[rows], Draws(seed, start + rows)):
        assert len(part) == len(rows)
        assert (part.bits("a", 3) == whole.bits("a", 3)[rows]).all()
        assert (part.permutation("b", 4) == whole.permutation("b", 4)[rows]).all()
    assert (whole.bits("a", 2) == whole.bits("a", 5)[:, :2]).all(), "a wider draw extends a narrower one"


@settings(deadline=None, database=None, derandomize=True, max_examples=40)
@given(seed=st.integers(0, 10**6), index=st.integers(0, 2**40), attempt=st.integers(0, 2000))
def test_bits_against_python_integers(seed, index, attempt):
    state = slow_mix((int(hash_key("draws", seed, attempt)) + (index + 1) * GAMMA) & MASK)
    column = slow_mix((int(hash_key("x")) + 2 * GAMMA) & MASK)
    assert int(Draws(seed, np.array([index]), attempt).bits("x", 2)[0, 1]) == slow_mix(state ^ column) >> 32


def test_hash_rows_against_python_integers():
    """Hashes equal those computed with Python integers."""
    rows = np.array([[3, 1, 4, -1], [1, 3, 4, -1], [0, 0, 0, 0]])
    for row, hashed in zip(rows, hash_rows(rows), strict=True):
        terms = [
            slow_mix((int(v) + GAMMA) & MASK) * (slow_mix((i + 1) * GAMMA & MASK) | 1)
            for i, v in enumerate(row)
        ]
        assert int(hashed) == slow_mix(sum(terms) & MASK)


def test_hash_rows_depends_on_order_and_padding():
    """Order and padding change the hash; the split into columns does not."""
    rows = np.array([[1, 2, 3], [3, 2, 1], [1, 2, -1], [1, 2, 0], [1, 2, 3]])
    hashed = hash_rows(np.array([0, 0, 0, 0, 1]), rows)
    assert len(set(hashed.tolist())) == 5
    assert (hashed == hash_rows(np.concatenate([[[0], [0], [0], [0], [1]], rows], axis=1))).all()


def test_hash_key_is_blake2b():
    """Keys must not change between versions: a stored seed would name other requests."""
    for parts in (("a",), ("b",), ("a", 0), ("a", "0"), ("draws", 7, 1)):
        digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
        assert int(hash_key(*parts)) == sum(byte << (8 * i) for i, byte in enumerate(digest))
