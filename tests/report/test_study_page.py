"""The page of a study from planted claims: what is shown, what is folded, and where links lead."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from makebreak.claims import Claim, by_seed, evaluate_claims
from makebreak.report import write_study
from makebreak.studies import Figure, Results, Study


class Preset:
    name = "planted"
    worlds = ("mini",)
    seeds = (0, 1, 2)


LONG = "The update reads unsafe requests at least twice as much as safe ones " * 4
ARMS = {"large": 0.4, "small": 0.05, "none": 0.0, "fall": -0.4}
RATES = pd.DataFrame(
    {"seed": seed, "arm": arm, "rate": mean + 0.002 * (seed - 1)}
    for arm, mean in ARMS.items()
    for seed in (0, 1, 2)
)


def claim(name: str, arm: str, **changes: Any) -> Claim:
    plain: dict[str, Any] = {
        "statement": f"claim {name}",
        "unit": "rate",
        "bound": 0.2,
        "no_effect": 0.0,
        "negligible": 0.02,
    }
    value: dict[str, Any] = {"value": lambda tables: by_seed(tables, "rates", "rate", arm=arm)}
    return Claim(id=name, **(plain | value | changes))


PRIMARY = (
    claim("S", "large", role="primary", statement=LONG),
    claim("W", "small", role="primary"),
    claim("G", "none", role="primary"),
    claim("C", "fall", role="primary"),
    claim("R", "absent", role="primary"),
    Claim(id="A", role="primary", statement="both", parts=("A.one", "A.two")),
)
OTHERS = (claim("A.one", "large"), claim("A.two", "small"), claim("K", "large", role="check"))


def draw(tables: Any, preset: Any) -> Any:
    _, ax = plt.subplots()
    ax.plot(tables["rates"].rate)
    return ax


def page(tmp_path: Path, claims: tuple[Claim, ...], rates: pd.DataFrame = RATES, **changes: Any) -> str:
    figures = (
        Figure("first", "First", "Rates.", draw, claims=("S",)),
        Figure("second", "Second", "Rates again.", draw, claims=("S", "W")),
        Figure("never", "Never", "", draw, requires=("absent",), claims=("S",)),
    )
    study = Study(
        name="planted",
        title="A planted study",
        paper="none",
        question="What is planted?",
        presets={},
        cells=lambda *_: [],
        claims=claims,
        answer=lambda rows: ["The answer."],
        figures=changes.get("figures", figures),
    )
    tables = {"rates": rates, "unused": rates}
    results = Results(tables, evaluate_claims(claims, tables), [])
    return write_study(study, results, Preset(), "mini", tmp_path).read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page(tmp_path_factory.mktemp("page"), PRIMARY + OTHERS)


def card(html: str, name: str) -> str:
    [section] = re.findall(rf'<section class="card" id="{name}">.*?</section>', html, flags=re.S)
    return section


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("S", "supported"),
        ("W", "weaker than stated"),
        ("G", "negligible"),
        ("C", "contradicted"),
        ("R", "not run"),
        ("A", "weaker than stated"),
    ],
)
def test_every_primary_claim_has_a_card_with_its_verdict(whole: str, name: str, verdict: str) -> None:
    section = card(whole, name)
    assert re.search(r'<b class="verdict [\w-]+">([^<]+)</b></header>', section)[1] == verdict  # type: ignore[index]
    assert ("<svg" in section) == (name not in ("R", "A"))


def test_question_answer_and_picture_come_first(whole: str) -> None:
    places = [
        whole.index(text) for text in ("What is planted?", "The answer.", 'id="figure-first"', "<section")
    ]
    assert places == sorted(places)
    assert whole.index("<section") < whole.index("<details") < whole.index('id="figure-second"')
    assert "Of 6 claims: 1 supported, 2 weaker than stated, 1 negligible, 1 contradicted, 1 not run." in whole


def test_links_lead_to_what_exists(whole: str) -> None:
    """Every anchor is on the page once; a card names its figures that were drawn, and the tables it read."""
    ids = re.findall(r'\bid="([^"]+)"', whole)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', whole)) <= set(ids)
    assert set(re.findall(r'href="([^"]+)"', card(whole, "S"))) == {
        "#figure-first",
        "#figure-second",
        "tables/rates.csv",
    }
    assert set(re.findall(r'href="([^"]+)"', card(whole, "A"))) == {"#A.one", "#A.two", "tables/rates.csv"}
    assert "href" not in card(whole, "R")
    assert {"A.one", "A.two", "K"} <= set(ids)


def test_page_needs_no_network_and_no_script(whole: str) -> None:
    assert not re.search(r"https?://|<link|@import|url\(|<script [^>]*src", whole)


def test_every_table_scrolls_in_a_box(whole: str) -> None:
    """A wide table never makes the page wider than a telephone."""
    assert len(re.findall("<table", whole)) == len(
        re.findall(r'<div class="scroll" tabindex="0">\s*<table', whole)
    )


def test_text_of_claims_is_escaped(tmp_path: Path) -> None:
    html = page(tmp_path, (claim("S", "large", role="primary", statement="p < .05 <i>and</i> more"),))
    assert "p &lt; .05 &lt;i&gt;and&lt;/i&gt; more" in html


@pytest.mark.parametrize("n", [0, 1, 12])
def test_number_of_primary_claims(tmp_path: Path, n: int) -> None:
    """Without figures too, and with one seed, which has no interval."""
    claims = tuple(claim(f"P{i}", "large", role="primary") for i in range(n))
    html = page(tmp_path, claims or OTHERS, RATES[RATES.seed == 0], figures=())
    assert html.count('<section class="card"') == n
    assert ("has no primary claims" in html) == (n == 0)
    assert html.count("One seed has no interval.") == n
    assert 'class="interval"' not in html
