"""How is an inspection shown? Tables, figures, and a page whose first paragraph is made from the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from makebreak.behaviour import JUDGES, agreement
from makebreak.pages.inspection import Inspection
from makebreak.pages.steps import Rows
from makebreak.pages.verdicts import JUDGE, behaviour_rows
from makebreak.plots import plot_directions, plot_layers, plot_refusals
from makebreak.report import Page, write_figures, write_page, write_tables

_CAPTIONS = {
    "refusals": (
        "Refusals and over-refusals",
        "Share of greedy answers that each judge calls a refusal; broken answers are not counted. Borderline requests "
        "are harmless and use words that a careless model refuses. Bars: 95 % (Wilson) over requests.",
    ),
    "clusters": (
        "Where harmful and harmless requests separate",
        "Gap of τ between held-out harmless and harmful requests at the last token of the prompt, by layer; 2 is "
        "perfect. Requests differ in what they are about, so a separation is not yet one of refusing. Band: 95 % over "
        "requests.",
    ),
    "directions": (
        "Candidates for a refusal direction",
        "Difference of mean states of harmful and harmless requests at the last token of the prompt, by layer. "
        "The ring is the one selected: kept by all criteria and best at undoing refusal.",
    ),
    "ablation": (
        "What the selected direction does to the answers",
        "Ablated at every layer and position, or added before its own layer; beside nothing and a random direction.",
    ),
}


def write_inspection(name: str, found: Inspection, facts: dict[str, str], out: Path) -> Path:
    """Write tables, figures and the page; gives the page."""
    tables = {table: pd.DataFrame(rows) for table, rows in found.tables.items()}
    if "ablation" in tables:
        tables["ablated_behaviour"] = pd.DataFrame(behaviour_rows(found.tables["ablation"]))
    verdicts = {judge: tables["answers"][judge].to_numpy() for judge in JUDGES}
    verdicts["first token"] = (tables["answers"]["log_odds"] > 0).to_numpy()
    tables["agreement"] = pd.DataFrame(agreement(verdicts))
    write_tables(tables, out / "tables")
    drawings: dict[str, Any] = {
        "refusals": lambda: plot_refusals(tables["behaviour"], "family"),
        "clusters": lambda: plot_layers(tables["clusters"]),
    }
    if "directions" in tables:
        drawings["directions"] = lambda: plot_directions(tables["directions"])
    if "ablated_behaviour" in tables:
        rows = tables["ablated_behaviour"]
        drawings["ablation"] = lambda: plot_refusals(
            rows.assign(at=rows.condition + ", " + rows.family), "at"
        )
    figures = write_figures(drawings, _CAPTIONS, out / "figures")
    shown = {
        "Behaviour": tables["behaviour"],
        "Answers": tables["answers"],
        "Agreement of the judges": tables["agreement"],
        "Clusters by layer": tables["clusters"],
        "Sensitivity: quartiles over requests": tables["sensitivity"],
    }
    shown |= {"Candidates for a refusal direction": tables["directions"]} if "directions" in tables else {}
    shown |= {"Behaviour under interventions": tables["ablated_behaviour"]} if "ablation" in tables else {}
    path = out / "report.html"
    write_page(Page(f"Inside {Path(name).name}", summary(found), facts, [], figures, shown), path)
    return path


def summary(found: Inspection) -> list[str]:
    """What was found, in sentences made from the numbers."""
    at = {row["family"]: row for row in found.tables["behaviour"] if row["judge"] == JUDGE}
    rates = ", ".join(
        f"{row['refuse']:.2f} [{row['low']:.2f}, {row['high']:.2f}] of {row['n']} {family} requests"
        for family, row in at.items()
    )
    spoilt = max(row["broken"] for row in at.values())
    told = [
        f"It refuses {rates} (judge {JUDGE}; 95 % over requests)."
        + (f" Up to {spoilt:.2f} of answers of a family are broken." if spoilt > 0 else "")
    ]
    best = max(found.tables["clusters"], key=lambda row: row["auroc"])
    told.append(
        f"Harmful and harmless requests are furthest apart after layer {best['layer'] + 1}: AUROC of τ "
        f"{best['auroc']:.2f} [{best['auroc_low']:.2f}, {best['auroc_high']:.2f}] on held-out requests "
        f"({best['shuffled_auroc']:.2f} with shuffled labels)."
    )
    if "directions" in found.left_out:
        return [*told, f"No refusal direction was looked for: {found.left_out['directions']}."]
    candidates = [row for row in found.tables["directions"] if row["kind"] == "difference"]
    if "ablation" in found.left_out:
        return [
            *told,
            f"None of {len(candidates)} candidates for a refusal direction passed; {_reasons(candidates)}.",
        ]
    return [*told, _ablated(next(row for row in candidates if row["selected"]), found.tables["ablation"])]


def _reasons(candidates: Rows) -> str:
    kinds = {
        "not tried": "beyond the depth",
        "ablation moves": "too much KL",
        "addition": "does not induce refusal",
    }
    kinds["undefined"] = "the same for both kinds"
    counts = {
        told: sum(row["reason"].startswith(start) for row in candidates) for start, told in kinds.items()
    }
    return ", ".join(f"{n} {told}" for told, n in counts.items() if n)


def _ablated(chosen: dict[str, Any], ablation: Rows) -> str:
    rates = {
        (row["condition"], row["family"]): row["refuse"]
        for row in behaviour_rows(ablation)
        if row["judge"] == JUDGE
    }
    return (
        f"A refusal direction was found before layer {chosen['layer'] + 1}. Ablating it takes refusal of harmful "
        f"requests from {rates['nothing', 'harmful']:.2f} to {rates['ablated', 'harmful']:.2f} (a random direction: "
        f"{rates['random ablated', 'harmful']:.2f}); adding it takes that of harmless ones from "
        f"{rates['nothing', 'harmless']:.2f} to {rates['added', 'harmless']:.2f}."
    )
