"""Output of the commands: checked before a model is opened, and never outside of its folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pandas as pd
import pytest

import experiments.command
from makebreak.cli import main
from makebreak.cli.options import SharedOptions
from makebreak.errors import InvalidInput
from makebreak.report import write_figures, write_tables
from makebreak.settings import OutputSettings

COMMANDS = {
    "inspect": ["folder"],
    "compare": ["folder", "other"],
    "attack": ["folder"],
    "landscape": ["folder"],
    "align": ["folder"],
    "tune": ["folder"],
}
UNUSABLE = ["file", "file/a", "link", "link/a", "/proc/nowhere", "null\0byte", "x" * 300]


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file, a broken link and folders of models, none of which can be opened."""

    def stop(name: str, **_: object) -> None:
        raise InvalidInput(f"{name} is opened")

    monkeypatch.setattr("makebreak.models.open_model", stop)
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    Path("link").symlink_to("nowhere")
    for model in ("folder", "other"):
        Path(model).mkdir()
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["--out", "--store"])
def test_folders_are_checked_before_a_model_is_opened(
    command: str, option: str, working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line names the option; a folder that can be written lets the command go on. Nothing is created."""
    before = names(working_folder)
    for folder in UNUSABLE:
        assert main([command, *COMMANDS[command], option, folder]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {option}: ")
        assert "cannot be written" in line
    assert main([command, *COMMANDS[command], option, "new/folder"]) == 2
    assert "folder is opened" in capsys.readouterr().err
    assert names(working_folder) == before


@pytest.mark.parametrize("option", ["--out", "--store", "--portable"])
def test_studies_check_their_folders_first(
    option: str, working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(working_folder)
    for folder in UNUSABLE:
        words = ["jain2024", "--preset", "smoke", "--engine", "single:cpu", option, folder]
        assert experiments.command.main(words) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {option}: ")
        assert "cannot be written" in line
    assert names(working_folder) == before


def folder_of(*models: str) -> Path:
    return SharedOptions().check_folders("inspect", models)


def test_default_folders_are_within_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "safe" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "safe")
    assert (
        folder_of(".") == folder_of("inner/..") == folder_of(f"{tmp_path}/safe/") == Path("runs/inspect/safe")
    )
    for name in (
        "..",
        "../..",
        "/",
        "...",
        "a:b@c",
        "\u202egnp.exe",
        "x" * 500,
        "-",
        "\x1b[31m",
        "~",
        "owner/..",
    ):
        path = folder_of(name)
        assert path.parent == Path("runs/inspect")
        assert path.resolve().parent == tmp_path / "safe" / "runs" / "inspect"
    assert [path.name for path in Path().iterdir()] == ["inner"]


def test_models_of_one_name_have_their_own_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report is replaced by one on the same model only; another one is written beside it, which is said."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/safe", "b/safe"):
        Path(name).mkdir(parents=True)
    first = folder_of("a/safe")
    assert first == folder_of("b/safe") == Path("runs/inspect/safe")
    first.mkdir(parents=True)
    with SharedOptions().write_report(first, "inspect", ["a/safe"]):
        pass
    assert folder_of("a/safe") == folder_of("./a/safe/") == folder_of(str(tmp_path / "a/safe")) == first
    assert capsys.readouterr().out == ""
    second = folder_of("b/safe")
    assert second != first
    assert second.parent == first.parent
    assert f"{first} holds the report on another model of that name" in capsys.readouterr().out
    named = SharedOptions(output=OutputSettings(out=first))
    assert named.check_folders("inspect", ["./a/safe"]) == first
    for command, model in (("inspect", "b/safe"), ("attack", "a/safe")):
        with pytest.raises(InvalidInput, match="holds the results of makebreak inspect on a/safe: remove it"):
            named.check_folders(command, [model])


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["report.html", "claims.json", "tables/mine.csv", "figures/mine.png"])
def test_files_of_the_user_are_refused_before_a_model_is_opened(
    command: str, name: str, working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = working_folder / "out" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    before = names(working_folder)
    assert main([command, *COMMANDS[command], "--out", "out"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --out: out/{name} would be replaced")
    assert names(working_folder) == before
    assert file.read_text() == "mine"
    file.unlink()
    assert main([command, *COMMANDS[command], "--out", "out"]) == 2
    assert "folder is opened" in capsys.readouterr().err


@pytest.mark.parametrize("study", ["jain2024", "speed"])
def test_studies_refuse_files_of_the_user_first(
    study: str, working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = working_folder / "out" / "tables" / "zoo.csv"
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    before = names(working_folder)
    words = [study, "--preset", "smoke", "--engine", "single:cpu", "--out", "out", "--store", "store"]
    assert experiments.command.main(words) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --out: out/tables/zoo.csv would be replaced")
    assert names(working_folder) == before


def test_a_full_disk_names_its_option(tmp_path: Path) -> None:
    """Errors of `write` have no file name."""
    shared = SharedOptions(output=OutputSettings(out=tmp_path / "out", store=tmp_path / "store"))
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    out, store = (
        rf"^{name} .*{name[2:-1]} cannot be used \(No space left" for name in ("--out:", "--store:")
    )
    with pytest.raises(InvalidInput, match=out), shared.write_report(tmp_path / "out", "inspect", ["safe"]):
        raise full
    with pytest.raises(InvalidInput, match=store), shared.name_store():
        raise full


def draw() -> object:
    import matplotlib.pyplot as plt

    return plt.subplots()[1]


def test_files_replace_links_and_folders_are_no_links(tmp_path: Path) -> None:
    """A link in the place of a file is replaced, and what it points to stays as it was."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("figures/a.png", "figures/a.pdf", "tables/t.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(victim)
    write_figures({"a": draw}, {"a": ("title", "caption")}, tmp_path / "figures")
    write_tables({"t": pd.DataFrame([{"x": 1}])}, tmp_path / "tables")
    assert victim.read_text() == "mine"
    assert (tmp_path / "figures" / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "figures" / "a.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "tables" / "t.csv").read_text() == "x\n1\n"
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
    (tmp_path / "link").symlink_to(tmp_path / "tables")
    with pytest.raises(InvalidInput, match="link is a symbolic link"):
        write_figures({"a": draw}, {"a": ("title", "caption")}, tmp_path / "link")
    with pytest.raises(InvalidInput, match="link is a symbolic link"):
        write_tables({"t": pd.DataFrame([{"x": 1}])}, tmp_path / "link")
    assert [path.name for path in (tmp_path / "tables").iterdir()] == ["t.csv"]
