"""The generated page of columns is that of the code."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "dev" / "columns.py"


def test_the_page_of_columns_is_current() -> None:
    """Run `make columns` where this fails."""
    spec = importlib.util.spec_from_file_location("columns", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.page() == module.PAGE.read_text(encoding="utf-8")
