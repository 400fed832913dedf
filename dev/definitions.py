"""Generates docs/results/definitions.json: the definition of every claim of the five studies.

The file is committed before seeds are run that a study reports as confirmatory; a test holds the code to it.
Run `make definitions` after a change of a claim, and say in docs/results which runs preceded it.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from experiments.command import STUDIES
from makebreak.claims import Claim

PAGE = Path(__file__).parents[1] / "docs" / "results" / "definitions.json"


def definition(claim: Claim) -> dict[str, Any]:
    """All of a claim but the function of its value, which its quantity describes."""
    names = ("id", "role", "statement", "quantity", "unit", "side", "bound", "bound_source")
    fields = {name: getattr(claim, name) for name in names}
    later = {"no_effect": claim.null, "negligible": claim.negligible, "source": claim.source}
    return fields | later | {"parts": list(claim.parts)}


def definitions() -> dict[str, list[dict[str, Any]]]:
    """Definitions of all claims by study."""
    names = [name for name in STUDIES if name != "speed"]  # which claims nothing
    claims = {name: importlib.import_module(f"experiments.{name}").STUDY.claims for name in names}
    return {name: [definition(claim) for claim in of_study] for name, of_study in claims.items()}


def text() -> str:
    """The file: one line per claim, so that a change shows as one line."""
    parts = []
    for study, claims in definitions().items():
        lines = ",\n".join(json.dumps(claim, ensure_ascii=False) for claim in claims)
        parts.append(f'"{study}": [\n{lines}\n]')
    return "{" + ",\n".join(parts) + "}\n"


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
