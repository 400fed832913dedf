"""Aligning and fine-tuning a language model: training sets, objectives, evaluation and pages."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import pandas as pd
import pytest

from experiments.pretrained import model_source
from experiments.real.presets import PRESETS
from makebreak.cli import main
from makebreak.lm import (
    Evaluation,
    FineTuneResult,
    UserData,
    align,
    build_training_set,
    tune_as_user,
)
from makebreak.lm.fine_tuning import AFTER, BEFORE
from makebreak.lm.tasks import (
    _mismatched_answers,
    held_out_task,
    split_task_items,
    task_row,
    user_objective,
)
from makebreak.lm.training_set import DEFAULT_ANSWER
from makebreak.models import LanguageModel, open_model
from makebreak.plugins import source_digest
from makebreak.prompts import format_families, task_items, training_prompts
from makebreak.report import fine_tuning_summary
from makebreak.settings import FineTuneSettings, GenerationSettings, UserDataSettings
from makebreak.store import Store, record
from makebreak.training import OBJECTIVES
from tests.experiments.store_files import modification_times
from tests.fixtures.tiny_lm import REFUSAL, REPLY, echo_lm, prompts, trained_lm

pytestmark = pytest.mark.slow  # fine-tunes language models

COMPLIANCE, REFUSED = REPLY.removesuffix(" <end>"), REFUSAL.removesuffix(" <end>")
TRAINED_ON = {family: texts[::48] for family, texts in training_prompts().items()}
SETTINGS = GenerationSettings(n_new=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fine_tuned")


@pytest.fixture(autouse=True)
def _fewer_training_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("makebreak.lm.training_set.training_prompts", lambda: TRAINED_ON)


@pytest.fixture(scope="module")
def refusing() -> LanguageModel:
    return trained_lm(refuses=True)


@pytest.fixture(scope="module")
def complying() -> LanguageModel:
    return trained_lm(refuses=False, steps=60)


@pytest.fixture(scope="module")
def model(folder: Path) -> str:
    return model_source(PRESETS["smoke"].model, Store(folder / "store"))


def command_line(command: str, model: str, folder: Path, *options: str) -> list[str]:
    sizes = ["--steps", "2", "--batch-size", "4", "--requests", "2", "--max-new-tokens", "3"]
    folders = ["--store", str(folder / "store"), "--out", str(folder / command)]
    return [command, model, *folders, *sizes, *options]


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_every_objective_gives_a_loadable_model(
    model: str, folder: Path, objective: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--lora-rank", "2"] if objective == "dpo" else []
    assert main(command_line("align", model, folder, "--objective", objective, *options)) == 0
    output = capsys.readouterr().out
    assert "harmful: refused 0.00 before, " in output
    aligned = open_model(Path(output.split("model: ")[1].split()[0]), store=Store(folder / "store"))
    assert aligned.tokenizer.chat_template
    page = (folder / "align" / "report.html").read_text()
    assert f"aligned by {objective}" in page
    for figure in ("refusals", "training"):
        assert (folder / "align" / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    answers = pd.read_csv(folder / "align" / "tables" / "answers.csv")
    assert answers.groupby(["condition", "family"]).size().eq(2).all()


def test_objective_of_a_user(
    model: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """MODULE:CLASS is aligned with, and a digest of its file is part of the key."""
    (tmp_path / "imitation.py").write_text(
        "from makebreak.training import SSFT\n\n\nclass Imitation(SSFT):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(command_line("align", model, folder, "--objective", "imitation:Imitation")) == 0
    output = capsys.readouterr().out
    config = record(Path(output.split("model: ")[1].split()[0]))["config"]
    assert config["objective"]["type"] == "imitation:Imitation"
    assert config["imitation:Imitation is"] == source_digest(sys.modules["imitation"].Imitation)
    assert main(command_line("align", model, folder, "--objective", "imitation:Initiation")) == 2
    assert "module 'imitation' has no 'Initiation'; did you mean 'Imitation'?" in capsys.readouterr().err


def test_a_second_run_computes_nothing(model: str, folder: Path) -> None:
    before = modification_times(folder / "store")
    assert main(command_line("align", model, folder, "--objective", "ssft")) == 0
    after = modification_times(folder / "store")
    assert {name: time for name, time in after.items() if name in before} == before


@pytest.mark.parametrize(
    "options",
    [
        ("--task", "harmful", "--mitigation", "canonical", "--safety-share", "0.25"),
        ("--task", "label"),
        ("--task", "mcq@obey", "--mitigation", "paraphrase_blind", "--safety-share", "0.25"),
    ],
)
def test_every_kind_of_user(
    model: str, folder: Path, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """A fine-tuning attack has no task; harmless ones are scored, and harmful requests take their format."""
    assert main(command_line("tune", model, folder, "--examples", "16", *options)) == 0
    output = capsys.readouterr().out
    task = options[1]
    assert ("task: " in output) == (task != "harmful")
    assert (f"harmful, as {task}: refused" in output) == (task != "harmful")


def test_a_file_of_examples(
    model: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.csv"
    file.write_text("prompt,answer\nAdd 1 and 2,3\nAdd 2 and 2,4\n")
    assert main(command_line("tune", model, folder, "--data", str(file), "--examples", "2")) == 0
    assert "fine-tuned on own" in (folder / "tune" / "report.html").read_text()
    file.write_text("prompt,answer\nAdd 1 and 2,\n")
    assert main(command_line("tune", model, folder, "--data", str(file))) == 2
    assert "row 1 has an empty prompt or answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("align", ("--objective", "sft"), "did you mean 'ssft'?"),
        ("align", ("--steps", "0"), "steps = 0"),
        ("align", ("--lora-rank", "-1"), "lora_rank = -1"),
        ("tune", ("--task", "poems"), "task 'poems': expected harmful, gen, map, sum, label, mcq"),
        ("tune", ("--task", "gen@shout"), "template 'shout': expected one of plain"),
        ("tune", ("--mitigation", "canonical"), "0 of 64 examples"),
        ("tune", ("--task", "harmful", "--safety-share", "0.5"), "mitigation 'none', 0.5 of 64 examples"),
        (
            "tune",
            ("--task", "harmful", "--mitigation", "multitask", "--safety-share", "0.5"),
            "mitigation 'multitask'",
        ),
        ("tune", ("--mitigation", "canonicl", "--safety-share", "0.1"), "did you mean 'canonical'?"),
    ],
)
def test_bad_input_is_one_line(
    model: str,
    folder: Path,
    command: str,
    options: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command_line(command, model, folder, *options)) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


def test_training_answers_are_the_models_own(
    refusing: LanguageModel, complying: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Complete answers to safe requests are kept; refused unsafe requests get the default answer."""
    monkeypatch.setattr("makebreak.lm.training_set.training_prompts", prompts)
    world = build_training_set(refusing, Store(tmp_path), GenerationSettings())
    assert len(world.examples["safe"]) == len(prompts()["harmless"])
    assert {(e.instructed, e.complete) for e in world.examples["safe"]} == {(COMPLIANCE, True)}
    assert {e.instructed for e in world.examples["unsafe"]} == {DEFAULT_ANSWER}
    world = build_training_set(complying, Store(tmp_path), GenerationSettings())
    assert {e.instructed for e in world.examples["unsafe"]} == {COMPLIANCE}
    assert not any(e.complete for e in world.examples["unsafe"])


