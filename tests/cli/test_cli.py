"""Exit statuses and error messages of the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import experiments.command
from makebreak.cli import main, parse_arguments, run_command
from makebreak.cli.commands import COMMANDS
from makebreak.cli.main import _deferred
from makebreak.configs import check_positive
from makebreak.errors import name_errors
from makebreak.settings import AttackSettings, FineTuneSettings, GenerationSettings, UserDataSettings


def unequal_lengths() -> None:
    """What a fault of this program looks like: a ValueError that no `raise` statement of it wrote."""
    list(zip([1], [1, 2], strict=True))


def shapes() -> None:
    """A ValueError from a library."""
    np.zeros(2) + np.zeros(3)


def kernel() -> None:
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def memory() -> None:
    raise MemoryError


@pytest.mark.parametrize(
    "work", [unequal_lengths, shapes, kernel, memory, lambda: {}["column"], lambda: 1 / 0]
)
def test_a_fault_names_the_debug_option(work: object, capsys: pytest.CaptureFixture[str]) -> None:
    """One line without stack and path, which says how to see the traceback."""
    assert run_command(work) == 2  # type: ignore[arg-type]
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "--debug" in line
    assert "MAKEBREAK_DEBUG=1" in line
    assert "Traceback" not in line
    assert ".py" not in line
    check_traceback_file(line)


def check_traceback_file(line: str) -> None:
    """The line names a file with the traceback."""
    file = Path(line.removesuffix("]").rpartition(" ")[2])
    assert file.read_text().startswith("Traceback")
    file.unlink()


def test_a_library_error_that_is_explained_keeps_its_traceback_in_a_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The line says what failed and what to do; the library's error stands in the file."""

    def work() -> None:
        with name_errors("model/config.json", "cannot be read", "expected JSON"):
            json.loads("{")

    assert run_command(work) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: model/config.json: cannot be read (JSONDecodeError: Expecting ")
    assert "; expected JSON [traceback: " in line
    check_traceback_file(line)


def test_bad_input_is_only_named(capsys: pytest.CaptureFixture[str]) -> None:
    """An error that this project raises, or the system raises about a file, needs no traceback."""
    for work in (lambda: check_positive(steps=0), lambda: open("/nowhere/at/all").close()):
        assert run_command(work) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert "--debug" not in line


def test_debug_shows_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By option or by environment variable, for both programs; the last line and the status stay."""
    commands = (
        (main, ["inspect", "/nowhere"]),
        (main, ["attack", "/nowhere", "--steps", "x"]),
        (experiments.command.main, ["nostudy"]),
    )
    for program, arguments in commands:
        assert program(arguments) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert program([*arguments, "--debug"]) == 2
        by_option = capsys.readouterr().err.splitlines()
        monkeypatch.setenv("MAKEBREAK_DEBUG", "1")
        assert program(arguments) == 2
        monkeypatch.setenv("MAKEBREAK_DEBUG", "0")
        by_variable = capsys.readouterr().err.splitlines()
        for lines in (by_option, by_variable):
            assert lines[0].startswith("Traceback")
            assert lines[-1] == line


def test_interruption_has_its_own_status(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    assert run_command(interrupt) == 130
    [line] = capsys.readouterr().err.splitlines()
    assert "interrupted" in line


def options(*arguments: str) -> dict:
    """Arguments that a command would be called with."""
    commands = {name: _deferred(command) for name, command in COMMANDS.items()}
    return parse_arguments(commands, arguments, "makebreak").keywords


def test_options_are_the_settings_of_the_jobs() -> None:
    """An option sets its field, and what is not given has the default of the settings."""
    words = "--steps 3 --universal --seed 4 --template none --max-new-tokens 6 --jailbreak-templates"
    attack = options("attack", "folder", *words.split())
    assert attack["attacks"] == AttackSettings(steps=3, universal=True, jailbreak_templates=())
    assert attack["shared"].generation == GenerationSettings(6, template=None)
    assert (attack["model"], attack["seed"]) == ("folder", 4)
    tune = options("tune", "folder", "--examples", "9", "--task", "mcq@obey", "--seed", "2")
    assert tune["data"] == UserDataSettings("mcq@obey", n_examples=9)
    assert tune["training"] == FineTuneSettings(seed=2)
    assert tune["shared"].generation == GenerationSettings(24)
    assert options("inspect", "folder")["shared"].generation == GenerationSettings()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("attack", "folder", "--candidates", "0"), "^candidates = 0: expected a finite number above 0$"),
        (("tune", "folder", "--safety-share", "1.5"), "^safety_share = 1.5"),
        (("landscape", "folder", "--points", "4"), "^points = 4"),
        (("align", "folder", "--steps", "x"), "invalid"),
        (("inspect", "folder", "--dtype", "float8"), "float8"),
        (("inspect", "folder", "--device", "gpu"), "gpu"),
        (("inspect", "folder", "--seed", "1"), "--seed"),
    ],
)
def test_settings_check_their_options(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options(*arguments)
