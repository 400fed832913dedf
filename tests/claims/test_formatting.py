"""Evaluated claims as text."""

from __future__ import annotations

from typing import Any

import pytest

from makebreak.claims import format_value


@pytest.mark.parametrize(
    ("estimate", "interval", "text"),
    [
        (0.381, [0.21, 0.552], "0.38 [0.21, 0.55], n = 5"),
        (0.0012, [0.0003, 0.0021], "0.0012 [0.0003, 0.0021], n = 5"),
        (-0.001, [-0.02, 0.018], "0.00 [-0.02, 0.02], n = 5"),
        (0.0004, None, "0.0004, n = 5"),
        (0.0, None, "0.00, n = 5"),
        (120.0, [100.0, 140.0], "120.00 [100.00, 140.00], n = 5"),
    ],
)
def test_decimals_show_the_width_of_an_interval(estimate: float, interval: Any, text: str) -> None:
    values = {"estimate": estimate, "interval": interval, "n_seeds": 5, "verdict": "inconclusive"}
    assert format_value(values) == text
