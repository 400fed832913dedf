"""HTML pages: self-contained, escaped, complete, and written atomically."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from makebreak.report import Figure, Page, write_page

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def page(tmp_path: Path) -> Page:
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for i, path in enumerate(paths):
        path.write_bytes(PNG + bytes([i]) * 1000)
    return Page(
        title="A study <script>alert(1)</script>",
        summary=["First paragraph.", "a < b & c"],
        facts={"world": "mini", "seeds": "0 <1> 2"},
        figures=[Figure(path, f"Figure {i} \"'<x>", f"caption <i>{i}</i>") for i, path in enumerate(paths)],
        tables={"Shares <t>": pd.DataFrame({"arm": ["<b>ssft</b>", "dpo"], "share": [0.123456, None]})},
    )


class Reader(HTMLParser):
    """Text and tags of a page, checking that every tag opened is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.open = "", []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += " ".join(data.split()) + "|"


@pytest.fixture
def html(page: Page, tmp_path: Path) -> str:
    write_page(page, tmp_path / "report.html")
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_page_is_self_contained(html: str) -> None:
    assert "http://" not in html
    assert "https://" not in html
    assert "url(" not in html
    assert "@import" not in html
    reader = Reader(html)
    assert {tag for tag, _ in reader.tags}.isdisjoint({"link", "iframe", "object", "i"})
    addresses = [a[k] for _, a in reader.tags for k in ("src", "href", "srcset", "data") if k in a]
    assert len(addresses) == 2
    assert all(str(a).startswith("data:image/png;base64,") for a in addresses)


def test_images_are_the_files(html: str) -> None:
    images = re.findall(r'src="data:image/png;base64,([^"]*)"', html)
    assert [base64.b64decode(data, validate=True) for data in images] == [
        PNG + bytes([i]) * 1000 for i in range(2)
    ]


def test_text_is_escaped(html: str) -> None:
    reader = Reader(html)
    bold = [tag for tag, _ in reader.tags if tag == "b"]
    assert len(bold) == 2  # the titles of the figures, none of the texts
    for text in (
        "A study <script>alert(1)</script>",
        "a < b & c",
        "0 <1> 2",
        "caption <i>0</i>",
        "Shares <t>",
        "<b>ssft</b>",
    ):
        assert text in reader.text, text
    assert [a["alt"] for tag, a in reader.tags if tag == "img"] == ["Figure 0 \"'<x>", "Figure 1 \"'<x>"]


def test_tables_show_three_decimals(html: str) -> None:
    table = html[html.index("<details>") : html.index("</details>")]
    assert '<td class="number">0.123</td>' in table
    assert "<td>n/a</td>" in table
    assert "nan" not in table.lower()


def test_empty_page(page: Page, tmp_path: Path) -> None:
    write_page(replace(page, figures=[], tables={}), tmp_path / "empty.html")
    reader = Reader((tmp_path / "empty.html").read_text(encoding="utf-8"))
    assert "a < b & c" in reader.text
    assert {"img", "details"}.isdisjoint(tag for tag, _ in reader.tags)


def test_an_error_keeps_the_old_page(page: Page, tmp_path: Path) -> None:
    target = tmp_path / "out" / "report.html"
    target.parent.mkdir()
    target.write_text("the old page")
    missing = Figure(tmp_path / "gone.png", "gone", "never drawn")
    with pytest.raises(FileNotFoundError):
        write_page(replace(page, figures=[*page.figures, missing]), target)
    assert target.read_text() == "the old page"
    assert [p.name for p in target.parent.iterdir()] == ["report.html"]
    write_page(page, target)
    assert "the old page" not in target.read_text(encoding="utf-8")
    assert [p.name for p in target.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize("text", ["\u202etxt.exe", "a\x00b", "\x1b[31m", "\udcff", "\u2066x"])
def test_hidden_characters_are_shown_on_the_page(page: Page, tmp_path: Path, text: str) -> None:
    """Of titles, facts and answers alike: none can reorder the page or keep it from being written."""
    answers = [text.encode("utf-8", "ignore").decode() or "none"]  # a table holds no lone surrogate
    table = pd.DataFrame({"answer": answers})
    write_page(replace(page, title=text, facts={"model": text}, tables={"t": table}), tmp_path / "odd.html")
    html = (tmp_path / "odd.html").read_text(encoding="utf-8")
    shown = text.encode("unicode_escape").decode()
    assert html.count(shown) >= 3 + (answers == [text])
    assert not any(hidden in html for hidden in "\u202e\x00\x1b\u2066")
