"""Does the campaign pass in small, and would its checks notice what they look for?"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.campaign.bad_input import bad_command
from experiments.campaign.trials import Ended, differences, one_clear_line

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.timeout(600)  # a run is killed, resumed and compared several times
def test_a_small_campaign_passes(tmp_path: Path) -> None:
    """In a process of its own: torch cannot be forked where it has computed."""
    numbers = {"kills": 1, "bad": 6, "pairs": 1, "damage": 0, "seed": 2}
    options = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "experiments.campaign", *options, "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all passed" in done.stdout
    told = json.loads((tmp_path / "campaign.json").read_text())
    assert told["failures"] == []
    assert told["parts"]["kills"] == {"passed": 1, "tried": 1}
    assert told["parts"]["pairs"] == {"passed": 1, "tried": 1}
    assert sum(part["tried"] for name, part in told["parts"].items() if "bad" in name) == 6
    assert len((tmp_path / "trials.csv").read_text().splitlines()) == 1 + 1 + 6 + 1


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
    ("name", "content", "told"),
    [
        ("out/claims.json", b"[1, 3]", "out/claims.json differs"),
        ("out/claims.json", None, "out/claims.json is missing"),
        ("store/pretraining/0123/model.safetensors", b"weighty", "model.safetensors differs"),
        ("store/pretraining/0123/artifact.json", b'{"stage": "alignment"}', "artifact.json differs"),
        ("out/.claims.json.1.new", b"", ".claims.json.1.new was left behind"),
        ("store/pretraining/45.partial", b"", "45.partial was left behind"),
    ],
)
def test_the_comparison_notices(
    two_results: tuple[Path, Path], name: str, content: bytes | None, told: str
) -> None:
    one, two = two_results
    assert differences(one, two) == []
    path = two / name
    path.unlink() if content is None else path.write_bytes(content)
    assert [told in problem for problem in differences(one, two)] == [True]


def _fails() -> int:
    raise KeyError("out of the blue")


def _says(text: str, status: int = 2) -> int:
    sys.stderr.write(text)
    return status


def test_the_check_of_bad_command_lines_notices_a_traceback(tmp_path: Path) -> None:
    assert (
        "a traceback: KeyError: 'out of the blue'"
        in bad_command(0, 0, tmp_path, lambda line: _fails()).problems
    )


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda line: _says("error: one\nand two\n"), "2 lines on stderr"),
        (lambda line: _says("", 0), "exit status 0"),
        (
            lambda line: _says(f"error: {line}\n") + Path("out/claims.json").write_text("") * 0,
            "written or lost",
        ),
        (
            lambda line: Path("here").mkdir() or _says(f"error: {line}\n"),
            "written or lost: [('here', 'folder')]",
        ),
    ],
)
def test_the_check_of_bad_command_lines_notices(
    tmp_path: Path, call: Callable[[list[str]], int], told: str
) -> None:
    assert any(told in problem for problem in bad_command(0, 0, tmp_path, call).problems)


def test_one_clear_line_is_no_problem() -> None:
    assert one_clear_line(Ended(2, "error: preset 'smok' does not exist\n", 0.0), "smok") == []