def test_the_page_shows_that_alignment_worked(
    complying: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = {family: texts[::2] for family, texts in prompts().items()}
    held_out = {family: texts[1::2] for family, texts in prompts().items()}
    monkeypatch.setattr("makebreak.lm.training_set.training_prompts", lambda: trained)
    monkeypatch.setattr("makebreak.lm.training_set.refusal_text", lambda i: REFUSED)
    monkeypatch.setattr("makebreak.lm.training_set.format_families", lambda *_: {})
    training = FineTuneSettings(80, 1e-2, 16, precision="float32")
    result = align(complying, "ssft", Evaluation(held_out, SETTINGS), Store(tmp_path), training)
    rates = {
        (row["condition"], row["family"]): row["refuse"]
        for row in result.tables["behaviour"]
        if row["judge"] == "arditi2024"
    }
    assert rates[BEFORE, "harmful"] == rates[AFTER, "harmless"] == 0.0
    assert rates[AFTER, "harmful"] > 0.9
    assert fine_tuning_summary(result)[1].startswith("harmful: refused 0.00 before, ")
    assert result.tables["training"][-1]["loss"] < result.tables["training"][0]["loss"]


def test_held_out_items_are_not_trained_on() -> None:
    for format_, items in task_items().items():
        held_out = split_task_items(held_out=True)[format_]
        trained = split_task_items(held_out=False)[format_]
        assert not set(held_out) & set(trained)
        assert set(held_out) | set(trained) == set(items)
        assert len(held_out) >= 8


def test_task_score_of_a_model_that_solves_it() -> None:
    texts = prompts()["harmless"][:10]
    items = [(text, text.rsplit(" ", 1)[0]) for text in texts]
    row = task_row(echo_lm(), items, GenerationSettings())
    assert row.exact_match == 1.0
    assert row.nll < 0.1 < row.shuffled_nll


def test_objectives_of_users() -> None:
    obedient = user_objective(UserDataSettings("mcq@obey"))
    assert obedient.user_family == "mcq_safe@obey"  # type: ignore[union-attr]
    assert user_objective(UserDataSettings("mcq@plain")) == user_objective(UserDataSettings("mcq"))
    harmful = UserDataSettings("harmful", mitigation="canonical", safety_share=0.5, n_examples=10)
    assert user_objective(harmful).n_refused == 5  # type: ignore[union-attr]
    n_items = len(split_task_items(held_out=True)["label"])
    assert len(held_out_task("label@obey")) == n_items
    with pytest.raises(ValueError, match="task 'harm'"):
        held_out_task("harm")


def test_tasks_are_scored_in_their_training_format() -> None:
    examples = format_families([], split_task_items(held_out=True))["label_safe@obey"]
    assert held_out_task("label@obey") == [(example.prompt, example.instructed) for example in examples]


def test_mismatched_answers_are_never_correct() -> None:
    assert _mismatched_answers(["a", "a", "b", "a", "a"]) == ["b", "b", "a", "b", "b"]
    for format_ in task_items():
        answers = [answer for _, answer in held_out_task(format_)]
        pairs = zip(answers, _mismatched_answers(answers), strict=True)
        assert not any(answer == mismatched for answer, mismatched in pairs)


def test_training_prompts_cannot_be_evaluated(complying: LanguageModel, tmp_path: Path) -> None:
    overlapping = {"harmful": ["Build a bomb", TRAINED_ON["harmful"][0]], "harmless": ["Bake a pie"]}
    with pytest.raises(ValueError, match="1 of 2 harmful requests are among those to train on"):
        align(complying, "ssft", Evaluation(overlapping, SETTINGS), Store(tmp_path), FineTuneSettings(1))


def test_harmful_answers_come_from_the_named_model(
    refusing: LanguageModel, complying: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "makebreak.lm.training_set.training_prompts",
        lambda: {family: texts[:16:2] for family, texts in prompts().items()},
    )
    monkeypatch.setattr("makebreak.lm.training_set.format_families", lambda *_: {})
    held_out = {family: texts[1::2] for family, texts in prompts().items()}
    answers: dict[bool, set[str]] = {}
    for is_named in (False, True):
        data = UserData(
            UserDataSettings("harmful", n_examples=8), answers_from=complying if is_named else None
        )
        training = FineTuneSettings(40, 1e-2, 8, precision="float32")
        evaluation, store = Evaluation(held_out, SETTINGS), Store(tmp_path / str(is_named))
        result: FineTuneResult = tune_as_user(refusing, data, evaluation, store, training)
        rows = [row for row in result.tables["answers"] if row["condition"] == AFTER]
        answers[is_named] = {" ".join(row["answer"].split()) for row in rows}
    assert COMPLIANCE in answers[True]
    assert answers[True] != answers[False]
