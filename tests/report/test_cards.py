"""Cards of claims: what is drawn, where, and what is said of it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from makebreak.claims import Claim, ClaimRow, evaluate_claims
from makebreak.report.cards import Card, Drawing, make_card
from makebreak.report.claim_text import count_text, describe_claim


def evaluated(values: list[float], **changes: Any) -> ClaimRow:
    plain: dict[str, Any] = {
        "id": "X",
        "statement": "a statement",
        "unit": "rate",
        "bound": 0.2,
        "no_effect": 0.0,
    }
    claim = Claim(value=lambda tables: pd.Series(values), **(plain | changes))
    return evaluate_claims([claim], {})[0]


def conjunction(*parts: list[float]) -> Card:
    claims = [
        Claim(id=f"X.{i}", statement=f"part {i}", bound=0.2, no_effect=0.0, value=lambda t, v=v: pd.Series(v))
        for i, v in enumerate(parts)
    ]
    whole = Claim(id="X", statement="all", parts=tuple(claim.id for claim in claims))
    row, *rows = evaluate_claims([whole, *claims], {})
    return make_card(row, parts=rows)


def drawn(row: ClaimRow) -> Drawing:
    drawing = make_card(row).drawing
    assert drawing is not None
    return drawing


def test_places_are_in_the_order_of_the_values() -> None:
    """Negative values, no effect, the bound and larger values lie from left to right on one scale."""
    drawing = drawn(evaluated([0.3, 0.4, 0.5], negligible=0.1))
    assert drawing.margin is not None
    assert drawing.interval is not None
    places = [drawing.margin[0], drawing.no_effect, drawing.margin[1], drawing.bounds[0].x]
    places += [drawing.seeds[0], drawing.estimate]
    assert places == sorted(places)
    assert drawing.interval[0] < drawing.seeds[0]
    scale = (drawing.bounds[0].x - drawing.no_effect) / 0.2
    assert drawing.estimate - drawing.no_effect == pytest.approx(0.4 * scale, abs=0.2)
    for tick in drawing.ticks:
        assert tick.x - drawing.no_effect == pytest.approx(float(tick.label) * scale, abs=0.2)


def test_both_ends_of_a_range_are_drawn() -> None:
    left, right = drawn(evaluated([0.0, 0.01, 0.02], side="within")).bounds
    assert (left.anchor, right.anchor) == ("end", "start")
    assert left.x < drawn(evaluated([0.0, 0.01, 0.02], side="within")).no_effect < right.x


FALL = {"side": "below", "bound": -0.2}
UP, DOWN = "the bound of 0.2 set by us", "the bound of -0.2 set by us"
MEANINGS = [
    ([0.3, 0.31, 0.32], {}, f"The value is 0.31 [0.29, 0.33], n = 3 (rate): above {UP}."),
    ([-0.3, -0.31, -0.32], FALL, f"below {DOWN}."),
    (
        [0.1, 0.11, 0.12],
        {},
        f"above no effect (0), but below {UP}; the direction is shown, the stated size is",
    ),
    ([-0.1, -0.11, -0.12], FALL, f"below no effect (0), but above {DOWN}; the direction is shown"),
    ([-0.1, -0.11, -0.12], {}, f"below no effect (0), the opposite of what is claimed (above {UP})."),
    ([0.1, 0.11, 0.12], FALL, f"above no effect (0), the opposite of what is claimed (below {DOWN})."),
    ([0.1, 0.11, 0.12], {"no_effect": None}, f"below {UP}, the opposite of what is claimed."),
    ([0.01, 0.0, -0.01], {"negligible": 0.1}, "closer than 0.1 to no effect (0), which counts as negligible"),
    ([0.1, 0.5, 0.0], {}, f"not decided, the interval contains no effect (0) and {UP}."),
    ([0.1, 0.2, 0.3, 0.2], {}, f"the interval contains {UP}, though it lies above no effect (0)."),
    ([-0.05, 0.0, 0.05], {}, f"not above {UP}, but whether there is an effect is not decided."),
    ([0.2, 0.5, 0.3], {"no_effect": None}, f"not decided, the interval contains {UP}."),
    ([1.0, 1.0, 1.0], {}, "At ceiling or floor: all 3 seeds have this value."),
    ([0.3], {}, f"n = 1 (rate): not decided against {UP}. One seed has no interval."),
    ([0.01, 0.0, -0.01], {"side": "within"}, f"within {UP} of no effect (0)."),
    ([0.5, 0.51, 0.52], {"side": "within"}, f"farther from no effect (0) than {UP}, the opposite of what"),
    ([0.1, 0.2, 0.3, 0.2], {"side": "within"}, f"not decided, the interval contains {UP}."),
    ([-0.3, 0.0, 0.3], {"side": "within"}, f"the interval contains no effect (0) and {UP}."),
    ([0.3, 0.31, 0.32], {"bound_source": "Jain et al. 2024"}, "the bound of 0.2 set by Jain et al. 2024."),
    ([float("nan")], {}, "Not run: undefined on 1 of 1 seeds."),
    ([0.3, 0.31, 0.32], {"unit": ""}, "n = 3: above the bound"),
]


@pytest.mark.parametrize(("values", "changes", "text"), MEANINGS)
def test_meaning(values: list[float], changes: dict[str, Any], text: str) -> None:
    assert text in describe_claim(evaluated(values, **changes))


def test_adjusted_p_is_said_where_it_decides() -> None:
    """A claim that does not survive the correction says so; one with a tiny p does not name it."""
    both: dict[str, Any] = {"statement": "a statement", "role": "primary"}
    weak = Claim(id="a", value=lambda t: pd.Series([0.06, 0.5, 0.3]), **both)
    weak_too = Claim(id="b", value=lambda t: pd.Series([0.07, 0.5, 0.3]), **both)
    strong = Claim(id="c", value=lambda t: pd.Series([0.31, 0.32, 0.33, 0.32]), **both)
    first, _, third = evaluate_claims([weak, weak_too, strong], {})
    assert f"Holm-adjusted p = {first.p_holm:.3f}." in describe_claim(first)
    assert "Holm" not in describe_claim(third)


def test_conjunction_counts_its_parts_and_names_no_id() -> None:
    """Parts follow by verdict, the supported ones first."""
    card = conjunction([0.1, 0.11, 0.12], [0.3, 0.31, 0.32])
    assert card.meaning == "1 of 2 parts are supported; the claim needs all."
    assert [part.verdict for part in card.parts] == ["supported", "weaker than stated"]
    assert card.drawing is None
    assert conjunction([0.3, 0.31, 0.32]).meaning.startswith("1 of 1 parts")


def test_nothing_is_drawn_without_an_estimate() -> None:
    assert make_card(evaluated([float("nan")])).drawing is None
    assert drawn(evaluated([0.3])).interval is None


def test_count_of_verdicts() -> None:
    rows = [evaluated([0.3, 0.31, 0.32]), evaluated([float("nan")]), evaluated([0.4, 0.41, 0.42])]
    assert count_text(rows) == "Of 3 claims: 2 supported, 1 not run."
