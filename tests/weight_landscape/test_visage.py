"""VISAGE, as released and as defined, on ten curves run through the original function; widths of basins."""

from __future__ import annotations

import numpy as np
import pytest

from makebreak.prompts import Outcome
from makebreak.weight_landscape import (
    Basin,
    basin,
    crossing,
    visage,
    visage_bounds,
    visage_continuous,
    visage_released,
    width_interval,
)


def curve(*parts: float | tuple[float, int]) -> np.ndarray:
    """Values, or pairs of a value and its number of repetitions."""
    return np.concatenate([np.full(p[1], p[0]) if isinstance(p, tuple) else [p] for p in parts]).astype(float)


GOLDEN = {
    "A": (curve((100, 5), 50, (0, 9), 50, (100, 5)), 90.909, 90.909),
    "B": (curve((0, 21)), 100.0, 100.0),
    "C": (curve((100, 21)), 0.0, None),
    "D": (curve((100, 10), 0, (100, 10)), 4.762, 100.0),
    "E": (curve(95, 100, 100, 40, (0, 14), 60, 100, 100), 93.750, 88.529),
    "F": (curve((100, 5), 50, 0, 0, 100, (0, 6), 50, (100, 5)), 81.818, 90.000),
    "G": (curve((100, 9), (0, 3), (100, 9)), 100.0, 100.0),
    "H": (curve((100, 6), (0, 9), (100, 6)), 100.0, 100.0),
    "I": (curve((100, 5), (0, 16)), 100.0, 100.0),
    "J": (curve((100, 5), 99.995, (0, 9), (100, 6)), 100.0, 90.0005),
}


@pytest.mark.parametrize("name", list(GOLDEN))
def test_golden_curves(name: str) -> None:
    values, released, defined = GOLDEN[name]
    assert len(values) == 21
    assert visage_released(values) == pytest.approx(released, abs=5e-4)
    assert visage(values) == (None if defined is None else pytest.approx(defined, abs=5e-4))


AXIS = np.linspace(-0.5, 0.5, 21).round(9)


def test_widths_of_a_basin_with_sloped_sides() -> None:
    """Flat to .1 on the left and .2 on the right, then up to 1 within .1 and .2."""
    failure = np.where(AXIS < 0, ((-AXIS - 0.1) / 0.1).clip(0, 1), ((AXIS - 0.2) / 0.2).clip(0, 1))
    shape = basin(AXIS, failure)
    assert shape.left == pytest.approx(0.15)
    assert shape.right == pytest.approx(0.3)
    assert shape.r50 == pytest.approx(0.225)
    assert not shape.is_censored
    assert shape.plateau == pytest.approx((0.105 + 0.21) / 2)
    assert shape.transition_width == pytest.approx((0.08 + 0.16) / 2)
    assert shape.asymmetry == pytest.approx(0.15 / 0.45)
    assert shape.area == pytest.approx(0.45)
    assert shape.grid_error == pytest.approx(0.05), "the crossings are at points, which a wall would follow"


def test_constant_curves() -> None:
    assert basin(AXIS, np.zeros(21)) == Basin(
        0.5, 0.5, True, 0.5, pytest.approx(1.0), None, 0.0, 0.5, 0.5, 0.0
    )
    assert basin(AXIS, np.ones(21)) == Basin(0.0, 0.0, False, 0.5, 0.0, None, None, 0.0, 0.0, 0.0)


def test_the_grid_error_bounds_the_half_widths_of_walls() -> None:
    """Walls at planted distances: half-widths are off by at most that."""
    random = np.random.default_rng(1000)
    for left, right in ((0.2, 0.3), *random.uniform(0.01, 0.49, (50, 2))):

        def failure(a: float, left: float = left, right: float = right) -> float:
            return float(not -left <= a <= right)

        shape = basin(AXIS, np.array([failure(a) for a in AXIS.tolist()]))
        errors = np.abs([shape.left - left, shape.right - right])
        assert errors.max() <= shape.grid_error + 1e-9 <= 0.0251
    planted = basin(AXIS, np.where((AXIS < -0.2) | (AXIS > 0.3), 1.0, 0.0))
    assert (planted.left, planted.right) == pytest.approx((0.225, 0.325))


def test_continuous_visage_is_the_expectation() -> None:
    """Failure rises from 0 at .1 to 1 at .4: (.1 + .15) / .4; 21 points have a mean of 10 / 15."""
    for n, mean in ((21, 200 / 3), (201, None)):
        axis = np.linspace(-0.5, 0.5, n).round(9)
        failure = 100 * ((np.abs(axis) - 0.1) / 0.3).clip(0, 1)
        assert visage_continuous(axis, failure) == pytest.approx(62.5)
        assert mean is None or visage(failure) == pytest.approx(mean)
    assert visage(failure) == pytest.approx(62.5, abs=0.5)
    assert visage_continuous(AXIS, np.full(21, 100.0)) is None
    assert visage_continuous(AXIS, np.zeros(21)) == pytest.approx(100)


