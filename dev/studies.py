"""Generates docs/studies/: one page per study with the definition and the verdict of every claim.

The definitions are docs/results/definitions.json, the verdicts docs/results/confirmation.csv (ten seeds) and
docs/results/history.csv (earlier runs). Run `make studies` after one of them has changed; a test holds the
pages to them.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from makebreak.claims import VERDICTS, format_value

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS / "results"
TITLES = {
    "jain2024": "Jain et al. 2024, What Makes and Breaks Safety Fine-tuning?",
    "peng2024": "Peng et al. 2024, Navigating the Safety Landscape",
    "jan2024": "Jan et al. 2024, Multitask Mayhem",
    "eiras2024": "Eiras et al. 2024, Do as I do (Safely)",
    "fragility": "Which measures predict that safety breaks?",
    "real": "a language model beside the synthetic worlds",
}
ROLES = {
    "primary": "Primary claims, which Holm's correction is over.",
    "part": "Parts are descriptive: no correction is applied, and many are examined.",
    "check": "Checks are what the settings were tuned for; they are no findings.",
}
SIDES = {"above": "above", "below": "below", "within": "within ±"}
HEADER = """# Claims: {title}

This page is generated from the claims by `make studies`; do not edit it. [Claims and
verdicts](../concepts/claims.md) says what roles, bounds and verdicts mean.
[Results](../results/{study}.md) discusses what was found, and [Studies](../studies.md#{study}) says how
to run the study.
"""
CONFIRMATION = """## Verdicts in the world {world}, ten confirmatory seeds

{counts}.
Values are means over pretraining seeds with 95 % Student intervals.
"""
DEFINITIONS = """## Definitions

The value of a claim is computed once per seed. *Ours* means that we set the bound, not the paper.
"""
HISTORY = """## Verdicts of earlier runs

These runs have fewer seeds, and some have earlier definitions. The [errata](../errata.md) say what is wrong
with them. They are kept so that no verdict is lost; those above, where there are any, replace them.
"""


def read(name: str) -> list[dict[str, str]]:
    """Rows of a CSV file of docs/results."""
    with (RESULTS / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown table."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [columns, ["---"] * len(columns), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def bound(claim: Mapping[str, Any]) -> str:
    """Where the value of a claim is said to lie, such as `above 0.2`."""
    if claim["bound"] in ("", None):
        return "all its parts"
    number = f"{float(claim['bound']):.4g}"
    return f"{SIDES[claim['side']]}{'' if claim['side'] == 'within' else ' '}{number}"


def value(row: Mapping[str, str]) -> str:
    """Estimate, interval and number of seeds of a row of confirmation.csv."""
    if not row["estimate"]:
        return "–"
    interval = [float(row["low"]), float(row["high"])] if row["low"] else None
    known = {"estimate": float(row["estimate"]), "interval": interval, "n_seeds": row["n_seeds"]}
    return format_value(known | {"verdict": row["verdict"]})


def cells(row: Mapping[str, str], statement: str) -> list[str]:
    """The cells of a confirmatory verdict; a verdict that needs one has its reason behind it."""
    verdict, reason = row["verdict"], row["reason"]
    if reason:
        verdict = reason if reason.startswith(f"{verdict}: ") else f"{verdict}: {reason}"
    return [row["id"], statement, value(row), row["unit"], bound(row), verdict]


def confirmation(study: str, definitions: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Sections of the confirmatory verdicts, world by world, in a table per role."""
    parts = []
    rows = [row for row in read("confirmation.csv") if row["study"] == study]
    for world in dict.fromkeys(row["world"] for row in rows):
        here = [row for row in rows if row["world"] == world]
        n = Counter(row["verdict"] for row in here if row["role"] == "primary")
        counts = ", ".join(f"{n[verdict]} {verdict}" for verdict in VERDICTS if n[verdict])
        parts.append(CONFIRMATION.format(world=world, counts=f"Primary claims: {counts}"))
        for role, meaning in ROLES.items():
            lines = [cells(row, definitions[row["id"]]["statement"]) for row in here if row["role"] == role]
            if lines:
                columns = ("claim", "statement", "value", "unit", "claimed", "verdict")
                parts.append(f"{meaning}\n\n{table(columns, lines)}")
    return parts


def history(study: str) -> str:
    """Section of the verdicts of earlier runs; empty if there are none."""
    rows = [row for row in read("history.csv") if row["study"] == study]
    names = ("id", "statement", "preset", "world", "estimate", "low", "high", "verdict", "errata")
    columns = ("claim", *names[1:])
    return f"{HISTORY}\n{table(columns, [[row[name] for name in names] for row in rows])}" if rows else ""


def page(study: str) -> str:
    """The page of a study."""
    claims = json.loads((RESULTS / "definitions.json").read_text(encoding="utf-8"))[study]
    names = ("id", "role", "statement", "quantity", "unit")
    lines = [[str(claim[name]) for name in names] + [bound(claim), claim["bound_source"]] for claim in claims]
    columns = ("claim", "role", "statement", "value", "unit", "claimed", "bound by")
    parts = [
        HEADER.format(title=TITLES[study], study=study),
        *confirmation(study, {claim["id"]: claim for claim in claims}),
        f"{DEFINITIONS}\n{table(columns, lines)}",
        history(study),
    ]
    return "\n".join(part for part in parts if part)


def pages() -> dict[Path, str]:
    """All pages by their path."""
    return {DOCS / "studies" / f"{study}.md": page(study) for study in TITLES}


if __name__ == "__main__":
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
