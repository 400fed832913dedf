"""Exit statuses and error messages of the command line."""

from __future__ import annotations

import io
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import experiments.command
from makebreak.cli import main, parse_arguments, run_command
from makebreak.cli.commands import COMMANDS, log
from makebreak.cli.main import _deferred
from makebreak.cli.options import AnswerOptions, Report, with_judge
from makebreak.configs import check_positive
from makebreak.errors import name_errors
from makebreak.evaluation import deciding_judge
from makebreak.lm import check_weights_differ
from makebreak.models import LanguageModel, ModelConfig, create_model
from makebreak.settings import AttackSettings, FineTuneSettings, GenerationSettings, UserDataSettings
from tests.fixtures.tiny_lm import save_lm, tokenizer


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


@pytest.mark.parametrize(
    "work",
    [memory, lambda: np.empty(10**17), lambda: torch.empty(10**17)],
)
def test_a_lack_of_memory_names_the_sizes(work: object, capsys: pytest.CaptureFixture[str]) -> None:
    """Errors of Python, NumPy and PyTorch are of three kinds; other errors do not name them (control)."""
    assert run_command(work, sizes="--batch-size") == 2  # type: ignore[arg-type]
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the memory is too small (")
    assert "): choose smaller --batch-size [" in line
    check_traceback_file(line)
    assert run_command(kernel, sizes="--batch-size") == 2
    assert "--batch-size" not in capsys.readouterr().err


def test_an_option_without_effect_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`compare` generates no answers; the control gives no such option."""
    monkeypatch.chdir(tmp_path)
    for model in ("folder", "other"):
        (tmp_path / model).mkdir()
    for words, n_lines in ((["--max-new-tokens", "9"], 1), ([], 0)):
        assert main(["compare", "folder", "other", *words]) == 2
        assert capsys.readouterr().out.count("--max-new-tokens 9 has no effect") == n_lines


def test_interruption_has_its_own_status(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    assert run_command(interrupt) == 130
    [line] = capsys.readouterr().err.splitlines()
    assert "interrupted" in line


def options_call(*arguments: str) -> partial:
    """The call of a command with its arguments."""
    commands = {name: _deferred(command) for name, command in COMMANDS.items()}
    return parse_arguments(commands, arguments, "makebreak")


def options(*arguments: str) -> dict:
    """Arguments that a command would be called with."""
    return options_call(*arguments).keywords


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


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "folder", "--column", "goal"),
        ("inspect", "folder", "--max-new-tokens", "0"),
        ("inspect", "folder", "--max-new-tokens", "99999999999"),
        ("inspect", "folder", "--template", "Q: A:"),
        ("inspect", "folder", "--template", "{} {}"),
        ("inspect", "folder", "--template", "\udcff {}"),
        ("inspect", "folder", "--system", "\udcff"),
        ("inspect", "folder", "--system", "help", "--template", "none"),
        ("inspect", "folder", "--system", "help", "--template", "Q: {}"),
        ("inspect", "folder", "--device-map", "meta"),
        ("inspect", "folder", "--device-map", "disk"),
        ("inspect", "folder", "--device-map", "auto", "--device", "cpu"),
        ("attack", "folder", "--seed", str(2**64)),
        ("attack", "folder", "--seed", "-1"),
        ("attack", "folder", "--target", "\udcff"),
        ("attack", "folder", "--soft-radius", "1e300"),
        ("attack", "folder", "--soft-radius", "nan"),
        ("attack", "folder", "--candidates", "1000000001"),
        ("attack", "folder", "--method"),
        ("inspect", ""),
        ("inspect", "folder", "--out", ""),
        ("attack", "folder", "--method", "gcg", "--soft-tokens", "3"),
        ("attack", "folder", "--method", "prefill", "soft_prompt", "--attack-tokens", "3"),
        ("attack", "folder", "--method", "gcg", "--jailbreak-templates", "base64"),
        ("attack", "folder", "--method", "gcg", "soft_prompt", "--prefill", "2"),
        ("landscape", "folder", "--window", "1e300"),
        ("landscape", "folder", "--window", "inf"),
        ("landscape", "folder", "--points", "1000000000001"),
        ("landscape", "folder", "--directions", "1000000000000"),
        ("landscape", "folder", "--requests", "1000000000000"),
        ("landscape", "folder", "--requests", "0"),
        ("landscape", "folder", "--interpolate-to", "folder"),
        ("align", "folder", "--seed", str(2**32)),
        ("align", "folder", "--steps", "9" * 30),
        ("align", "folder", "--learning-rate", "1e300"),
        ("align", "folder", "--batch-size", "100000000"),
        ("align", "folder", "--lora-rank", "100000000"),
        ("align", "folder", "--lora-rank", "-1"),
        ("align", "folder", "--requests", "1000000000000"),
        ("tune", "folder", "--requests", "-3"),
        ("tune", "folder", "--examples", "1000000000"),
        ("tune", "folder", "--task", "mcq@"),
        ("tune", "folder", "--task", "bogus"),
        ("tune", "folder", "--task", "mcq@bogus"),
        ("tune", "folder", "--mitigation", "canonical"),
        ("tune", "folder", "--safety-share", "0.5"),
        ("tune", "folder", "--safety-share", "0.5", "--mitigation", "os:system"),
        ("tune", "folder", "--safety-share", "0.5", "--mitigation", "os:path"),
        ("tune", "folder", "--safety-share", "0.5", "--mitigation", "os:walk_nowhere"),
        ("tune", "folder", "--safety-share", "0.5", "--mitigation", "json:load_nowhere"),
        ("tune", "folder", "--safety-share", "0.5", "--mitigation", "textwrap:dedent"),
        ("tune", "folder", "--safety-share", "0.5", "--mitigation", "textwrap:__doc__"),
        ("tune", "folder", "--task", "mcq", "--answers-from", "other"),
        ("compare", "folder", "folder"),
        ("compare", "{tmp}/model", "{tmp}/../{name}/model"),
    ],
)
def test_bad_options_end_in_one_line_before_a_model_is_opened(
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The line names the value or its option; nothing is written."""
    opened: list[str] = []
    monkeypatch.setattr("makebreak.models.open_model", lambda name, **_: opened.append(name))
    monkeypatch.chdir(tmp_path)
    models = ["folder", "model", "other"]
    for model in models:
        (tmp_path / model).mkdir()
    words = [word.format(tmp=tmp_path, name=tmp_path.name) if "tmp" in word else word for word in arguments]
    assert main(words) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "--debug" not in line
    assert len(line) < 400
    option = words[-2].removeprefix("--").replace("-", "_")
    assert any(name in line for name in (option, words[-2], ascii(words[-1])[1:-1]))
    assert not opened
    assert sorted(path.name for path in tmp_path.iterdir()) == models


@pytest.mark.parametrize(
    "arguments",
    [
        ("attack", "folder", "--method", "gcg", "--attack-tokens", "3", "--steps", "2", "--candidates", "4"),
        ("attack", "folder", "--soft-tokens", "3", "--prefill", "2", "--seed", str(2**32 - 1)),
        ("tune", "folder", "--task", "harmful", "--answers-from", "other"),
        ("tune", "folder", "--mitigation", "canonical", "--safety-share", "0.5"),
        ("inspect", "folder", "--template", "Q: {} A:"),
        ("inspect", "folder", "--device-map", "auto"),
        ("compare", "folder", "other"),
    ],
)
def test_good_options_reach_the_model(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Controls: the same options where they are used."""

    def stop(*_: object, **__: object) -> None:
        raise ValueError("opened")

    monkeypatch.setattr("makebreak.models.open_model", stop)
    command = options_call(*arguments)
    with pytest.raises(ValueError, match="opened"):
        command()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_output_works_in_every_encoding(encoding: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, name, stream)

    def work() -> None:
        log("τ = 0.5 ‖ é \U0001f642 \udcff \x1b[31m \u202e")
        raise ValueError("τ ‖ é \U0001f642 \udcff \x1b[31m \u202e")

    assert run_command(work) == 2
    stream.flush()
    [line] = stream.buffer.getvalue().decode(encoding).splitlines()  # type: ignore[attr-defined]
    assert r"\udcff \x1b[31m \u202e" in line
    assert ("τ" in line) == (encoding == "utf-8")
    assert r"\u03c4" in line or encoding == "utf-8"


def test_a_model_is_not_compared_with_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy under another name has the same weights; a control with one other weight passes this check."""
    size = ModelConfig("llama", n_layers=1, n_heads=2, d_model=16, d_mlp=32)
    models = [create_model(size, d_vocab=len(tokenizer()), n_ctx=24, seed=0) for _ in range(2)]
    folders = [str(save_lm(model, tmp_path / f"m{i}")) for i, model in enumerate(models)]
    assert main(["compare", *folders, "--store", str(tmp_path / "store")]) == 2
    assert "have the same weights" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
    with torch.no_grad():
        next(models[1].parameters())[0, 0] += 1
    check_weights_differ(*(LanguageModel("m", model, tokenizer()) for model in models))


@pytest.mark.parametrize("command", ["inspect", "attack", "align", "tune"])
def test_an_unknown_judge_is_refused_first(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the model is opened: its folder is empty."""
    assert main([command, str(tmp_path), "--judge", "arditi"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: judge 'arditi' does not exist; did you mean 'arditi2024'?"
    )


def test_the_judge_of_the_options_decides() -> None:
    names: list[str] = []

    @with_judge
    def command(shared: AnswerOptions) -> Report:
        names.append(deciding_judge())
        return [], Path()

    command(AnswerOptions())
    command(shared=AnswerOptions(judge="classifier"))
    command(AnswerOptions(judge="tests.evaluation.test_judges:never_refused"))
    assert names == ["arditi2024", "classifier", "tests.evaluation.test_judges:never_refused"]