def test_visage_bounds_hold_the_truth_of_steps() -> None:
    """Failure steps from one planted rate to another, then to a wall at 100 %, at offsets to the grid."""
    random = np.random.default_rng(1000)
    for _ in range(200):
        inner, outer = np.sort(random.uniform(0.01, 0.49, (2, 2)), axis=0)  # of both sides
        low, high = np.sort(random.uniform(0, 100, 2))
        side = (AXIS > 0).astype(int)
        failure = np.where(np.abs(AXIS) > outer[side], 100.0, np.where(np.abs(AXIS) > inner[side], high, low))
        truth = ((100 - low) * inner.sum() + (100 - high) * (outer - inner).sum()) / outer.sum()
        bounds, value = visage_bounds(AXIS, failure), visage_continuous(AXIS, failure)
        assert bounds is not None
        assert value is not None
        assert bounds[0] - 1e-9 <= min(truth, value) <= max(truth, value) <= bounds[1] + 1e-9
    wall = np.where(np.abs(AXIS) > 0.21, 100.0, 0.0)
    assert visage_continuous(AXIS, wall) == pytest.approx(90), "the truth is 100"
    assert visage_bounds(AXIS, wall) == pytest.approx((80, 100))
    assert visage_bounds(AXIS, np.full(21, 100.0)) is None
    assert visage_bounds(AXIS, np.zeros(21)) == pytest.approx((100, 100))


def test_visage_bounds_are_tight_and_narrow_with_the_grid() -> None:
    """Curves that approach both bounds exist, and a finer grid brings the bounds together."""
    axis, failure = np.array([-1.0, 0.0, 1.0]), np.array([100.0, 0.0, 50.0])
    assert visage_bounds(axis, failure) == pytest.approx((25, 100))
    fine = np.linspace(-1, 1, 20_001)
    lowest = np.select([fine < 0, fine == 0], [99.999, 0], 50)
    highest = np.select([fine < -1e-9 - 0.9999, fine < 1], [100, 0], 50)
    for curve, bound in ((lowest, 25), (highest, 100)):
        assert visage_continuous(fine, curve.astype(float)) == pytest.approx(bound, abs=0.1)
    widths = []
    for n in (21, 81, 321):
        grid = np.linspace(-0.5, 0.5, n)
        bounds = visage_bounds(grid, 100 * ((np.abs(grid) - 0.1) / 0.3).clip(0, 1))
        assert bounds is not None
        assert bounds[0] < 62.5 < bounds[1]
        widths.append(bounds[1] - bounds[0])
    assert widths[0] > 3 * widths[1] > 9 * widths[2]


def test_visage_does_not_depend_on_width() -> None:
    narrow, wide = GOLDEN["G"][0] / 100, GOLDEN["H"][0] / 100
    assert visage(100 * narrow) == visage(100 * wide)
    assert basin(AXIS, narrow).r50 < basin(AXIS, wide).r50


@pytest.mark.parametrize("coordinates", [AXIS[::-1], AXIS + 0.01, AXIS[:11]])
def test_coordinates_ascend_around_the_origin(coordinates: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected ascending ones around 0"):
        basin(coordinates, np.zeros(len(coordinates)))


def test_crossing_is_linear_between_points() -> None:
    distance = np.array([0.0, 1.0, 2.0])
    assert crossing(distance, np.array([0.0, 0.2, 1.0]), 0.6) == pytest.approx(1.5)
    assert crossing(distance, np.array([0.7, 0.2, 1.0]), 0.6) == 0
    assert crossing(distance, np.array([0.0, 0.2, 0.3]), 0.6) is None


def outcomes_along(thresholds: np.ndarray, reach: list[float]) -> list[dict[float, np.ndarray]]:
    """Each request is refused up to a distance of its own, times the direction's reach."""
    return [
        {float(a): np.where(abs(a) <= thresholds * scale, Outcome.REFUSE, Outcome.NEITHER) for a in AXIS}
        for scale in reach
    ]


def test_interval_over_requests() -> None:
    thresholds = np.linspace(0.1, 0.4, 400)
    low, high = width_interval(outcomes_along(thresholds, [1.0]))
    assert low < 0.25 < high
    expected = 2 * 1.96 * 0.3 / (2 * np.sqrt(400))  # of a median of uniform draws
    assert high - low == pytest.approx(expected, rel=0.25)
    identical = width_interval(outcomes_along(np.full(400, 0.26), [1.0]))
    assert identical == pytest.approx((0.275, 0.275))


def test_interval_over_directions() -> None:
    same, spread = (
        width_interval(outcomes_along(np.full(50, 0.21), reach)) for reach in ([1.0] * 8, [1.0, 2.0] * 4)
    )
    assert same[1] - same[0] == pytest.approx(0.0)
    assert spread[1] - spread[0] > 0.1
    never = width_interval(outcomes_along(np.full(50, 9.0), [1.0] * 4))
    assert never == pytest.approx((0.5, 0.5))
    assert width_interval(outcomes_along(np.full(50, -1.0), [1.0] * 4)) == (0.0, 0.0)


def test_interval_equals_the_basin() -> None:
    """The vectorised edges against `basin`, on rates that go up and down."""
    random = np.random.default_rng(0)
    answers = [random.choice([Outcome.REFUSE, Outcome.NEITHER], 6, p=[p, 1 - p]) for p in 1 - np.abs(AXIS)]
    six = [{a: np.repeat(row[i], 6) for a, row in zip(AXIS.tolist(), answers, strict=True)} for i in range(6)]
    for curve in six:
        shape = basin(AXIS, np.array([curve[a][0] != Outcome.REFUSE for a in AXIS.tolist()], dtype=float))
        assert width_interval([curve]) == pytest.approx((shape.r50, shape.r50))
