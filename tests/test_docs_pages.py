"""Pages of the documentation that are written by hand and must agree with the code."""

from __future__ import annotations

import ast
import re
import textwrap
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGES = sorted(path.parent.name for path in (ROOT / "src" / "makebreak").glob("*/__init__.py"))


@cache
def source_texts() -> str:
    """All texts of the source, one per line, with `…` for what is filled in when the program runs."""
    texts = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value.replace("\n", "\\n"))
    return "\n".join(texts)


def quoted_messages(page: str) -> list[str]:
    """The messages in the text blocks of a page, each on one line."""
    return [" ".join(block.split()) for block in re.findall(r"```text\n(.*?)```", page, flags=re.S)]


def missing_links(page: str, folder: Path) -> list[str]:
    """Links of a page to files that do not exist below a folder."""
    return [link for link in re.findall(r"\]\(([^)#]+)", page) if not (folder / link).is_file()]


ERRORS = quoted_messages((DOCS / "reference" / "errors.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("message", ERRORS, ids=lambda message: textwrap.shorten(message, 40))
def test_message_is_in_the_source(message: str) -> None:
    assert message in source_texts()


def test_a_message_of_no_source_is_seen() -> None:
    [message] = quoted_messages("```text\n… is no\nmessage of makebreak\n```\n")
    assert message == "… is no message of makebreak"
    assert message not in source_texts()


def test_every_entry_has_symptom_cause_and_remedy() -> None:
    page = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    entries = re.split(r"^### ", page.split("## Results that mislead")[0], flags=re.M)[1:]
    assert len(entries) == len(ERRORS) >= 15
    for entry in entries:
        assert entry.count("**Cause.** ") == entry.count("**Remedy.** ") == 1, entry


def test_links_of_llms_txt() -> None:
    """The file has the form of llmstxt.org, and names every page of concepts, guides and reference."""
    text = (DOCS / "llms.txt").read_text(encoding="utf-8")
    assert re.match(r"# makebreak\n\n> .*?\n\n", text, flags=re.S)
    assert not missing_links(text, DOCS)
    links = set(re.findall(r"\]\(([^)]+)\)", text))
    for folder in ("concepts", "guides", "reference"):
        assert {path.relative_to(DOCS).as_posix() for path in (DOCS / folder).glob("*.md")} <= links


def test_a_link_that_leads_nowhere_is_seen() -> None:
    assert missing_links("[a](nowhere.md) [b](index.md#install)", DOCS) == ["nowhere.md"]


@pytest.mark.parametrize(
    "package", [name for name in PACKAGES if name not in ("api", "cli", "model_library")]
)
def test_every_package_has_a_page(package: str) -> None:
    """What `makebreak.api` defines, and what it opens of `model_library`, is on the page of `makebreak`."""
    page = (DOCS / "reference" / "api" / f"{package}.md").read_text(encoding="utf-8")
    assert f".. automodule:: makebreak.{package}\n" in page
