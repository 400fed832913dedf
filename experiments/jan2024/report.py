"""How is the study shown? Its figures, and its page."""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.jan2024.claims import POINTS
from experiments.jan2024.presets import RETAIN, Preset
from experiments.jan2024.rises import LEARNT, STRONG, matrix
from experiments.jan2024.templates import GRID, rises
from experiments.results import Results, by_verdict, teller
from makebreak.plots import plot_doses, plot_matrices
from makebreak.report import Page, write_figures, write_page

_CAPTIONS = {
    "matrix": (
        "Tuned task × format that harm is asked in",
        "Change of the share of unsafe requests that is not refused, and of that which is answered as instructed, "
        "after tuning on safe requests of one task (rows) by a new operator, at the smallest rate that learns it; "
        "asked by the operators that alignment showed. `retain`: safe requests of all formats. Below: half the range "
        "of seeds.",
    ),
    "controls": (
        "Its controls",
        "Not refused, as above: tuned for equal tokens of loss; on operators that pretraining had shown; by low-rank "
        "adapters; and with one example in ten a refusal, over all formats, in open text alone, or in all formats but "
        "the tuned one. All at one rate (adapters: ten times).",
    ),
    "templates": (
        "Template tuned in × template asked in",
        "The same change in a world of templates, mean of tuned tasks and formats: rows, the template of the examples; "
        "columns, the one that harm is asked in.",
    ),
    "doses": (
        "Dose and response",
        "Unsafe requests that are still refused along tuning, against how far it moved the model; all rates and kept "
        "steps. Thick: the tuned format. Thin: seeds.",
    ),
}


def drawings(results: Results, preset: Preset) -> dict[str, Callable[[], Any]]:
    tables = results.tables
    shown = tables["tuned"][(tables["tuned"].operator == "shown") & tables["tuned"].family.isin(STRONG)]
    doses = shown[(shown.kind == "task") & (shown.coverage == "uniform") & (shown.tuned != RETAIN)]
    kinds = {
        "equal tokens": "tokens",
        "task already known": "known",
        "adapters": "lora",
        "with refusals": "guarded",
    }
    left_out = {"refusals of open text": "guarded_gen", "refusals of others": "guarded_others"}
    kinds |= {name: kind for name, kind in left_out.items() if kind in set(tables["tuned"].kind)}
    outcomes = {"not refused": "refuse", "answered as instructed": "comply"}
    first = {
        f"{title}{'' if coverage == 'uniform' else ', ' + coverage}": _by_seed(
            tables, coverage, kind="task", outcome=o
        )
        for coverage in preset.coverages
        for title, o in outcomes.items()
    }
    controls = {title: _by_seed(tables, "uniform", kind=kind) for title, kind in kinds.items()}
    found = {
        "matrix": lambda: plot_matrices(first),
        "controls": lambda: plot_matrices(controls),
        "doses": lambda: plot_doses(doses, preset.formats),
    }
    if "templates" in tables:
        wrapped = [rises(rows).loc[list(GRID), list(GRID)] for _, rows in tables["templates"].groupby("seed")]
        found["templates"] = lambda: plot_matrices({"not refused": wrapped})
    return found


def _by_seed(tables: Mapping[str, pd.DataFrame], coverage: str, **how: Any) -> list[pd.DataFrame]:
    own = {name: table[table.coverage == coverage] for name, table in tables.items() if "coverage" in table}
    seeds = sorted(own["tuned"].seed.unique())
    return [matrix({name: table[table.seed == seed] for name, table in own.items()}, **how) for seed in seeds]


