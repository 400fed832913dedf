"""Generates docs/results/confirmation.csv from finished runs, and the table of primary claims of its page.

python dev/confirmation.py RUN … takes the folders of runs, with `claims.json` and `provenance.json`. Rows of
other studies and worlds stay as they are.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "docs" / "results"
_HEADER = "| claim | world | value | 95 % interval | bound | p (Holm) | verdict |"
COLUMNS = (
    *("study", "world", "id", "role", "verdict", "estimate", "low", "high", "side", "bound", "no_effect"),
    *("negligible", "unit", "p_value", "p_holm", "n_seeds", "values", "reason"),
)
"""Columns of the file; `values` has the value of every seed, in the order of the seeds."""


def rows_of_run(folder: Path) -> list[dict[str, str]]:
    """One row per claim of a run, with the columns `COLUMNS`."""
    claims = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
    run = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    rows = []
    for claim in claims:
        low, high = claim["interval"] or (None, None)
        values = " ".join("" if v is None else f"{v:.6g}" for v in claim["values"].values())
        known = {"study": run["study"], "world": run["world"], "low": low, "high": high, "values": values}
        row = claim | known
        rows.append({name: _short(row[name]) for name in COLUMNS})
    return rows


def _short(value: Any) -> str:
    """A value as the file has it: empty for None."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def table(rows: Sequence[dict[str, str]]) -> str:
    """Markdown table of the primary claims."""
    lines = [_HEADER, "| --- " * 7 + "|"]
    sides = {"above": ">", "below": "<", "within": "±"}
    for row in rows:
        if row["role"] == "primary":
            value = f"{float(row['estimate']):.3f}" if row["estimate"] else "–"
            interval = f"[{float(row['low']):.3f}, {float(row['high']):.3f}]" if row["low"] else "–"
            bound = f"{sides[row['side']]} {float(row['bound']):g}" if row["bound"] else "parts"
            p = f"{float(row['p_holm']):.2g}" if row["p_holm"] else "–"
            cells = (f"{row['study']} {row['id']}", row["world"], value, interval, bound, p, row["verdict"])
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    new = [row for folder in sys.argv[1:] for row in rows_of_run(Path(folder))]
    replaced = {(row["study"], row["world"]) for row in new}
    with (RESULTS / "confirmation.csv").open(encoding="utf-8", newline="") as file:
        old = [row for row in csv.DictReader(file) if (row["study"], row["world"]) not in replaced]
    all_rows = old + new
    with (RESULTS / "confirmation.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(all_rows)
    page = RESULTS / "confirmation.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(_HEADER)
    _, _, after = rest.partition("\n\n")
    page.write_text(f"{before}{table(all_rows)}\n\n{after}", encoding="utf-8")
