"""The generated page of models is that of the matrix."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "dev" / "models.py"


def test_the_page_of_models_is_current() -> None:
    """Run `make models` where this fails."""
    spec = importlib.util.spec_from_file_location("models_page", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.page() == module.PAGE.read_text(encoding="utf-8")
