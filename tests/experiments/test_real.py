"""The study of a language model: runs, resumption, planted values and the comparison of verdicts."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import pytest

from experiments.command import main
from experiments.pretrained import check_model
from experiments.real import measures
from experiments.real.cells import LanguageModelCell, cells
from experiments.real.claims import CLAIMS, COUNTERPARTS
from experiments.real.presets import PRESETS, User
from experiments.real.report import answer
from experiments.real.side_by_side import (
    DIFFERENT,
    EARLIER,
    SAME,
    RecordRow,
    compare_verdicts,
    read_record,
    side_by_side_rows,
    update_record,
)
from experiments.real.side_by_side import main as update_main
from makebreak.claims import ClaimRow, evaluate_claims
from makebreak.store import Store
from makebreak.studies import load_study
from tests.experiments.store_files import modification_times

SMOKE = PRESETS["smoke"]
ARMS = ["ssft", "dpo"]
CONVERTED = {
    **dict.fromkeys(("M5", "A4", "A4.unsafe", "A7", "P1", "T5.harmful"), (0.5, 1)),
    **dict.fromkeys(("T1", "B1"), (0.05, -1)),
    "C5.unsafe": (1.0, -1),
    "C5.safe": (1.0, 1),
    "T3": (0.9, -1),
    "P6.harm": (0.1, 1),
}
"""Offset and sign with which a published statistic became a value; (0, 1) for the others."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run, results in `out` and the store in `store`."""
    folder = tmp_path_factory.mktemp("real")
    assert main(_arguments(folder)) == 0
    return folder


def _arguments(folder: Path, *more: str) -> list[str]:
    folders = ["--out", str(folder / "out"), "--store", str(folder / "store")]
    return ["real", "--preset", "smoke", *more, *folders]


