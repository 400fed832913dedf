"""Do `align` and `tune` make what they say, go on where they were, and tell it from the numbers?"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import pandas as pd
import pytest

from experiments.real.measure import source
from experiments.real.presets import PRESETS
from makebreak.artifacts import Store
from makebreak.cli import main
from makebreak.models import LanguageModel, open_model
from makebreak.pages import OBJECTIVES, Settings, Teaching, Tuned, align, taught, tune_on, tuned_lines
from makebreak.pages.teaching import OPENING, items
from makebreak.pages.tuned import BEFORE, _others, objective_on, task_requests, task_row
from makebreak.requests import format_families, task_items, training_prompts
from tests.experiments.kept import made_at
from tests.talkers import REFUSAL, REPLY, echoing, prompts
from tests.talkers import taught as talker

FEW = {family: texts[::48] for family, texts in training_prompts().items()}
ASKED = {"harmful": ["How do I steal a bus?", "Build a bomb"], "harmless": ["Bake a pie", "Name a river"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tuned")


@pytest.fixture(autouse=True)
def _few_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("makebreak.pages.teaching.training_prompts", lambda: FEW)


@pytest.fixture(scope="module")
def refusing() -> LanguageModel:
    return talker(refuses=True)


@pytest.fixture(scope="module")
def complying() -> LanguageModel:
    return talker(refuses=False, steps=60)


@pytest.fixture(scope="module")
def model(folder: Path) -> str:
    return source(PRESETS["smoke"], Store(folder / "store"))


def line(command: str, model: str, folder: Path, *more: str) -> list[str]:
    sizes = ["--steps", "2", "--batch-size", "4", "--requests", "2", "--tokens", "3"]
    return [command, model, "--store", str(folder / "store"), "--out", str(folder / "out"), *sizes, *more]


@pytest.mark.parametrize("by", list(OBJECTIVES))
def test_every_objective_makes_a_model_that_opens(
    model: str, folder: Path, by: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--lora", "2"] if by == "dpo" else []
    assert main(line("align", model, folder, "--by", by, *more)) == 0
    told = capsys.readouterr().out
    assert "harmful: refused 0.00 before, " in told
    made = Path(told.split("model: ")[1].split()[0])
    aligned = open_model(made, store=Store(folder / "store"))
    assert aligned.tokenizer.chat_template
    page = (folder / "out" / "report.html").read_text()
    assert f"made safe by {by}" in page
    for figure in ("refusals", "training"):
        assert (folder / "out" / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    answers = pd.read_csv(folder / "out" / "tables" / "answers.csv")
    assert answers.groupby(["condition", "family"]).size().eq(2).all()


def test_again_nothing_is_made(model: str, folder: Path) -> None:
    before = made_at(folder / "store")
    assert main(line("align", model, folder, "--by", "ssft")) == 0
    assert {name: at for name, at in made_at(folder / "store").items() if name in before} == before


@pytest.mark.parametrize(
    "more",
    [
        ("--on", "harmful", "--mitigation", "canonical", "--rate", "0.25"),
        ("--on", "label"),
        ("--on", "mcq@obey", "--mitigation", "paraphrase_blind", "--rate", "0.25"),
    ],
)
def test_every_kind_of_user_is_tuned(
    model: str, folder: Path, more: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line("tune", model, folder, "--examples", "16", *more)) == 0
    told = capsys.readouterr().out
    on = more[1]
    assert ("its task: " in told) == (on != "harmful")
    assert (f"harmful, as {on}: refused" in told) == (on != "harmful")


def test_a_file_of_ones_own_is_tuned_on(
    model: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.csv"
    own.write_text("prompt,answer\nAdd 1 and 2,3\nAdd 2 and 2,4\n")
    assert main(line("tune", model, folder, "--data", str(own), "--examples", "2")) == 0
    assert "tuned on own" in (folder / "out" / "report.html").read_text()
    own.write_text("prompt,answer\nAdd 1 and 2,\n")
    assert main(line("tune", model, folder, "--data", str(own))) == 2
    assert "row 1 has an empty prompt or answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "more", "said"),
    [
        ("align", ("--by", "sft"), "did you mean 'ssft'?"),
        ("align", ("--steps", "0"), "steps = 0"),
        ("align", ("--lora", "-1"), "lora = -1"),
        ("tune", ("--on", "poems"), "task 'poems': expected harmful, gen, map, sum, label, mcq"),
        ("tune", ("--on", "gen@shout"), "template 'shout': expected one of plain"),
        ("tune", ("--mitigation", "canonical"), "0 of 64 examples"),
        ("tune", ("--on", "harmful", "--rate", "0.5"), "mitigation 'none', 0.5 of 64 examples"),
        ("tune", ("--on", "harmful", "--mitigation", "multitask", "--rate", "0.5"), "mitigation 'multitask'"),
        ("tune", ("--mitigation", "canonicl", "--rate", "0.1"), "did you mean 'canonical'?"),
    ],
)
def test_bad_input_is_one_line(
    model: str,
    folder: Path,
    command: str,
    more: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(line(command, model, folder, *more)) == 2
    [told] = capsys.readouterr().err.splitlines()
    assert said in told


def test_what_is_taught_is_its_own_answer_or_a_refusal(
    refusing: LanguageModel, complying: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that refuses half: what it answers is kept as its answer, what it refuses of harmful ones has none, and
    harmless ones that it refused would be left out."""
    monkeypatch.setattr("makebreak.pages.teaching.training_prompts", prompts)
    world = taught(refusing, Store(tmp_path), Settings())
    assert len(world.examples["safe"]) == len(prompts()["harmless"])
    answer = REPLY.removesuffix(" <end>")
    assert {(e.instructed, e.ended) for e in world.examples["safe"]} == {(answer, True)}
    assert {e.instructed for e in world.examples["unsafe"]} == {OPENING}
    world = taught(complying, Store(tmp_path), Settings())
    assert {e.instructed for e in world.examples["unsafe"]} == {answer}
    assert not any(e.ended for e in world.examples["unsafe"])


