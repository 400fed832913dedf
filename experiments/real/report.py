"""How is the study shown? Synthetic and real side by side, its figures, and its page."""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.real.claims import study_of
from experiments.real.presets import BASE, USERS, Preset
from experiments.results import Results, by_verdict
from makebreak.pages.attack_page import TOPIC
from makebreak.pages.verdicts import JUDGE
from makebreak.plots import plot_basins, plot_cluster_gaps, plot_transfer_matrices, plot_seed_means
from makebreak.report import Page, write_figures, write_page, write_tables

RECORD = Path(__file__).with_name("record.csv")
_CAPTIONS = {
    "behaviour": (
        "Refusals, and over-refusals",
        "Share of greedy answers to requests that were never trained on that are refusals (Arditi et al.'s phrases), "
        "by alignment. Borderline requests are harmless and use words that a careless model refuses. Small dots: "
        "alignment seeds.",
    ),
    "clusters": (
        "Where harmful and harmless requests separate",
        "Held-out pairs of one verb with a harmful and a harmless object, at the last token of the prompt; 2 is "
        "perfect. Dashed: the model before. Thin: alignment seeds.",
    ),
    "attacks": (
        "Attacks",
        "Share of the refused requests that are answered on topic: no refusal, not broken, and likelier after its own "
        "request than after three others, as one answer in four is by chance. By alignment; small dots: seeds, of "
        "few requests each. Starting tokens, random ones and vectors, and as much text without a reason are controls.",
    ),
    "basins": (
        "Random moves of the weights",
        "What is neither refused nor answered is broken. Bands: directions and seeds.",
    ),
    "path": (
        "The line back to the model before",
        "0 is the aligned model, 1 the one it was tuned from; beyond them the line goes on. One model: the first "
        "alignment at its first seed.",
    ),
    "users": (
        "What users' tuning leaves of it",
        "Open requests that are not refused after tuning: harmful ones, asked plainly and in the user's template, and "
        "harmless ones beside them, of which all should be answered. Small dots: seeds.",
    ),
    "matrix": (
        "Which tuned task opens which format",
        "Rise of what is not refused, tuned task (rows) × format that harm is asked in (columns). One seed, few "
        "requests: exploratory.",
    ),
}


def of_synthetic(claims: Sequence[Mapping[str, Any]], runs: Path) -> dict[str, dict[str, Any]]:
    """What each claim came out as in the synthetic world of its study, by id: of `small` if it was run here, else of
    the record that comes with the package (docs/results), else of `mini` if that was run."""
    studies = {study_of(claim["id"]) for claim in claims}
    return _of_runs(studies, runs, "mini") | _of_record() | _of_runs(studies, runs, "small")


def _of_record() -> dict[str, dict[str, Any]]:
    found = {}
    with RECORD.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            numbers = {key: float(row[key]) for key in ("estimate", "low", "high")}
            found[row["id"]] = dict(row) | numbers | {"source": f"{row['study']} {row['preset']}, of record"}
    return found


def _of_runs(studies: Collection[str], runs: Path, preset: str) -> dict[str, dict[str, Any]]:
    paths = {study: runs / study / preset / "claims.json" for study in studies}
    return {
        row["id"]: {
            "estimate": row["estimate"],
            "low": row["interval"][0],
            "high": row["interval"][1],
            "verdict": row["verdict"],
            "source": f"{study} {preset}, run here",
        }
        for study, path in paths.items()
        if path.is_file()
        for row in json.loads(path.read_text())
        if study_of(row["id"]) == study and row["estimate"] is not None
    }


def carried(synthetic: str, real: str) -> str:
    """Whether a verdict carries over."""
    decided = {"supported", "not supported"}
    if synthetic not in decided:
        return "not decided in the synthetic world"
    if real not in decided:
        return f"not decided on the real model ({real})"
    return "carries over" if synthetic == real else "does not carry over"


def side_by_side(claims: Sequence[Mapping[str, Any]], runs: Path) -> pd.DataFrame:
    """One row per claim."""
    synthetic = of_synthetic(claims, runs)
    rows = []
    for claim in claims:
        if claim["kind"] == "check":
            continue
        other = synthetic.get(claim["id"])
        rows.append(
            {
                "id": claim["id"],
                "statement": claim["statement"],
                "synthetic": "not run"
                if other is None
                else _told(other["estimate"], other["low"], other["high"]),
                "synthetic verdict": "not run" if other is None else other["verdict"],
                "real": _told(claim["estimate"], *claim["interval"]),
                "real verdict": claim["verdict"],
                "": carried("not run" if other is None else other["verdict"], claim["verdict"]),
                "synthetic from": "" if other is None else other["source"],
            }
        )
    return pd.DataFrame(rows)


def _told(estimate: float | None, low: float | None, high: float | None) -> str:
    if estimate is None:
        return "n/a"
    return f"{estimate:.2f}" + ("" if low is None or high is None else f" [{low:.2f}, {high:.2f}]")


