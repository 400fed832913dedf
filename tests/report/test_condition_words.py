"""Conditions on a page: a model without an intervention is called so, while tables keep what is stored."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from makebreak.lm.utility import UNCHANGED
from makebreak.report.conditions import NO_INTERVENTION, condition_words
from makebreak.report.page import Page, write_page


def test_page_says_no_intervention(tmp_path: Path) -> None:
    assert NO_INTERVENTION == UNCHANGED
    table = pd.DataFrame({"condition": [UNCHANGED, "ablated", "before"], "nll": [1.0, 2.0, 3.0]})
    page = Page("page", [], {}, [], {"one": table}, {"two": table})
    html = write_page(page, tmp_path / "report.html").read_text()
    assert html.count("no intervention") == 2
    assert html.count("ablated") == 2
    assert ">nothing<" not in html
    assert table["condition"].tolist() == [UNCHANGED, "ablated", "before"]


def test_tables_without_a_condition_are_as_they_were() -> None:
    table = pd.DataFrame({"answer": ["nothing"]})
    assert condition_words(table) is table
    assert len(condition_words(pd.DataFrame({"condition": []}))) == 0


def test_rates_of_the_first_token_are_explained_beside_their_table(tmp_path: Path) -> None:
    """A base that refuses nothing can begin answers as refusals begin; other tables have no note."""
    rates = pd.DataFrame({"family": ["unsafe"], "base_rate": [0.07], "tuned_rate": [1.0]})
    for table, n in ((rates, 1), (rates.drop(columns="tuned_rate"), 0)):
        page = Page("page", [], {}, [], {"answer rates": table})
        text = write_page(page, tmp_path / "page.html").read_text(encoding="utf-8")
        assert text.count("An answer can begin so and end otherwise") == n