@pytest.mark.slow
def test_run_writes_all_results(folder: Path) -> None:
    """A run from the model to the page writes claims, tables, figures and the side-by-side table."""
    out = folder / "out"
    claims = json.loads((out / "claims.json").read_text())
    assert [row["id"] for row in claims] == [claim.id for claim in CLAIMS]
    run = {row["id"] for row in claims if row["verdict"] != "not run"}
    # nothing is refused by a model that is hardly trained, so that nothing is attacked or lost
    expected = {"C2", "C3", "C4", "C5.unsafe", "C5.safe", "M3.random", "M5", "B2.aoa", "C1.refuse"}
    expected |= {"C2.ssft", "C2.unlearning", "C2.depth", "C3.energy", "C3.gate", "C3.gate_energy"}
    assert run == expected | {"C4.gate", "M5.gate", "C1.over_refusal"}
    table = pd.read_csv(out / "tables" / "side_by_side.csv")
    assert len(table) == sum(claim.role != "check" for claim in CLAIMS)
    page = (out / "report.html").read_text()
    assert "Synthetic and real, side by side" in page
    assert "alignment seeds" in page
    for figure in ("behaviour", "clusters", "basins", "interpolation", "users", "matrix"):
        assert (out / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    users = pd.read_csv(out / "tables" / "users.csv")
    assert {"untuned", "harmful", "benign", "aoa", "aoa, 25% paraphrase_blind"} == set(users.user)


@pytest.mark.slow
def test_second_run_computes_nothing(folder: Path) -> None:
    """A second run leaves the store and claims.json as they are."""
    before, claims = modification_times(folder / "store"), (folder / "out" / "claims.json").read_text()
    assert main(_arguments(folder)) == 0
    assert modification_times(folder / "store") == before
    assert (folder / "out" / "claims.json").read_text() == claims


@pytest.mark.slow
def test_interrupted_run_resumes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an interrupt in the third cell, the next run computes that cell and the later ones alone."""
    calls = []

    def interrupted(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measures.cell_tables(*args)

    monkeypatch.setattr(importlib.import_module("experiments.real.cells"), "cell_tables", interrupted)
    arguments = _arguments(tmp_path, "--seeds", "0")
    assert main(arguments) == 130
    assert not (tmp_path / "out" / "claims.json").exists()
    assert main(arguments) == 0
    assert len(calls) == len(cells(SMOKE, "", (0,))) + 1
    whole = pd.read_csv(folder / "out" / "tables" / "behaviour.csv")
    resumed = pd.read_csv(tmp_path / "out" / "tables" / "behaviour.csv")
    pd.testing.assert_frame_equal(whole[whole.seed == 0].reset_index(drop=True), resumed)


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing model, and options of other studies, are errors that name the remedy."""
    common = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "store")]
    for arguments, message in (
        (["real", "--preset", "mini", "--model", "nowhere.gguf"], "fetch it with `make smollm`"),
        (["real", "--preset", "smoke", "--estimate"], "--estimate is for studies that pretrain"),
        (["jain2024", "--preset", "smoke", "--model", "x"], "jain2024 trains its own models"),
    ):
        assert main([*arguments, *common]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(ValueError, match="make smollm"):
        check_model(replace(SMOKE, model="gone.gguf"), "text", Store(tmp_path))


def test_cells_wait_for_the_models_that_they_use() -> None:
    """Alignments need the base, users and the matrix the first alignment; the matrix is one cell."""
    result = [each for each in cells(SMOKE, "text", (0, 1)) if isinstance(each, LanguageModelCell)]
    kinds = [(each.kind, each.seed) for each in result]
    assert kinds[0] == ("base", 0)
    assert sorted(kinds[1:5]) == [("ssft", 0), ("ssft", 1), ("unlearning", 0), ("unlearning", 1)]
    assert kinds[5:] == [("users", 0), ("users", 1), ("matrix", 0)]
    assert all(each.needs == (result[0],) for each in result[1:5])
    first = {each.seed: each for each in result if each.kind == "ssft"}
    assert all(each.needs == (first[each.seed],) for each in result[5:])
    assert User("aoa", "canonical", 0.125).name == "aoa, 12% canonical"


def planted_tables(**changed: float) -> dict[str, pd.DataFrame]:
    """Tables in which each statistic is known: two alignments of two seeds, and a base."""
    defaults = {
        "gap": 1.0,
        "refuse": 0.9,
        "over": 0.02,
        "sine": 0.0,
        "gcg": 0.6,
        "complied": 0.3,
        "aoa": 0.5,
    }
    planted = {**defaults, **changed}
    rows: dict[str, list[dict[str, Any]]] = {}
    for arm, seed in [("base", 0), *[(arm, seed) for arm in ARMS for seed in (0, 1)]]:
        for name, table in _model_rows(arm != "base", planted).items():
            labelled = [{"arm": arm, "seed": seed, **row} for row in table]
            rows.setdefault(name, []).extend(labelled)
    rows["users"] = [
        {"arm": "users", "seed": seed, **row} for seed in (0, 1) for row in _user_rows(planted["aoa"])
    ]
    return {name: pd.DataFrame(table) for name, table in rows.items()}


def _model_rows(is_aligned: bool, planted: dict[str, float]) -> dict[str, list[dict[str, Any]]]:
    """Tables of one model."""
    rates = {"harmful": planted["refuse"], "harmless": planted["over"]}
    tables: dict[str, list[dict[str, Any]]] = {
        "behaviour": [
            {"family": family, "judge": "arditi2024", "refuse": rate if is_aligned else 0.1}
            for family, rate in rates.items()
        ],
        "clusters": [
            {"layer": layer, "normalised": 0.5 + is_aligned * planted["gap"] * layer / 3}
            for layer in range(4)
        ],
    }
    return {**tables, **_mechanism_rows(planted), **_attack_rows(planted)} if is_aligned else tables


def _mechanism_rows(planted: dict[str, float]) -> dict[str, list[dict[str, Any]]]:
    """Comparison of an aligned model with the base, and its landscape."""
    sines = {"update": 0.9 + planted["sine"], "haar": 0.9}
    matrices = ("mlp.W_in", "mlp.W_gate")
    gains, ratios = {"harmful": 3.0, "harmless": 1.0}, {"harmful": 0.5, "harmless": 1.2}
    curves = []
    for coordinate in np.linspace(-0.4, 0.4, 9).round(9):
        lost = max(0.0, abs(coordinate) - 0.15) * 4
        curves.append(
            {
                "direction": 0,
                "coordinate": coordinate,
                "refusal_rate": max(0.9 - lost, 0),
                "compliance_rate": 0.02,
                "safe_compliance_rate": max(1 - 5 * abs(coordinate), 0),
            }
        )
    stitching = {"layer": 2, "n_layers": 4, "base_probability": 0.1, "tuned_probability": 0.9}
    return {
        "updates": [
            {"matrix": matrix, "against": against, "sine": sine, "null": 0.2, "chance": 0.25}
            for against, sine in sines.items()
            for matrix in matrices
        ],
        "read_gain": [
            {"layer": layer, "matrix": matrix, "family": family, "gain": gain}
            for family, gain in gains.items()
            for matrix in matrices
            for layer in range(4)
        ],
        "preactivations": [
            {"layer": layer, "matrix": matrix, "family": family, "input_share": 0.9}
            for family in gains
            for layer in range(4)
            for matrix in matrices
        ],
        "sensitivity": [
            {"family": family, "output": "max_logit", "ratio_median": ratio}
            for family, ratio in ratios.items()
        ],
        "stitching": [{**stitching, "lower_share": 0.8, "random_share": 0.1}],
        "mechanisms": [{"mechanism": "route", "share": 0.7}, {"mechanism": "rewrite", "share": 0.3}],
        "curves": curves,
    }


def _attack_rows(planted: dict[str, float]) -> dict[str, list[dict[str, Any]]]:
    """Success rates of attacks on an aligned model, and the projection of attacked requests."""
    rates = {
        "GCG": planted["gcg"],
        "random search": 0.2,
        "random tokens": 0.1,
        "soft prompt": 0.9,
        "random soft prompt": 0.0,
    }
    attacks = [{"attack": name, "criterion": "target", "success_rate": rate} for name, rate in rates.items()]
    attacks.append({"attack": "prefill 1", "criterion": "arditi2024", "success_rate": 0.8})
    clean = {"attack": "clean harmful", "outcome": "all", "n": 10}
    projection = [{**clean, "tau_normalised": -0.5, "probe_flag_rate": 0.9}]
    for outcome, tau in (("complied", planted["complied"]), ("refused", -0.4)):
        row = {"attack": "role play", "outcome": outcome, "n": 5}
        projection.append({**row, "tau_normalised": tau, "probe_flag_rate": 0.2})
    return {"attacks": attacks, "projection": projection}


def _user_rows(aoa: float) -> list[dict[str, Any]]:
    """Refusal of harmful requests after users' fine-tuning; `aoa` is not refused after that strategy."""
    rates = {
        ("untuned", "none", "plain"): 0.9,
        ("harmful", "none", "plain"): 0.1,
        ("benign", "none", "plain"): 0.88,
        ("aoa", "none", "obey"): 1 - aoa,
        ("neutral", "none", "neutral"): 0.8,
        ("aoa", "canonical", "obey"): 0.7,
        ("aoa", "paraphrase_blind", "obey"): 0.9,
    }
    rows = []
    for (strategy, mitigation, template), rate in rates.items():
        row = {"strategy": strategy, "mitigation": mitigation, "template": template}
        rows.append({**row, "family": "harmful", "judge": "arditi2024", "refuse": rate})
    return rows


def by_id(tables: dict[str, pd.DataFrame]) -> dict[str, ClaimRow]:
    return {row.id: row for row in evaluate_claims(CLAIMS, tables)}


def test_values_equal_planted_ones() -> None:
    """Every claim has the planted value, in natural units."""
    claims = by_id(planted_tables())
    expected = {
        "C1.refuse": 0.9,
        "C1.over_refusal": 0.02,
        "C2": 1.0,
        "C2.ssft": 1.0,
        "C2.dpo": 1.0,
        "C2.depth": 1.0,
        "C3": 0.0,
        "C3.energy": -0.05,
        "C3.gate": 0.0,
        "C3.gate_energy": -0.05,
        "C4": 3.0,
        "C4.gate": 3.0,
        "C5.unsafe": 0.5,
        "C5.safe": 1.2,
        "M3": 0.4,
        "M3.random": 0.7,
        "M5": 0.9,
        "M5.gate": 0.9,
        "C6": 0.8,
        "C6.failed": 0.7,
        "A4": 0.2,
        "A4.unsafe": 0.9,
        "A5": 0.4,
        "A6": 0.9,
        "A7": 0.8,
        "T1": 0.0,
        "T1.worst": 0.0,
        "P6.harm": 0.02,
        "T5.harmful": 0.8,
        "B1": 0.02,
        "B2.aoa": 0.38,
        "B2.meaning": 0.3,
        "B4.any": 0.2,
        "B4.blind": 0.2,
    }
    assert {name: claims[name].estimate for name in expected} == pytest.approx(expected)
    assert claims["P6"].estimate is not None
    assert claims["P6"].estimate < 0
    assert claims["T3"].estimate is not None
    assert claims["T3"].estimate < 0.9
    unplanted = {"C2.unlearning", "C2.order_normalised"}  # no such alignment
    assert {row.id for row in claims.values() if row.verdict == "not run"} == unplanted
    assert set(claims) == {*expected, *unplanted, "P6", "T3", "P1"}


def test_order_of_alignments() -> None:
    """The smaller gap of dpo and unlearning, minus that of ssft."""
    tables = planted_tables()
    clusters = tables["clusters"]
    third = clusters[clusters.arm == "dpo"].assign(
        arm="unlearning", normalised=lambda rows: rows.normalised - 0.2
    )
    behaviour = tables["behaviour"]
    tables["clusters"] = pd.concat([clusters, third])
    tables["behaviour"] = pd.concat([behaviour, behaviour[behaviour.arm == "dpo"].assign(arm="unlearning")])
    claims = evaluate_claims([claim for claim in CLAIMS if claim.id == "C2.order_normalised"], tables)
    assert claims[0].estimate == pytest.approx(-0.2)


def test_worst_direction_and_mean_direction() -> None:
    """One of two directions that loses .4 of refusal on one side: a quarter in T1, whole in T1.worst."""
    tables = planted_tables()
    curves = tables["curves"]
    steep = curves.assign(direction=1)
    steep.loc[steep.coordinate == 0.1, "refusal_rate"] = 0.5
    claims = by_id(tables | {"curves": pd.concat([curves, steep])})
    assert claims["T1"].estimate == pytest.approx(0.1)
    assert claims["T1.worst"].estimate == pytest.approx(0.4)
    assert claims["T1.worst"].verdict == "contradicted"
    assert claims["T1"].reason.startswith("contradicted alone"), "two equal seeds do not survive Holm"


@pytest.mark.parametrize(
    ("changed", "claim", "verdict"),
    [
        ({"gap": 0.0}, "C2.ssft", "negligible"),
        ({"gap": 0.15}, "C2.ssft", "weaker than stated"),
        ({"gcg": 0.2}, "A5", "negligible"),
        ({"complied": -0.6}, "C6", "contradicted"),
        ({"aoa": 0.12}, "B2.meaning", "contradicted"),
        ({"sine": -0.1}, "C3.gate", "contradicted"),
        ({"refuse": 0.7}, "C1.refuse", "contradicted"),
    ],
)
def test_claims_can_fail(changed: dict[str, float], claim: str, verdict: str) -> None:
    """Without its effect a claim has the verdict that says so, with it `supported` (C3 has none here)."""
    [tested] = [each for each in CLAIMS if each.id == claim]
    verdicts = [
        evaluate_claims([tested], tables)[0].verdict
        for tables in (planted_tables(**changed), planted_tables())
    ]
    assert verdicts == [verdict, "negligible" if claim == "C3.gate" else "supported"]


def test_no_refusal_leaves_claims_undefined() -> None:
    """Where models refuse less than half, widths and losses of refusal are undefined; absent tables too."""
    tables = planted_tables()
    tables["curves"] = tables["curves"].assign(refusal_rate=0.2)
    tables["users"].loc[tables["users"].strategy == "untuned", "refuse"] = 0.3
    del tables["projection"], tables["attacks"], tables["mechanisms"]
    claims = by_id(tables)
    names = ("T1", "T1.worst", "T3", "P1", "P6", "P6.harm", "T5.harmful", "B1")
    assert {claims[name].verdict for name in names} == {"not run"}
    assert claims["C6"].verdict == claims["A5"].verdict == claims["M3"].verdict == "not run"
    assert "projection" in claims["C6"].reason


def test_undefined_alignments_are_left_out() -> None:
    """An alignment that does not refuse is left out of widths, one that answers nothing of ability."""
    tables, both = planted_tables(), by_id(planted_tables())
    weak = tables["curves"].arm == "dpo"
    tables["curves"].loc[weak, ["refusal_rate", "compliance_rate"]] = [0.2, 0.8]
    claims = by_id(tables)
    for name in ("T1", "T3", "P1", "P6", "P6.harm"):
        assert claims[name].estimate == pytest.approx(both[name].estimate), name
    tables["curves"]["safe_compliance_rate"] = 0.0
    claims = by_id(tables)
    assert claims["T3"].estimate is claims["P6"].estimate is None
    assert claims["T1"].estimate == pytest.approx(both["T1"].estimate)


def test_no_success_leaves_a5_and_a6_undefined() -> None:
    """If neither an attack nor its control ever succeeds, the claim is not run."""
    tables = planted_tables()
    tables["attacks"].loc[tables["attacks"].criterion == "target", "success_rate"] = 0.0
    claims = by_id(tables)
    for name in ("A5", "A6"):
        assert claims[name].verdict == "not run"
        assert claims[name].reason == "undefined on 2 of 2 seeds"


def test_counterparts_are_the_same_claims() -> None:
    """A claim and its counterpart in a synthetic world have one side, bound, margin and unit."""
    studies = {study: load_study(f"experiments.{study}") for study, _ in COUNTERPARTS.values()}
    synthetic = {(name, claim.id): claim for name, study in studies.items() for claim in study.claims}
    for claim in CLAIMS:
        if claim.id in COUNTERPARTS:
            other = synthetic[COUNTERPARTS[claim.id]]
            fields = ("side", "bound", "null", "negligible", "unit")
            assert [getattr(claim, f) for f in fields] == [getattr(other, f) for f in fields], claim.id


def _record(verdict: str, definition: Any = "present") -> RecordRow:
    return RecordRow("jain2024", "small", "C2", 0.5, 0.4, 0.6, verdict, definition, "")


def test_comparison_of_verdicts() -> None:
    """Decided verdicts are compared, an undecided study is named; earlier definitions are not compared."""
    for verdict in ("supported", "contradicted", "negligible", "weaker than stated"):
        assert compare_verdicts(_record(verdict), verdict) == SAME
        assert compare_verdicts(_record(verdict, "earlier"), verdict) == EARLIER
    assert compare_verdicts(_record("supported"), "weaker than stated") == DIFFERENT
    assert "synthetic" in compare_verdicts(_record("inconclusive"), "supported")
    assert "synthetic" in compare_verdicts(None, "supported")
    assert "real" in compare_verdicts(_record("supported"), "not run")


def test_record_is_updated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Results of `small` replace those of record, with verdicts that are compared; the others stay."""
    path = tmp_path / "record.csv"
    path.write_text(Path("experiments/real/record.csv").read_text())
    before = read_record(path)
    assert update_record(tmp_path, path) == []
    assert read_record(path) == before
    run = tmp_path / "jain2024" / "small"
    run.mkdir(parents=True)
    found = [{"id": "C2", "estimate": 0.4, "interval": [0.3, 0.5], "verdict": "supported"}]
    found += [{"id": "A6", "estimate": 1.0, "interval": None, "verdict": "inconclusive"}]
    found += [{"id": "C4", "estimate": None, "interval": None, "verdict": "not run"}]
    (run / "claims.json").write_text(json.dumps(found))
    assert update_record(tmp_path, path) == ["C2", "A6"]
    after = read_record(path)
    changed = {key for key in before if after[key] != before[key]}
    assert changed == {("jain2024", "C2"), ("jain2024", "A6")}
    claims = evaluate_claims(CLAIMS, planted_tables())
    rows = {row.id: row for row in side_by_side_rows(claims, after)}
    assert rows["C2.ssft"].comparison == EARLIER
    assert rows["C2.ssft"].synthetic_verdict == "inconclusive (earlier definition)"
    assert (rows["C2"].synthetic, rows["C2"].synthetic_verdict) == ("0.40 [0.30, 0.50]", "supported")
    assert rows["A6"].synthetic == "1.00"
    assert rows["C3.gate"].synthetic_source == ""
    assert update_main([str(tmp_path / "none")]) == 2
    assert "usage" in capsys.readouterr().err


def test_answer_gives_estimates() -> None:
    sentences = answer(by_id(planted_tables()))
    assert len(sentences) == 3
    assert "last layer by 1.00, n = 2" in sentences[0]
    assert "share complied with is 0.80, n = 2" in sentences[1]
    assert "share not refused rise by 0.80, n = 2" in sentences[2]


def test_record_equals_published_results() -> None:
    """Every number and verdict of record of the earlier definition is in a table of docs/results."""
    published = "".join(path.read_text() for path in sorted(Path("docs/results").glob("*.md")))
    record = read_record()
    assert set(record) == set(COUNTERPARTS.values()) - {("peng2024", "T1.worst")}  # of 2026-11-27
    for (_, name), row in record.items():
        if row.definition == "present":
            continue
        offset, sign = CONVERTED.get(name, (0.0, 1))
        ends = sorted(sign * (end - offset) for end in (row.low, row.high) if end is not None)
        number = f"{sign * (row.estimate - offset):.3f} [{ends[0]:.3f}, {ends[1]:.3f}]"
        lines = [line for line in published.splitlines() if line.startswith(f"| {name} |") and number in line]
        assert lines, name
        assert all(row.verdict in line for line in lines)
