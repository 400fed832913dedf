"""Every generated page is what its script writes today."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

DEV = Path(__file__).parents[1] / "dev"


@pytest.mark.parametrize("script", ["cli", "columns", "judges", "models"])
def test_the_page_is_current(script: str) -> None:
    names = runpy.run_path(str(DEV / f"{script}.py"))
    page = names["PAGE"].read_text(encoding="utf-8")
    assert page == names["page"](), f"run `python dev/{script}.py`"


def test_the_pages_of_studies_are_current() -> None:
    pages = runpy.run_path(str(DEV / "studies.py"))["pages"]()
    assert {path: path.read_text(encoding="utf-8") for path in pages} == pages, "run `python dev/studies.py`"
    assert set(pages) == set((DEV.parent / "docs" / "studies").glob("*.md"))
