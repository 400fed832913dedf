"""Interactive charts on a page: the values of the tables, nothing from a network, always the same bytes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import pandas as pd
import pytest

from makebreak.plots import (
    plot_attacks,
    plot_class_separation,
    plot_refusal_directions,
    plot_refusal_rates,
    plot_search,
    plot_training_loss,
)
from makebreak.plots.interactive import (
    Charts,
    chart_attacks,
    chart_basins,
    chart_class_separation,
    chart_refusal_directions,
    chart_refusal_rates,
    chart_script,
    chart_search,
    chart_stitching,
    chart_training_loss,
    script_header,
)
from makebreak.report import Page, write_figures, write_page
from tests.fixtures.pages import Elements, check_loads_nothing
from tests.report.test_answers_page import PLANTED

RATES = pd.DataFrame(
    {"family": family, "judge": judge, "n": 7, "refuse": 0.25 * i, "low": 0.1 * i, "high": 0.3 * i}
    for i, (family, judge) in enumerate([(f, j) for f in ("harmful", "harmless") for j in ("a", "b")])
)
CLUSTERS = pd.DataFrame(
    {
        "layer": layer,
        "normalised": layer / 7,
        "shuffled_normalised": 0.01,
        "auroc": 0.5 + layer / 30,
        "auroc_low": 0.4,
        "auroc_high": 0.99,
        "shuffled_auroc": 0.51,
    }
    for layer in range(9)
)
DIRECTIONS = pd.DataFrame(
    {"layer": i, "bypass": 1.5 - i, "induce": None if i == 0 else i / 3, "kl": 0.1 * i, "is_selected": i == 2}
    for i in range(5)
)
ATTACKS = pd.DataFrame(
    [
        {"attack": "GCG", "is_control": False, "criterion": "judge", "success_rate": 0.375, "low": 0.2,
         "high": 0.6, "n": 8},
        {"attack": "random", "is_control": True, "criterion": "judge", "success_rate": 0.125, "low": 0.0,
         "high": 0.3, "n": 8},
        {"attack": "random", "is_control": True, "criterion": "target", "success_rate": None, "low": None,
         "high": None, "n": 8},
    ]
)  # fmt: skip
SEARCH = pd.DataFrame({"attack": "GCG", "step": i, "loss": 2.5 - i / 4} for i in range(6))
CURVES = pd.DataFrame(
    {"coordinate": x, "refusal_rate": 1 - x, "compliance_rate": x / 4, "safe_compliance_rate": 0.75}
    for x in (0.0, 0.5, 1.0)
)
STITCHING = pd.DataFrame(
    {"layer": i, "lower_share": i / 8, "upper_share": 1 - i / 8, "random_share": 0.01, "kl_share": 0.3}
    for i in range(4)
)
LOSSES = pd.DataFrame({"step": range(4), "loss": [2.0, 1.5, 1.25, 1.125]})
CHARTS: dict[str, tuple[Callable[[], Charts], int]] = {
    "rates": (lambda: chart_refusal_rates(RATES, "family"), 1),
    "clusters": (lambda: chart_class_separation(CLUSTERS), 2),
    "directions": (lambda: chart_refusal_directions(DIRECTIONS), 3),
    "attacks": (lambda: chart_attacks(ATTACKS), 1),
    "search": (lambda: chart_search(SEARCH), 1),
    "basins": (lambda: chart_basins(CURVES), 1),
    "stitching": (lambda: chart_stitching(STITCHING), 3),
    "training": (lambda: chart_training_loss(LOSSES), 1),
}
DRAWINGS: dict[str, Callable[[], Any]] = {
    "rates": lambda: plot_refusal_rates(RATES, "family"),
    "clusters": lambda: plot_class_separation(CLUSTERS),
    "directions": lambda: plot_refusal_directions(DIRECTIONS),
    "attacks": lambda: plot_attacks(ATTACKS),
    "search": lambda: plot_search(SEARCH),
    "basins": lambda: plot_training_loss(LOSSES),
    "stitching": lambda: plot_training_loss(LOSSES),
    "training": lambda: plot_training_loss(LOSSES),
}


def written(folder: Path) -> str:
    charts = {name: make for name, (make, _) in CHARTS.items()}
    captions = {name: (name, "caption") for name in CHARTS}
    figures = write_figures(DRAWINGS, captions, folder / "figures", charts)
    path = write_page(Page("title", [], {}, figures, {}), folder / "page.html")
    return path.read_text(encoding="utf-8")


def specifications(html: str) -> list[dict[str, Any]]:
    found = re.findall(r'<script type="application/json">(.*?)</script>', html, flags=re.S)
    return [json.loads(text) for text in found]


def values(specification: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for rows in specification["datasets"].values() for row in rows]


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("charts"))


def test_charts_hold_the_values_of_the_tables(html: str) -> None:
    found = specifications(html)
    assert len(found) == sum(n for _, n in CHARTS.values())
    assert [row["refuse"] for row in values(found[0])] == RATES.refuse.tolist()
    assert [row["auroc_high"] for row in values(found[2])] == CLUSTERS.auroc_high.tolist()
    assert [row["layer"] for row in values(found[3])] == [1, 2, 3, 4, 5]  # layers are counted from 1
    assert values(found[3])[0]["induce"] is None
    assert [(row["attack"], row["success_rate"]) for row in values(found[6])] == [
        ("GCG", 0.375),
        ("random", 0.125),
    ]
    for specification in found:
        marks = specification.get("layer", [specification])
        assert any("tooltip" in mark.get("encoding", {}) for mark in marks)


def test_a_page_with_charts_loads_nothing(html: str) -> None:
    """No address in a chart, none in an attribute, and a policy that allows only the scripts of the page."""
    parsed = Elements(html)
    check_loads_nothing(html)
    assert all("://" not in json.dumps(specification) for specification in specifications(html))
    [policy] = [str(a["content"]) for _, a in parsed.elements if "http-equiv" in a]
    assert "unsafe-eval" not in policy
    assert policy.count("sha256-") == html.count("<script>") == 3


def test_the_script_of_the_charts_is_there_once_and_the_page_is_bounded(html: str, tmp_path: Path) -> None:
    assert html.count("window.vegaEmbed=") == 1
    assert len(html) < 2_500_000
    path = write_page(Page("title", [], {}, [], {}), tmp_path / "page.html")
    assert path.stat().st_size < 20_000  # without a chart, without the script


def test_the_same_tables_give_the_same_bytes(html: str, tmp_path: Path) -> None:
    assert written(tmp_path) == html


def test_the_script_of_the_charts_is_of_the_version_that_altair_writes() -> None:
    """`dev/chart_script.py` writes both; a newer Altair asks for a new script."""
    assert chart_script().startswith(script_header())


@pytest.mark.parametrize("text", PLANTED)
def test_no_name_in_a_chart_ends_its_script(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The elements are those of a plain name; the name itself is in the chart, hidden characters escaped."""
    monkeypatch.setattr("makebreak.report.page.chart_script", lambda: "")  # takes long to parse

    def page(name: str) -> str:
        rates = RATES.replace({"judge": {"a": name}, "family": {"harmful": name}})
        charts = {"rates": lambda: chart_refusal_rates(rates, "family")}
        drawings = {"rates": lambda: plot_training_loss(LOSSES)}
        figures = write_figures(drawings, {"rates": (name, name)}, tmp_path / "figures", charts)
        return write_page(Page("title", [], {}, figures, {}), tmp_path / "page.html").read_text()

    html = page(text)
    expected = [(tag, sorted(attributes)) for tag, attributes in Elements(page("plain")).elements]
    assert [(tag, sorted(attributes)) for tag, attributes in Elements(html).elements] == expected
    [specification] = specifications(html)
    shown = {row["group"] for row in values(specification)}
    assert any(name.startswith(text[:1]) or "\\u202e" in name for name in shown)
    assert not any(hidden in name for name in shown for hidden in "\u202e\u2066\x1b\x00")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")
def test_a_browser_draws_every_chart_under_the_policy(html: str, tmp_path: Path) -> None:
    """The policy stays; the charts of all figures are drawn in place of their images."""
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000"]
    done = subprocess.run(
        [*command, "--dump-dom", (tmp_path / "page.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stdout.count('class="printed"') == len(CHARTS)
    assert done.stdout.count("<svg") >= sum(n for _, n in CHARTS.values())
