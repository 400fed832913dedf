"""Definitions of claims are those of the committed file."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "dev" / "definitions.py"


def test_definitions_are_committed() -> None:
    """A change of a definition is a change of the file, which `make definitions` writes."""
    spec = importlib.util.spec_from_file_location("definitions", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    committed = module.PAGE.read_text(encoding="utf-8")
    assert committed == module.text()
    for study, claims in json.loads(committed).items():
        ids = [claim["id"] for claim in claims]
        assert len(set(ids)) == len(ids), study
        assert 5 <= sum(claim["role"] == "primary" for claim in claims) <= 8, study