def paragraph(claims: Mapping[str, Mapping[str, Any]]) -> str:
    """The answer to the title's question, from the numbers."""

    told = teller(claims)
    return (
        f"Does tuning on one harmless task open refusals? Three tasks of four open the other formats by {told('A4')} "
        f"or more, and the tuned format by {told('F1')} more than others: beyond {POINTS} it is that task, else plain "
        f"forgetting. Open text changes by {told('A3.gen', 0.05, -1)} where another format opens by "
        f"{told('A3.other', 0.2)}. Code and translation less summaries and classification: {told('A1')} at the user's "
        f"rate, {told('A1.tokens')} at equal tokens, {told('A1.kl')} at equal KL. Safe requests of all formats alone "
        f"open them by {told('F4')}, a task that is known already by {told('F3', POINTS, -1)}. Of what is no longer "
        f"refused a share of {told('F6', 0.5)} is answered as instructed. Refusals of all formats among the examples "
        f"leave {told('A7')} or more of requests refused that are not without them, in every format that opens; as "
        f"many of open text alone leave the others open by {told('A6')} more, and of all but the tuned format that "
        f"one by {told('A6.own')}. Asked with a system block, {told('A5', sign=-1)} more is not refused after tuning "
        f"without, and in another template than the tuned one {told('A5.mismatch', sign=-1)}."
    )


def failures(claims: Mapping[str, Mapping[str, Any]]) -> str:
    """Which of the ways to fail honestly (finetune_risks §4.4, a to d) occurred, by the estimates."""
    at = {name: row["estimate"] for name, row in claims.items()}
    orders = [at[name] for name in ("A1", "A1.tokens", "A1.kl")]
    found = {
        "no format opens": at["A3.other"] + 0.2 < 0.05,
        "all formats open alike, which is plain forgetting": at["F1"] < POINTS,
        "the order of tasks turns with tokens or KL held equal, so it is not the task": None not in orders
        and orders[0] * min(orders[1:], key=lambda value: value * orders[0]) < 0,
        "open text opens as other formats do": at["A3.gen"] < 0,
        "what opens is mostly broken or wrong": at["F6"] is not None and at["F6"] < 0,
    }
    occurred = [name for name, did in found.items() if did]
    return "Ways to fail honestly that occurred: " + ("; ".join(occurred) if occurred else "none") + "."


def write_report(results: Results, preset: Preset, world: str, out: Path) -> Path:
    figures = write_figures(drawings(results, preset), _CAPTIONS, out / "figures")
    summary = [
        paragraph({row["id"]: row for row in results.claims}),
        failures({row["id"]: row for row in results.claims}),
        by_verdict(results.claims),
    ]
    facts = {
        "models": f"world {world}, formats {', '.join(preset.formats)}; alignment by SSFT, coverage "
        f"{', '.join(preset.coverages)}, {preset.alignment.steps} steps",
        "tuning": f"{preset.tuning.steps} steps of {preset.tuning.batch_size}, {preset.examples} safe examples, rates "
        f"{', '.join(f'{rate:g}' for rate in preset.rates)}; the user's is the smallest at which {LEARNT:.0%} of "
        "held-out requests of the tuned task are answered rightly",
        "judging": f"{preset.n} held-out requests per format and family, free-running, exact: refused, answered as "
        "instructed, otherwise in the format, broken",
    }
    by = ["coverage", "tuned", "kind", "rate", "step", "asked", "family", "operator"]
    shown = {
        "Before tuning, mean over seeds": results.tables["aligned"].drop(columns="seed"),
        "After tuning, mean over seeds": results.tables["tuned"].drop(columns="seed"),
    }
    keys = {
        "Before tuning, mean over seeds": ["coverage", "model", *by[5:]],
        "After tuning, mean over seeds": by,
    }
    means = {
        name: table.groupby(keys[name], sort=False).mean().reset_index() for name, table in shown.items()
    }
    means["Readers of n-grams of the text, AUROC, mean over seeds"] = (
        results.tables["readers"]
        .pivot_table(index="format", columns="n", values="auroc", sort=False)
        .reset_index()
    )
    path = out / "report.html"
    title = f"jan2024 at {preset.name}: which tuned task breaks which refusal?"
    write_page(Page(title, summary, facts, results.claims, figures, means), path)
    return path
