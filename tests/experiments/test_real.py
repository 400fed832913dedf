"""The study of a language model: runs, resumption, planted statistics and the comparison of verdicts."""

from __future__ import annotations

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
from experiments.real import PRESETS, check_gates, measures
from experiments.real.claim_values import seed_values
from experiments.real.claims import CLAIMS, judge, synthetic_study
from experiments.real.presets import User
from experiments.real.side_by_side import (
    RECORD,
    SideBySideRow,
    compare_verdicts,
    side_by_side_rows,
    synthetic_results,
)
from experiments.real.study import cells, trainings
from makebreak.store import Store
from tests.experiments.store_files import modification_times

SMOKE = PRESETS["smoke"]
ARMS = ["ssft", "dpo"]


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
    table = pd.read_csv(out / "tables" / "side_by_side.csv")
    assert len(table) == sum(claim.kind == "claim" for claim in CLAIMS)
    page = (out / "report.html").read_text()
    assert "Synthetic and real, side by side" in page
    assert "intervals over alignment seeds" in page
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

    monkeypatch.setattr("experiments.real.study.cell_tables", interrupted)
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
        check_gates(replace(SMOKE, model="gone.gguf"), "text", Store(tmp_path))


def test_trainings_are_counted() -> None:
    """All alignments and users at each seed, and the matrix once; a user's name has its mitigation."""
    mini = PRESETS["mini"]
    n_seeds, n_arms = 3, 3
    expected = n_seeds * n_arms + n_seeds * len(mini.users) + len(mini.matrix_formats)
    assert len(trainings(mini, "text", (0, 1, 2))) == expected
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
    stitching = {"layer": 2, "n_layers": 4, "base_margin": -3.0, "tuned_margin": 1.0}
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
        "stitching": [{**stitching, "lower_margin_share": 0.8, "random_margin_share": 0.1}],
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


def test_statistics_equal_planted_ones() -> None:
    """Every statistic of a claim has the planted value."""
    values = seed_values(planted_tables(), ARMS, 0)
    expected = {
        "C1.refuse": 0.1,
        "C1.over_refusal": 0.08,
        "C2": 1.0,
        "C2.dpo": 1.0,
        "C2.depth": 1.0,
        "C3": 0.0,
        "C3.energy": -0.05,
        "C4": 3.0,
        "C5.unsafe": 0.5,
        "C5.safe": 0.2,
        "M3": 0.8,
        "M3.random": 0.7,
        "M5": 0.4,
        "C6": 0.8,
        "C6.failed": 0.7,
        "A4": -0.3,
        "A4.unsafe": 0.4,
        "A5": 0.4,
        "A6": 0.9,
        "A7": 0.3,
        "T1": 0.05,
        "P6.harm": -0.08,
        "T5.harmful": 0.3,
        "B1": 0.03,
        "B2.aoa": 0.38,
        "B2.meaning": 0.3,
        "B4.any": 0.2,
        "B4.blind": 0.2,
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected)
    assert values["P6"] is not None
    assert values["T3"] is not None
    assert values["P6"] < 0 < values["T3"]


@pytest.mark.parametrize(
    ("changed", "claim"),
    [
        ({"gap": 0.0}, "C2"),
        ({"gcg": 0.2}, "A5"),
        ({"complied": -0.5}, "C6"),
        ({"aoa": 0.12}, "B2.aoa"),
        ({"sine": -0.1}, "C3"),
    ],
)
def test_claims_can_fail(changed: dict[str, float], claim: str) -> None:
    """Without its effect a claim is not supported; with it, it is (but for C3, which has none here)."""
    verdicts = {row["id"]: row["verdict"] for row in judge(planted_tables(), ARMS, (0, 1))}
    failed = {row["id"]: row["verdict"] for row in judge(planted_tables(**changed), ARMS, (0, 1))}
    assert failed[claim] == "not supported"
    assert verdicts[claim] == ("not supported" if claim == "C3" else "supported")


def test_no_refusal_leaves_claims_undefined() -> None:
    """Where models refuse less than half, widths and losses of refusal are undefined; absent tables too."""
    tables = planted_tables()
    tables["curves"] = tables["curves"].assign(refusal_rate=0.2)
    tables["users"].loc[tables["users"].strategy == "untuned", "refuse"] = 0.3
    values = seed_values(tables, ARMS, 0)
    assert [values[name] for name in ("T1", "T3", "P1", "P6", "T5.harmful", "B1")] == [None] * 6
    del tables["projection"], tables["attacks"]
    rows = {row["id"]: row["verdict"] for row in judge(tables, ARMS, (0, 1))}
    assert rows["C6"] == rows["A5"] == rows["T1"] == "not run"


