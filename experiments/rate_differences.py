"""Claims that a difference of rates is positive, as the studies of formats make them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from makebreak.claims import Claim, Tables, for_each_seed

POINTS = 0.03
"""Difference of rates within which it is negligible."""


def rate_difference(
    name: str, value: Callable[[Tables], float | None], statement: str, quantity: str, **changes: Any
) -> Claim:
    """A claim that a difference of rates is positive, negligible within `POINTS`.

    Args:
        name: Id of the claim.
        value: Difference on the tables of one seed; None if undefined.
        statement: The claim as a sentence.
        quantity: What the difference is of.
        **changes: Other arguments of `Claim`.

    Returns:
        The claim.
    """
    options = {"unit": "rate", "bound": POINTS, "no_effect": 0.0, "negligible": POINTS, **changes}
    return Claim(id=name, value=for_each_seed(value), statement=statement, quantity=quantity, **options)