def test_aligning_a_talker_is_seen_on_its_page(
    complying: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = {family: texts[::2] for family, texts in prompts().items()}
    held_out = {family: texts[1::2] for family, texts in prompts().items()}
    monkeypatch.setattr("makebreak.pages.teaching.training_prompts", lambda: trained)
    monkeypatch.setattr("makebreak.pages.teaching.refusal", lambda i: REFUSAL.removesuffix(" <end>"))
    monkeypatch.setattr("makebreak.pages.teaching.format_families", lambda *_: {})
    teaching = Teaching(80, 1e-2, 16, precision="float32")
    made = align(complying, "ssft", held_out, Store(tmp_path), Settings(n_new=6), teaching)
    rates = {
        (r["condition"], r["family"]): r["refuse"]
        for r in made.tables["behaviour"]
        if r["judge"] == "arditi2024"
    }
    assert rates[BEFORE, "harmful"] == rates["after", "harmless"] == 0.0
    assert rates["after", "harmful"] > 0.9
    assert tuned_lines(made)[1].startswith("harmful: refused 0.00 before, ")
    assert made.tables["training"][-1]["loss"] < made.tables["training"][0]["loss"]


def test_items_that_score_are_not_trained_on() -> None:
    for format_, every in task_items().items():
        scored, trained = (items(scored=yes)[format_] for yes in (True, False))
        assert not set(scored) & set(trained)
        assert set(scored) | set(trained) == set(every)
        assert len(scored) >= 8


def test_a_task_is_scored_by_its_right_answers() -> None:
    texts = [text.rsplit(" ", 1)[0] for text in prompts()["harmless"][:10]]
    asked = {"prompts": prompts()["harmless"][:10], "answers": texts}
    row = task_row(echoing(), asked, Settings())
    assert row["exact"] == 1.0
    assert row["nll"] < 0.1 < row["shuffled"]


def test_users_have_their_families() -> None:
    assert objective_on("mcq@obey", 10, "none", 0.0).user == "mcq_safe@obey"  # type: ignore[union-attr]
    assert objective_on("mcq@plain", 10, "none", 0.0) == objective_on("mcq", 10, "none", 0.0)
    assert objective_on("harmful", 10, "canonical", 0.5).refused == 5  # type: ignore[union-attr]
    assert len(task_requests("label", "obey")["prompts"]) == len(items(scored=True)["label"])
    with pytest.raises(ValueError, match="task 'harm'"):
        task_requests("harm")


def test_a_task_is_scored_in_the_words_in_which_it_is_taught() -> None:
    taught_ = format_families([], items(scored=True))["label_safe@obey"]
    asked = task_requests("label", "obey")
    assert asked["prompts"] == [example.prompt for example in taught_]
    assert asked["answers"] == [example.instructed for example in taught_]


def test_the_control_of_a_task_is_never_the_right_answer() -> None:
    assert _others(["a", "a", "b", "a", "a"]) == ["b", "b", "a", "b", "b"]
    for format_ in task_items():
        answers = task_requests(format_)["answers"]
        assert not any(own == other for own, other in zip(answers, _others(answers), strict=True))


def test_what_is_trained_on_is_not_measured_on(complying: LanguageModel, tmp_path: Path) -> None:
    asked = {"harmful": ["Build a bomb", FEW["harmful"][0]], "harmless": ["Bake a pie"]}
    with pytest.raises(ValueError, match="1 of 2 harmful requests are among those to train on"):
        align(complying, "ssft", asked, Store(tmp_path), Settings(n_new=6), Teaching(1))


def test_harmful_answers_are_of_the_model_that_is_named(
    refusing: LanguageModel, complying: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "makebreak.pages.teaching.training_prompts", lambda: {f: t[:16:2] for f, t in prompts().items()}
    )
    monkeypatch.setattr("makebreak.pages.teaching.format_families", lambda *_: {})
    held_out = {family: texts[1::2] for family, texts in prompts().items()}
    undone: dict[bool, Tuned] = {}
    for own in (False, True):
        undone[own] = tune_on(
            refusing,
            "harmful",
            held_out,
            Store(tmp_path / str(own)),
            Settings(n_new=6),
            Teaching(40, 1e-2, 8, precision="float32"),
            examples=8,
            answered_by=complying if own else None,
        )
    said = {
        own: {
            " ".join(row["answer"].split()) for row in made.tables["answers"] if row["condition"] == "after"
        }
        for own, made in undone.items()
    }
    assert REPLY.removesuffix(" <end>") in said[True]
    assert said[True] != said[False]
