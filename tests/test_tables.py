"""Rows of tables as dictionaries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import pytest

from makebreak.tables import as_dict


class Rates(NamedTuple):
    refusal: float
    compliance: float


class Row(NamedTuple):
    name: str
    rates: Rates
    pair: tuple[int, int]


@dataclass(frozen=True)
class Holder:
    rates: Rates


def test_nested_named_tuple_gives_its_columns() -> None:
    """The nested columns stand in the place of the field; plain tuples and fields of dataclasses stay."""
    row = as_dict(Row("a", Rates(0.1, 0.2), (1, 2)))
    assert list(row.items()) == [("name", "a"), ("refusal", 0.1), ("compliance", 0.2), ("pair", (1, 2))]
    assert as_dict(Holder(Rates(0.1, 0.2))) == {"rates": Rates(0.1, 0.2)}
    assert as_dict({"rates": Rates(0.1, 0.2)}) == {"rates": Rates(0.1, 0.2)}
    with pytest.raises(TypeError, match="list is no row of a table"):
        as_dict([1])
