"""Cards of claims: what is drawn, where, and what is said of it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from makebreak.claims import Claim, ClaimRow, evaluate_claims
from makebreak.report.cards import make_card


def evaluated(values: list[float], **changes: Any) -> ClaimRow:
    plain = {"id": "X", "statement": "a statement", "unit": "rate", "bound": 0.2, "no_effect": 0.0}
    claim = Claim(**(plain | {"value": lambda tables: pd.Series(values)} | changes))
    return evaluate_claims([claim], {})[0]


def test_places_are_in_the_order_of_the_values() -> None:
    """Negative values, no effect, the bound and larger values lie from left to right on one scale."""
    card = make_card(evaluated([0.3, 0.4, 0.5], negligible=0.1))
    assert card.margin is not None
    assert card.interval is not None
    assert card.estimate is not None
    places = [card.margin[0], card.no_effect, card.margin[1], *card.bounds, card.seeds[0], card.estimate]
    assert places == sorted(places)
    assert card.interval[0] < card.seeds[0]
    scale = (card.bounds[0] - card.no_effect) / 0.2
    assert card.estimate - card.no_effect == pytest.approx(0.4 * scale, abs=0.2)
    for tick in card.ticks:
        assert tick.x - card.no_effect == pytest.approx(float(tick.label) * scale, abs=0.2)


@pytest.mark.parametrize(
    ("values", "changes", "text"),
    [
        ([0.3, 0.31, 0.32], {}, "the claim asks for above 0.2, a bound set by us."),
        ([0.1, 0.11, 0.12], {}, "on the claimed side of no effect (0), but not above 0.2"),
        (
            [-0.1, -0.11, -0.12],
            {"bound_source": "A paper"},
            "not above 0.2, a bound set by A paper, but on the",
        ),
        ([0.01, 0.0, -0.01], {"negligible": 0.1}, "within 0.1 of no effect (0)."),
        ([0.1, 0.5, 0.0], {}, "whether it is above 0.2, a bound set by us, is not decided."),
        ([1.0, 1.0, 1.0], {}, "At ceiling or floor: all 3 seeds have this value."),
        ([0.3], {}, "One seed has no interval."),
        ([0.01, 0.0, -0.01], {"side": "within"}, "the claim asks for at most 0.2 from 0"),
        ([0.5, 0.51, 0.52], {"side": "within"}, "but on the other side of the bound."),
        ([float("nan")], {}, "Not run: undefined on 1 of 1 seeds."),
    ],
)
def test_meaning(values: list[float], changes: dict[str, Any], text: str) -> None:
    assert text in make_card(evaluated(values, **changes)).meaning


def test_nothing_is_drawn_without_an_estimate() -> None:
    assert make_card(evaluated([float("nan")])).ticks == ()
    assert make_card(evaluated([0.3])).interval is None
