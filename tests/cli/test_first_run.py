"""The first minutes: `makebreak` alone, `doctor`, the default store, and what the wheel holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import makebreak.cli.doctor as doctor
from makebreak.cli import main
from makebreak.cli.commands import COMMANDS


def test_makebreak_alone_says_what_it_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Every command, three examples, and no error, in less than 25 lines that fit a terminal."""
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 25
    assert max(map(len, lines)) <= 110
    assert [line.split()[0] for line in lines[2 : 2 + len(COMMANDS)]] == list(COMMANDS)
    assert len([line for line in lines if line.startswith("  makebreak ")]) == 3


def test_makebreak_alone_imports_nothing_heavy() -> None:
    code = "import sys; from makebreak.cli import main; main([]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(done.stdout.splitlines()[-1].split())
    assert "makebreak.cli" in modules
    assert not modules & {"torch", "transformers", "numpy", "pandas", "makebreak.api", "makebreak.models"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("inspect NOSUCH", "NOSUCH does not exist: expected a folder, a GGUF file or a Hub id (owner/name)"),
        ("attack a/b/c", "a/b/c does not exist: expected a folder"),
        ("compare . missing.gguf", "missing.gguf does not exist: expected a folder"),
        ("landscape no/such", "no folder no/such, and no Hub model no/such (it is not in the cache, and the"),
        ("align here/x", "no folder here/x, and no Hub model here/x in the cache; the Hub is not asked"),
    ],
)
def test_a_name_of_no_model_is_refused_before_anything_heavy_is_imported(
    words: str, message: str, tmp_path: Path
) -> None:
    """In a process without a network, whose only model is the folder it runs in."""
    (tmp_path / "here").mkdir()
    code = (
        "import sys; from makebreak.cli import main; "
        f"print(main({words.split()!r}), *sorted(sys.modules.keys() & {{'torch', 'transformers'}}))"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.stderr.startswith(f"error: {message}")
    assert done.stdout.split() == ["2"]


def run_doctor(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main(["doctor", *words]) == 0
    return capsys.readouterr().out.splitlines()


def test_doctor_finds_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "store").mkdir()
    lines = run_doctor(capsys, "--store", str(tmp_path / "store"))
    assert lines[-1] == "everything that makebreak needs is here"
    assert "optional: all packages are installed" in lines
    text = "\n".join(lines)
    for word in ("python: 3.", "torch 2.", "transformers 5.", "processor: ", "accelerator: ", "slurm: "):
        assert word in text
    assert f"store: {tmp_path}/store, 0.0 GiB, " in text
    assert not list((tmp_path / "store").iterdir())


def test_doctor_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A package with its command, a store that cannot be one, and an interpreter without torch."""
    monkeypatch.setitem(sys.modules, "gguf", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "file").write_text("")
    lines = run_doctor(capsys, "--store", str(tmp_path / "file" / "store"))
    assert "optional: models in .gguf files need gguf: pip install 'makebreak[gguf]'" in lines
    assert any(line.startswith("problem: torch cannot be imported (ModuleNotFoundError") for line in lines)
    assert f"problem: store {tmp_path}/file/store: {tmp_path}/file is no folder; choose another one" in lines
    assert "slurm: no sbatch on the PATH, tasks run on this machine" in lines
    assert lines[-1] == "2 problems"


def test_doctor_lists_accelerators(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    module = SimpleNamespace(
        mem_get_info=lambda index: (2**30, 2**32), get_device_name=lambda index: f"card {index}"
    )
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda")
    )
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    lines = run_doctor(capsys)
    assert [line for line in lines if "accelerator" in line] == [
        f"accelerator: cuda:{index}, card {index}, 1.0 of 4.0 GiB free" for index in (0, 1)
    ]


def test_doctor_does_not_count_a_large_store_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "weights").write_bytes(bytes(1000))
    monkeypatch.setattr(doctor, "_SCAN_SECONDS", -1.0)
    assert any(
        f"store: {tmp_path}, more than 0.0 GiB, " in line
        for line in run_doctor(capsys, "--store", str(tmp_path))
    )


def test_doctor_says_that_a_store_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)  # root may write anywhere
    lines = run_doctor(capsys, "--store", str(tmp_path))
    assert any(line.startswith(f"problem: store {tmp_path}, ") for line in lines)
    assert any(line.startswith("hub cache: ") and line.endswith("read only") for line in lines)


def test_the_environment_names_the_default_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the commands and of the functions; an empty variable names none."""
    code = (
        "from makebreak import settings; print(settings.store, settings.OutputSettings().store)\n"
        "from makebreak.cli.options import SharedOptions; print(SharedOptions().output.store)"
    )
    for value, expected in (("elsewhere/store", "elsewhere/store"), ("", "runs/store")):
        monkeypatch.setenv("MAKEBREAK_STORE", value)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [expected] * 3


@pytest.mark.slow
def test_demo_writes_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the models that ship: three sentences, what to do next, and the page, and nothing beside it."""
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    _, *summary, blank, following, page = capsys.readouterr().out.splitlines()
    assert len(summary) == 3
    assert "mini-base 0.0" in summary[0]
    assert "mini-ssft " in summary[0]
    assert blank == ""
    assert following.startswith("next: ")
    assert page == "page: runs/demo/report.html"
    assert "mini-ssft" in (tmp_path / "runs/demo/report.html").read_text(encoding="utf-8")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["demo"]


def test_demo_overwrites_no_files_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["demo", "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith(f"error: --out: {tmp_path}/file ")
