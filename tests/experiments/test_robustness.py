"""A small run of the robustness trials, and positive controls of their checks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.robustness.bad_input import bad_command
from experiments.robustness.hostile_models import judge
from experiments.robustness.programs import differences
from experiments.robustness.trials import ProcessResult, one_clear_line

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(2400)  # programs are killed, damaged, run again and compared
def test_small_campaign_passes(tmp_path: Path) -> None:
    """The short form, in a process of its own: torch cannot be forked where it has computed."""
    numbers = {"kills": 5, "several": 1, "pairs": 0, "trainings": 1, "damage": 8, "states": 4, "zoo": 0}
    numbers |= {"models": 18, "gguf": 4, "lines": 8, "files": 9, "bad": 6, "disk": 2, "seed": 2}
    options = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    options += ["--programs", "inspect", "landscape", "align"]
    command = [sys.executable, "-m", "experiments.robustness", *options, "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all passed" in done.stdout
    summary = json.loads((tmp_path / "robustness.json").read_text())
    assert summary["failures"] == []
    n = {kind["kind"]: kind["n_trials"] for kind in summary["kinds"]}
    assert all(kind["n_passes"] == kind["n_trials"] for kind in summary["kinds"])
    assert (n["kills"], n["kills at a rename"], n["several at once"]) == (5, 1, 1)
    assert (n["damaged results"], n["trainings, single"], n["disk faults"]) == (8, 1, 2)
    assert n["damaged states"] == 4
    assert sum(count for kind, count in n.items() if kind.startswith("models: ")) == 22
    assert len((tmp_path / "trials.csv").read_text().splitlines()) == 1 + sum(n.values())


@pytest.fixture
def two_results(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("one", "two"):
        artifact = tmp_path / name / "store/pretraining/0123"
        artifact.mkdir(parents=True)
        (artifact / "artifact.json").write_text(
            json.dumps({"stage": "pretraining", "cost": {"seconds": len(name)}})
        )
        (artifact / "model.safetensors").write_bytes(b"weights")
        (tmp_path / name / "out").mkdir()
        (tmp_path / name / "out/claims.json").write_text("[1, 2]")
    return tmp_path / "one", tmp_path / "two"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("out/claims.json", b"[1, 3]", "out/claims.json differs"),
        ("out/claims.json", None, "out/claims.json is missing"),
        ("store/pretraining/0123/model.safetensors", b"weighty", "model.safetensors differs"),
        ("store/pretraining/0123/artifact.json", b'{"stage": "alignment"}', "artifact.json differs"),
        ("out/.claims.json.1.new", b"", ".claims.json.1.new was left behind"),
        ("store/pretraining/45.partial", b"", "45.partial was left behind"),
    ],
)
def test_comparison_reports_differences(
    two_results: tuple[Path, Path], name: str, content: bytes | None, message: str
) -> None:
    one, two = two_results
    assert differences(one, two) == []
    path = two / name
    path.unlink() if content is None else path.write_bytes(content)
    assert [message in problem for problem in differences(one, two)] == [True]


def _raise_key_error() -> int:
    raise KeyError("unexpected")


def _write_error(text: str, status: int = 2) -> int:
    sys.stderr.write(text)
    return status


def test_bad_command_check_reports_a_traceback(tmp_path: Path) -> None:
    assert (
        "a traceback: KeyError: 'unexpected'"
        in bad_command(0, 0, tmp_path, lambda line: _raise_key_error()).problems
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda line: _write_error("error: one\nand two\n"), "2 lines on stderr"),
        (lambda line: _write_error("", 0), "exit status 0"),
        (
            lambda line: _write_error(f"error: {line}\n") + Path("out/claims.json").write_text("") * 0,
            "written or lost",
        ),
        (
            lambda line: Path("here").mkdir() or _write_error(f"error: {line}\n"),
            "written or lost: [('here', 'folder')]",
        ),
    ],
)
def test_bad_command_check_reports_violations(
    tmp_path: Path, call: Callable[[list[str]], int], message: str
) -> None:
    assert any(message in problem for problem in bad_command(0, 0, tmp_path, call).problems)


def test_one_clear_line_passes() -> None:
    assert one_clear_line(ProcessResult(2, "error: preset 'smok' does not exist\n", 0.0), "smok") == []


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    """Folder of a trial whose output equals the expected tables, and the folder of these."""
    trial, expected = tmp_path / "trial", tmp_path / "expected"
    for folder in (trial / "out/tables", expected):
        folder.mkdir(parents=True)
        (folder / "behaviour.csv").write_text("refuse\n1.0\n")
    return trial, expected


def test_a_model_that_is_read_as_it_is_passes(tables: tuple[Path, Path]) -> None:
    assert judge(ProcessResult(0, "", 1.0), tables[0], "model", tables[1]) == ("accepted", [])


def test_what_a_hostile_model_does_is_seen(tables: tuple[Path, Path]) -> None:
    """Code that ran, other answers in silence, words on stderr, a traceback, a fault, a killed process."""
    trial, expected = tables
    (trial / "out/tables/behaviour.csv").write_text("refuse\n0.0\n")
    for result, message in (
        (ProcessResult(0, "", 1.0), "accepted in silence, with other results: behaviour.csv"),
        (ProcessResult(0, "a warning\n", 1.0), "words on stderr"),
        (ProcessResult(1, "Traceback\nKeyError: 1\n", 1.0), "a traceback"),
        (ProcessResult(2, "error: model: KeyError [--debug shows it]\n", 1.0), "a fault of the program"),
        (ProcessResult(2, "error: bad\n", 1.0), "names none of"),
        (ProcessResult(-9, "", 1.0), "exit status -9"),
    ):
        assert any(message in problem for problem in judge(result, trial, "model", expected)[1]), message
    (trial / "code_ran").touch()
    assert "code of the model ran" in judge(ProcessResult(0, "", 1.0), trial, "model", None)[1]