def paragraphs(
    claims: Sequence[Mapping[str, Any]], beside: pd.DataFrame, tables: Mapping[str, pd.DataFrame]
) -> list[str]:
    """What carries over, from the table; what the alignments came to."""
    groups = {
        kind: beside[beside[""] == kind].id.tolist() for kind in ("carries over", "does not carry over")
    }
    open_ = beside[~beside[""].isin(list(groups))].id.tolist()
    behaviour = tables["behaviour"][tables["behaviour"].judge == JUDGE]
    rates = behaviour.groupby(["arm", "family"], sort=False).refuse.mean()
    arms = [arm for arm in dict.fromkeys(behaviour.arm) if arm != BASE]
    told = "; ".join(
        f"{arm} {rates[arm, 'harmful']:.2f} of harmful, {rates[arm, 'harmless']:.2f} of harmless and "
        f"{rates[arm, 'borderline']:.2f} of borderline ones"
        for arm in (BASE, *arms)
    )
    return [
        f"Of {len(beside)} claims, {len(groups['carries over'])} carry over to this model "
        f"({', '.join(groups['carries over']) or 'none'}), {len(groups['does not carry over'])} do not "
        f"({', '.join(groups['does not carry over']) or 'none'}), and {len(open_)} are not decided in one of the two "
        f"({', '.join(open_) or 'none'}).",
        f"Requests that nothing was trained on, share refused: {told}.",
        "One pretrained model: an interval says how another alignment of it would have come out. What stands for the "
        "exact measure of the synthetic world is named with each claim.",
        by_verdict(claims),
    ]


def drawings(results: Results) -> dict[str, Callable[[], Any]]:
    tables = results.tables
    behaviour = tables["behaviour"][tables["behaviour"].judge == JUDGE]
    found: dict[str, Callable[[], Any]] = {
        "behaviour": lambda: plot_seed_means(behaviour, by="arm", hue="family", value="refuse", label="refused"),
        "clusters": lambda: plot_cluster_gaps(tables["clusters"], BASE),
        "basins": lambda: plot_basins(tables["curves"], _arms(tables["curves"])),
        "users": lambda: plot_seed_means(
            _users(tables["users"]), by="user", hue="asked", value="open", label="not refused"
        ),
        "matrix": lambda: plot_transfer_matrices({"rise of what is not refused": [rises(tables["matrix"])]}),
    }
    if "path" in tables:
        found["path"] = lambda: plot_basins(
            tables["path"], _arms(tables["path"]), along="share of the way back"
        )
    if "attacks" in tables:
        rows = tables["attacks"][tables["attacks"].sense == TOPIC]
        found["attacks"] = lambda: plot_seed_means(
            rows, by="attack", hue="arm", value="success", label="answered on topic"
        )
    return found


def _arms(table: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(table.arm))


def _users(users: pd.DataFrame) -> pd.DataFrame:
    rows = users[(users.judge == JUDGE) & users.family.isin(["harmful", "harmless"])]
    own = rows.user.map(lambda name: USERS.get(name.split(",")[0], ("", "plain"))[1])
    rows = rows[(rows.template == "plain") | (rows.template == own)]
    where = rows.template.map(lambda name: "plainly" if name == "plain" else "in the user's template")
    return rows.assign(open=1 - rows.refuse, asked=rows.family + ", " + where)


def rises(matrix: pd.DataFrame) -> pd.DataFrame:
    """Rise of what is not refused, tuned task × format asked in."""
    judged = matrix[matrix.judge == JUDGE]
    refused = judged.groupby(["tuned", "asked"], sort=False).refuse.mean().unstack()
    tuned = [name for name in dict.fromkeys(judged.tuned) if name != "untuned"]
    return (refused.loc["untuned"] - refused.loc[tuned])[tuned]


def write_report(results: Results, preset: Preset, world: str, out: Path) -> Path:
    figures = write_figures(drawings(results), _CAPTIONS, out / "figures")
    beside = side_by_side(results.claims, out.parent.parent)
    write_tables({"side_by_side": beside}, out / "tables")
    facts = {
        "model": Path(preset.model).name,
        "alignments": "; ".join(
            f"{a.by}: {a.teaching.steps} steps of {a.teaching.batch_size} at {a.teaching.learning_rate:g}"
            for a in preset.arms
        ),
        "users": f"{preset.tuning.steps} steps of {preset.tuning.batch_size} at {preset.tuning.learning_rate:g} on "
        f"{preset.examples} examples, of the first alignment: {'; '.join(user.name for user in preset.users)}",
        "requests": f"{preset.n} of a kind for behaviour, {preset.n_compared} for what changed, {preset.n_attacked} "
        f"attacked, {preset.n_walked} on the ground (answers of {preset.n_walked_tokens} tokens), {preset.n_matrix} in "
        "the matrix",
        "attacks": f"{preset.attacking.attack_tokens} tokens, {preset.attacking.steps} steps of "
        f"{preset.attacking.candidates} candidates; {preset.attacking.soft_tokens} soft tokens",
    }
    shown = {
        "Behaviour": "behaviour",
        "Users": "users",
        "Matrix": "matrix",
        "Attacks": "attacks",
        "Where attacked requests land": "landing",
        "What cutting answers does to verdicts": "disagreement",
    }
    tables = {heading: results.tables[name] for heading, name in shown.items() if name in results.tables}
    path = out / "report.html"
    title = f"real at {preset.name}: what carries over to {Path(preset.model).stem}?"
    page = Page(
        title,
        paragraphs(results.claims, beside, results.tables),
        facts,
        results.claims,
        figures,
        tables,
        expanded={"Synthetic and real, side by side": beside},
        unit="alignment seeds",
    )
    write_page(page, path)
    return path
