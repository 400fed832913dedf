"""Crossings of planted curves, whose points are known."""

from __future__ import annotations

import numpy as np
import pytest

from makebreak.model_zoo import common_descending_value, descending_crossing, first_crossing

PEAKED = np.array([0.0, 0.2, 0.8, 0.4, 0.1])
BUMPY = np.array([0.0, 0.8, 0.1, 0.4, 0.05])
RISING = np.array([0.0, 0.1, 0.2, 0.5])


@pytest.mark.parametrize(
    ("curve", "target", "first", "last"),
    [
        (PEAKED, 0.4, 1 + 1 / 3, 3.0),
        (PEAKED, 0.2, 1.0, 3 + 2 / 3),
        (PEAKED, 0.1, 0.5, 4.0),  # where it ends
        (PEAKED, 0.05, 0.25, None),  # it ends above
        (PEAKED, 0.8, 2.0, None),  # the peak itself is not exceeded
        (PEAKED, 0.9, None, None),
        (BUMPY, 0.2, 0.25, 3 + 4 / 7),  # not at the first of two falls
        (BUMPY, 0.6, 0.75, 1 + 2 / 7),
        (RISING, 0.2, 2.0, None),
        (RISING, 0.0, 0.0, None),
        (RISING[::-1], 0.2, 0.0, 1.0),
    ],
)
def test_crossings_by_hand(curve: np.ndarray, target: float, first: float | None, last: float | None) -> None:
    assert first_crossing(curve, target) == (None if first is None else pytest.approx(first))
    assert descending_crossing(curve, target) == (None if last is None else pytest.approx(last))


def test_crossing_before_the_start_does_not_count() -> None:
    assert descending_crossing(BUMPY, 0.6, start=1) == pytest.approx(1 + 2 / 7)
    assert descending_crossing(BUMPY, 0.6, start=2) is None
    assert descending_crossing(BUMPY, 0.2, start=2) == descending_crossing(BUMPY, 0.2)


def test_interpolated_value_is_the_target() -> None:
    """On random curves, and never exceeded behind the point."""
    rng = np.random.default_rng(0)
    n_found = 0
    for _ in range(200):
        curve, target, start = rng.random(8), rng.random(), int(rng.integers(8))
        position = descending_crossing(curve, target, start)
        if position is None:
            assert curve[-1] > target or (curve[start:] <= target).all()
            continue
        n_found += 1
        assert start < position
        assert np.interp(position, np.arange(8), curve) == pytest.approx(target)
        assert (curve[int(np.ceil(position)) :] <= target).all()
    assert n_found > 50


def test_common_value() -> None:
    """Between the greatest end, .1, and the lowest peak; none if no peak is above that end."""
    assert common_descending_value([(PEAKED, 0), (BUMPY, 0)]) == pytest.approx((0.1 * 0.8) ** 0.5)
    assert common_descending_value([(PEAKED, 0), (BUMPY, 2)]) == pytest.approx((0.1 * 0.4) ** 0.5)
    assert common_descending_value([(PEAKED, 0), (RISING, 0)]) is None
    assert common_descending_value([(PEAKED, 0), (BUMPY / 10, 0)]) is None
    for curve, start in [(PEAKED, 0), (BUMPY, 2)]:
        assert descending_crossing(curve, (0.1 * 0.4) ** 0.5, start) is not None