def test_undefined_alignments_are_left_out() -> None:
    """An alignment that does not refuse is left out of widths, one that answers nothing of capability."""
    tables, both = planted_tables(), seed_values(planted_tables(), ARMS, 0)
    weak = tables["curves"].arm == "dpo"
    tables["curves"].loc[weak, ["refusal_rate", "compliance_rate"]] = [0.2, 0.8]
    values = seed_values(tables, ARMS, 0)
    names = ("T1", "T3", "P1", "P6", "P6.harm")
    assert {name: values[name] for name in names} == pytest.approx({name: both[name] for name in names})
    tables["curves"]["safe_compliance_rate"] = 0.0
    values = seed_values(tables, ARMS, 0)
    assert values["T3"] is values["P6"] is None
    assert values["T1"] == pytest.approx(both["T1"])


def test_no_success_leaves_a5_and_a6_undefined() -> None:
    """If neither an attack nor its control ever succeeds, the claim is not run, with a reason."""
    tables = planted_tables()
    tables["attacks"].loc[tables["attacks"].criterion == "target", "success_rate"] = 0.0
    rows = {row["id"]: row for row in judge(tables, ARMS, (0, 1))}
    for name in ("A5", "A6"):
        assert rows[name]["verdict"] == "not run"
        assert "neither" in rows[name]["reason"]


def test_holm_correction_of_mitigations() -> None:
    """With two seeds that nearly agree, .2 stays above .03 after correction with the weaker claim."""
    tables = planted_tables()
    users = tables["users"]
    blind = (users.mitigation == "paraphrase_blind") & (users.seed == 1)
    users.loc[blind, "refuse"] = 0.89
    rows = {row["id"]: row for row in judge(tables, ARMS, (0, 1))}
    assert rows["B4.any"]["verdict"] == "supported"
    assert rows["B4.blind"]["n_seeds"] == 2


def test_comparison_of_verdicts() -> None:
    """Two decided verdicts are the same or opposite; otherwise the undecided study is named."""
    same = compare_verdicts("supported", "supported")
    assert same == compare_verdicts("not supported", "not supported") == "same verdict"
    assert compare_verdicts("supported", "not supported") == "opposite verdict"
    assert "synthetic" in compare_verdicts("inconclusive", "supported")
    assert "real" in compare_verdicts("supported", "not run")


def test_side_by_side_prefers_small(tmp_path: Path) -> None:
    """Results of `small` that were run here replace those of record; those of `mini` do not."""
    claims = judge(planted_tables(), ARMS, (0, 1))

    def rows() -> dict[str, SideBySideRow]:
        return {row.id: row for row in side_by_side_rows(claims, tmp_path)}

    assert rows()["C2"].comparison == "same verdict"
    assert rows()["C4"].comparison == "opposite verdict"  # 1.15 of record, 3 planted, threshold 2
    assert rows()["C2"].synthetic_source == "jain2024 small, of record"
    run = tmp_path / "jain2024" / "mini"
    run.mkdir(parents=True)
    row = {"id": "C2", "estimate": 0.0, "interval": [-0.1, 0.1], "verdict": "not supported"}
    (run / "claims.json").write_text(json.dumps([row]))
    assert rows()["C2"].synthetic_source == "jain2024 small, of record"
    run.rename(run.with_name("small"))
    assert rows()["C2"].comparison == "opposite verdict"
    assert rows()["C2"].synthetic_source == "jain2024 small, run here"


def test_record_equals_published_results() -> None:
    """Every number and verdict of record.csv is in a table of docs/results."""
    published = "".join(path.read_text() for path in sorted(Path("docs/results").glob("*.md")))
    record = synthetic_results([], RECORD.parent)
    of_gate = {
        "C3.gate",
        "C3.gate_energy",
        "C4.gate",
        "M5.gate",
    }  # GPT-2 has none
    assert set(record) == {claim.id for claim in CLAIMS if claim.kind == "claim"} - of_gate
    for name, row in record.items():
        assert row.study == synthetic_study(name)
        number = f"{row.estimate:.3f} [{row.low:.3f}, {row.high:.3f}]"
        lines = [line for line in published.splitlines() if line.startswith(f"| {name} |") and number in line]
        assert lines, name
        assert all(row.verdict in line for line in lines)
