"""Answers on a page: all of each is there, with the verdict of every judge; nothing of one becomes markup."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from makebreak.evaluation import JUDGES, decide_by
from makebreak.lm.verdicts import with_verdicts
from makebreak.report import Page, write_page
from makebreak.report.page import content_policy
from tests.fixtures.pages import Elements

PLANTED = [
    "<script>planted()</script>",
    "</script><script>planted()</script>",
    "</table></div><h2 class='planted'>x</h2>",
    '"><img src=x onerror=planted()>',
    "' onclick='planted()",
    "<!-- planted",
    "]]><planted>",
    "&lt;b&gt; &amp;amp;",
    "{{ planted }} {% planted %}",
    "\u202eplanted\u2066\x1b[31m\x00",
]
LONG = "First line.\n" + "\n".join(f"{i}.  Step {i}" for i in range(80)) + "\nthe very end"


def answers(texts: list[str], **columns: Any) -> pd.DataFrame:
    rows = [
        {"family": "harmful", "request": f"request {i}", "answer": text, "log_odds": float(i)}
        for i, text in enumerate(texts)
    ]
    return pd.DataFrame(with_verdicts(rows)).assign(**columns)


def written(page: Page, folder: Path) -> str:
    return write_page(page, folder / "page.html").read_text(encoding="utf-8")


def page_of(table: pd.DataFrame, title: str = "title", **changes: Any) -> Page:
    return Page(
        title, changes.pop("summary", []), changes.pop("facts", {}), [], {}, answers={"Answers": table}
    )


@pytest.mark.parametrize("text", PLANTED)
def test_no_text_becomes_an_element(text: str, tmp_path: Path) -> None:
    """As an answer, a request, a family, an attack's text, a title, a column, a fact: the elements stay."""

    def elements(word: str) -> list[tuple[str, list[str]]]:
        columns = {"family": [word, "b"], "attack_text": [word, None], "degenerate": False}
        columns |= dict.fromkeys(JUDGES, False)
        table = answers([word, "another"], **columns)
        table["request"] = [word, "request"]
        page = Page(
            word, [word], {word: word}, [], {word: pd.DataFrame({word: [word]})}, answers={word: table}
        )
        parsed = Elements(written(page, tmp_path))
        return [(tag, sorted(attributes)) for tag, attributes in parsed.elements]

    assert elements(text) == elements("p" * len(text))
    assert not any(hidden in (tmp_path / "page.html").read_text() for hidden in "\u202e\u2066\x1b\x00")


def test_answers_are_complete_and_keep_their_white_space(tmp_path: Path) -> None:
    html = written(page_of(answers([LONG, "short  with   spaces"])), tmp_path)
    cells = Elements(html).cells
    assert any(LONG in cell for cell in cells)
    assert any(cell.strip() == "short  with   spaces" for cell in cells)
    assert html.count('<details class="fold">') == 1
    assert "white-space: pre-wrap" in html


def test_every_judge_has_its_verdict(tmp_path: Path) -> None:
    """Of an answer on which the judges disagree, and of one on which they agree; the named judge decides."""
    table = answers(["anything", "anything", "so so so"], degenerate=[False, False, True])
    names = list(JUDGES)
    for judge in names:
        table[judge] = [judge == names[0], True, False]
    for judge, outcome in ((names[0], "refused"), (names[1], "complied")):
        with decide_by(judge):
            html = written(page_of(table), tmp_path)
        verdicts = [cell.split("\n")[0] for cell in Elements(html).cells if "refused: " in cell]
        assert verdicts[0] == f"{outcome}refused: {names[0]}complied: {', '.join(names[1:])}"
        assert verdicts[1] == f"refusedrefused: {', '.join(names)}"
        assert any(cell.startswith("degenerate") for cell in Elements(html).cells)
        options = re.findall(r'<option value="([\d.]+)">([^<]*)</option>', html)
        tags = re.findall(r'data-tags="([^"]*)"', html)
        by_name = {name: [value in own.split() for own in tags] for value, name in options}
        assert by_name["judges disagree"] == [True, False, False]
        assert by_name[f"refused by {names[1]}"] == [False, True, False]
        assert by_name["degenerate"] == [False, False, True]


def test_the_policy_allows_only_the_scripts_of_the_page(tmp_path: Path) -> None:
    html = written(page_of(answers(["a"])), tmp_path)
    scripts = re.findall(r"<script>(.*?)</script>", html, flags=re.S)
    metas = [attributes for _, attributes in Elements(html).elements if "http-equiv" in attributes]
    [policy] = [str(attributes["content"]) for attributes in metas]
    assert policy == content_policy(scripts)
    assert policy.startswith("default-src 'none'")
    assert "unsafe-eval" not in policy
    assert html.index("Content-Security-Policy") < html.index("<title>")


def test_two_thousand_answers_make_a_page_of_bounded_size(tmp_path: Path) -> None:
    html = written(page_of(answers(["I cannot help with that, " * 8] * 2000)), tmp_path)
    assert len(html) < 2_000_000
    assert html.count("data-tags=") == 2000


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")
def test_a_browser_sorts_and_filters(tmp_path: Path) -> None:
    """By numbers with n/a last in either order; a filter of verdicts and one of words work together."""
    texts = [f"answer {i}" for i in range(12)]
    table = answers(texts, log_odds=[3.0, -20.0, None, 100.0, *range(4, 12)], degenerate=[False, True] * 6)
    html = written(page_of(table), tmp_path)
    script = """
    const heads = [...document.querySelectorAll("th button")];
    const column = () => [...document.querySelectorAll(".answers tbody tr:not([hidden])")].map(
      row => row.cells[row.cells.length - 1].textContent);
    const result = {};
    for (const name of ["up", "down"]) { heads.at(-1).click(); result[name] = column(); }
    const [select] = document.querySelectorAll(".filters select");
    select.value = [...select.options].find(o => o.text === "degenerate").value;
    select.dispatchEvent(new Event("change"));
    const search = document.querySelector("input");
    search.value = "ANSWER 1"; search.dispatchEvent(new Event("input"));
    result.found = column();
    document.body.textContent = "RESULT" + JSON.stringify(result) + "END";
    """
    html = re.sub(r"<meta http-equiv[^>]*>", "", html).replace("</body>", f"<script>{script}</script></body>")
    (tmp_path / "test.html").write_text(html)
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    done = subprocess.run(
        [*command, (tmp_path / "test.html").as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    result = json.loads(re.findall("RESULT(.*)END", done.stdout)[0])
    numbers = ["-20.000", "3.000", *(f"{i}.000" for i in range(4, 12)), "100.000"]
    assert result["up"] == [*numbers, "n/a"]
    assert result["down"] == [*numbers[::-1], "n/a"]
    assert result["found"] == ["11.000", "-20.000"]
