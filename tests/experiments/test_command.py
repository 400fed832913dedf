"""The command line of the studies is complete, repeatable, resumable, and clear about bad input."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from experiments.command import main
from makebreak.claims import VERDICTS, ClaimRow
from makebreak.model_zoo import table

REPOSITORY = Path(__file__).parents[2]


def arguments(folder: Path, *more: str) -> list[str]:
    return [
        "jain2024",
        "--preset",
        "smoke",
        "--out",
        str(folder / "out"),
        "--store",
        str(folder / "store"),
        *more,
    ]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smoke")
    assert main(arguments(folder)) == 0
    return folder


def mtimes(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"}


@pytest.mark.slow
def test_every_documented_file_is_written(done: Path) -> None:
    out = done / "out"
    claims = json.loads((out / "claims.json").read_text())
    assert {row["id"] for row in claims} >= {
        "C1",
        "C2",
        "C2.depth",
        "C2.order",
        "C3",
        "C4",
        "C5",
        "C6",
        "C6.hidden",
        "C7",
        "C8",
        "A1",
        "M1",
        "M2",
        "M3",
        "M4",
        "M5",
    }
    assert all(set(row) == set(ClaimRow._fields) for row in claims)
    assert {row["verdict"] for row in claims} <= set(VERDICTS)
    for figure in (
        "outcomes",
        "cost",
        "separation",
        "null_share",
        "updates",
        "update_projection",
        "leading_gain",
        "kernel_share",
        "sensitivity",
        "decomposition",
        "stitching",
        "localisation",
        "controls",
        "matched",
        "probes",
    ):
        assert (out / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
        assert (out / "figures" / f"{figure}.pdf").read_bytes().startswith(b"%PDF")
    tables = {
        "behaviour",
        "zoo",
        "matched",
        "clusters",
        "null_share",
        "detectability",
        "stitching",
        "mechanisms",
        "answer_rates",
        "answer_positions",
        "preactivations",
        "energy",
        "weighted_energy",
        "kernel_share",
        "input_gain",
        "update_projection",
    }
    tables |= {
        "read_gain",
        "updates",
        "sensitivity",
        "extrapolation",
        "localisation",
        "patching",
        "directions",
        "refusal_rank",
    }
    tables |= {"probes", "matched_steering", "constrained", "published"}
    tables |= {
        "attacks",
        "projection",
        "prediction",
        "steering",
        "interchange",
        "monitors",
        "prefill",
        "jailbreak_detectability",
    }
    names = {p.stem for p in (out / "tables").iterdir()}
    # untrained models have no success that is steered, and no refusal that gains enough probability
    assert tables - {"steering", "mechanisms"} <= names <= tables
    page = (out / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    provenance = json.loads((out / "provenance.json").read_text())
    assert {"preset", "versions", "threads", "commit", "seeds", "stages"} <= set(provenance)
    assert all({"seconds", "process_peak_mib"} <= set(stage) for stage in provenance["stages"])


@pytest.mark.slow
def test_table_of_models_is_the_zoo_of_the_store(done: Path) -> None:
    """Except for bases of other seeds, which are references of updates, and another world's models."""
    from_csv = (
        pd.read_csv(done / "out" / "tables" / "zoo.csv")
        .drop_duplicates(["key", "step"])
        .set_index(["key", "step"])
    )
    zoo = table(done / "store").query("world == 'mini'").set_index(["key", "step"])
    assert set(from_csv.index) <= set(zoo.index)
    assert {name for name, _ in zoo.index.difference(from_csv.index)} <= set(
        zoo[zoo.mechanism == "base"].reset_index().key
    )
    for name in (
        "parent",
        "mechanism",
        "margin",
        "stitching.lower_margin_share",
        "null_share.unsafe",
        "mixed_text.refuse",
    ):
        pd.testing.assert_series_equal(from_csv[name], zoo[name][from_csv.index], check_dtype=False)


@pytest.mark.slow
def test_second_run_computes_nothing(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, claims = mtimes(done / "store"), (done / "out" / "claims.json").read_bytes()
    torn = [done / "out" / name for name in (".claims.json.1.new", "tables/.zoo.csv.2.new")]
    for path in torn:
        path.write_text("half")
    assert main(arguments(done)) == 0
    assert not any(path.exists() for path in torn), "what a killed write has left is removed"
    assert mtimes(done / "store") == before
    assert (done / "out" / "claims.json").read_bytes() == claims
    out, err = capsys.readouterr()
    assert "30 models" in out
    assert "C2.depth" in out
    assert "report.html" in out
    assert err == "", "no progress bar without a terminal"
    (done / "out" / "provenance.json").unlink()
    assert main(arguments(done)) == 0, "tables and page are made anew from the store"
    assert mtimes(done / "store") == before
    assert (done / "out" / "claims.json").read_bytes() == claims


@pytest.mark.slow
def test_killed_run_resumes_to_the_same_result(done: Path, tmp_path: Path) -> None:
    """One seed; SIGKILL as soon as some models, but not all, are in the store."""
    whole = [*arguments(done, "--seeds", "0"), "--out", str(tmp_path / "whole")]
    assert main(whole) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", *arguments(tmp_path, "--seeds", "0")],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while (
        len(list((tmp_path / "store").glob("alignment/*/artifact.json"))) < 3 and time.monotonic() < deadline
    ):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "claims.json").exists()
    assert main(arguments(tmp_path, "--seeds", "0")) == 0
    assert (tmp_path / "out" / "claims.json").read_bytes() == (
        tmp_path / "whole" / "claims.json"
    ).read_bytes()


@pytest.mark.parametrize(
    ("command_line", "message"),
    [
        (["jain2025"], "study 'jain2025' does not exist; did you mean 'jain2024'?"),
        (["jain2024", "--preset", "smok"], "preset 'smok' does not exist; did you mean 'smoke'?"),
        (["jain2024", "--preset", "smoke", "--world", "minni"], "world 'minni'"),
        (["jain2024", "--preset", "smoke", "--seeds", "0", "0"], "seeds (0, 0): expected distinct numbers"),
        (["jain2024", "--preset", "smoke", "--seeds", "-1"], "seeds (-1,)"),
        (["jain2024", "--preset", "smoke", "--seeds", "1000"], "for tuning and never reported"),
        (["jain2024", "--preset", "smoke", "--seeds", "one"], "one"),
        (
            ["jain2024", "--preset", "smoke", "--engine", "stacks:cpu"],
            "engine 'stacks:cpu': expected single or",
        ),
        (["jain2024", "--presset", "smoke"], "--presset"),
        ([], "study"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    command_line: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command_line) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert message.lower() in err.lower()
    assert not list(tmp_path.iterdir())


def test_unwritable_out_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main(["jain2024", "--preset", "smoke", "--out", str(tmp_path / "file" / "out")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.slow
def test_damaged_store_is_named_with_the_remedy(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = next((done / "store" / "pretraining").glob("*/model.safetensors"))
    whole = weights.read_bytes()
    try:
        weights.write_bytes(whole[:-10])
        assert main(arguments(done)) == 2
    finally:
        weights.write_bytes(whole)
    err = capsys.readouterr().err
    assert str(weights) in err
    assert "delete" in err
    assert len(err.splitlines()) == 1


def test_help_names_studies_and_presets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("jain2024", "speed", "--preset", "smoke", "mini", "--seeds", "--out"))
