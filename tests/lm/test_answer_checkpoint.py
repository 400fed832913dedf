"""An interrupted generation goes on after its last finished batch, and ends in the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from makebreak import lm
from makebreak.evaluation import ANSWERS_FILE, decisions, generation
from makebreak.models import LanguageModel
from makebreak.settings import AttackSettings, GenerationSettings
from makebreak.store import Store
from makebreak.tables import Rows
from tests.fixtures.tiny_lm import prompts, trained_lm

SETTINGS = GenerationSettings(n_new=6)
BATCH = 5
"""Requests per batch of the tests."""


class Kill(BaseException):
    """Ends the process as far as a step can see."""


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "MAX_BATCH_SIZE", BATCH)


@contextmanager
def kill_after(model: LanguageModel, n: int) -> Iterator[list[int]]:
    """Kills the generation of batch n + 1; yields the sizes of the batches that are generated."""
    sizes: list[int] = []
    generate = type(model.model).generate

    def counted(self: object, *arguments: object, **options: object) -> object:
        if options["max_new_tokens"] == SETTINGS.n_new or options["max_new_tokens"] == 10:
            if len(sizes) == n:
                raise Kill
            sizes.append(len(options["input_ids"]))  # type: ignore[arg-type]
        return generate(self, *arguments, **options)  # type: ignore[misc, arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.model), "generate", counted)
        yield sizes


def files(store: Store, stage: str) -> dict[str, bytes]:
    return {
        path.relative_to(store.root).as_posix(): path.read_bytes()
        for path in sorted(store.root.glob(f"{stage}*/*/rows.json"))
    }


def run_answers(model: LanguageModel, store: Store) -> Rows:
    families = {family: texts[:16] for family, texts in prompts().items()}
    return lm.judged_answer_rows(model, families, store, SETTINGS)


def run_inspection(model: LanguageModel, store: Store) -> object:
    families = {family: texts[:40] for family, texts in prompts().items()}
    return lm.inspect(model, families, store, SETTINGS).tables


def run_training_set(model: LanguageModel, store: Store) -> object:
    return lm.build_training_set(model, store, SETTINGS, max_per_family=12).examples


def run_attacks(model: LanguageModel, store: Store) -> object:
    data = lm.AttackData(prompts()["harmful"][:16], ["Sure here"] * 16)
    settings = AttackSettings(methods=("jailbreak_templates", "prefill"), prefill=1)
    return lm.attack_model(model, data, store, SETTINGS, settings).tables


@pytest.mark.parametrize("run", [run_answers, run_inspection, run_training_set, run_attacks])
def test_two_kills_cost_no_finished_batch(
    tmp_path: Path, run: Callable[[LanguageModel, Store], object], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of every step with answers; the unfinished batches alone are generated again."""
    model = trained_lm(refuses=True)
    with kill_after(model, -1) as whole:
        expected = run(model, Store(tmp_path / "whole"))
    n = len(whole)
    store = Store(tmp_path / "killed")
    batches: list[int] = []
    n_files = 0
    for stop in (n // 3, 1):
        with kill_after(model, stop) as sizes, pytest.raises(Kill):
            run(model, store)
        batches += sizes
        n_files += len(list(store.root.rglob(ANSWERS_FILE)))
    assert n_files  # a kill was in the middle of a step
    with kill_after(model, -1) as sizes:
        assert run(model, store) == expected
    assert batches + sizes == whole
    assert files(store, "*") == files(Store(tmp_path / "whole"), "*")
    assert not list(store.root.rglob(ANSWERS_FILE))
    assert capsys.readouterr().err == ""


def test_a_kill_while_answers_are_scored_costs_no_answer(tmp_path: Path) -> None:
    """The losses of the targets come after the answers, which are kept until then."""

    def kill(*_: object) -> None:
        raise Kill

    model, store = trained_lm(refuses=True), Store(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("makebreak.lm.attacked_answers.target_nll", kill)
        with kill_after(model, -1) as sizes, pytest.raises(Kill):
            run_attacks(model, store)
    assert sum(sizes) == 16
    assert len(list(store.root.rglob(ANSWERS_FILE))) == 1
    with kill_after(model, 0), pytest.raises(Kill):  # of the first attack, and not of the requests alone
        run_attacks(model, store)
    assert [
        path for path in store.root.rglob("rows.json") if "no_attack" in str(path) or "no-attack" in str(path)
    ]


@pytest.mark.parametrize("damage", ["cut", "changed", "other step", "binary", "link"])
def test_damaged_batches_are_generated_again(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What follows the first damaged line is; the result is that of an undisturbed run."""
    model, store = trained_lm(refuses=True), Store(tmp_path / "store")
    expected = run_answers(model, Store(tmp_path / "whole"))
    with kill_after(model, 3), pytest.raises(Kill):
        run_answers(model, store)
    [path] = store.root.rglob(ANSWERS_FILE)
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    n_whole = {"cut": 2, "changed": 1}.get(damage, 0)
    if damage == "cut":
        path.write_bytes(b"".join(lines)[:-7])
    elif damage == "changed":
        path.write_bytes(lines[0] + lines[1].replace(b"Sure", b"Pure", 1) + lines[2])
    elif damage == "other step":
        with kill_after(model, 3), pytest.raises(Kill):
            lm.judged_answer_rows(
                model, {"harmless": prompts()["harmless"][16:40]}, Store(tmp_path / "x"), SETTINGS
            )
        [other] = (tmp_path / "x").rglob(ANSWERS_FILE)
        path.write_bytes(other.read_bytes())
    elif damage == "binary":
        path.write_bytes(bytes(range(256)))
    else:
        path.symlink_to(path.rename(tmp_path / "elsewhere"))
    capsys.readouterr()
    with kill_after(model, -1) as sizes:
        assert run_answers(model, store) == expected
    assert len(sizes) == 8 - n_whole
    assert "answers.jsonl" in capsys.readouterr().err


def test_other_batches_than_before_the_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less free memory after a kill makes smaller batches; answers that are there still count."""
    model, store = trained_lm(refuses=True), Store(tmp_path)
    expected = run_answers(model, Store(tmp_path / "whole"))
    with kill_after(model, 3), pytest.raises(Kill):
        run_answers(model, store)
    monkeypatch.setattr(decisions, "MAX_BATCH_SIZE", 4)
    with kill_after(model, -1) as sizes:
        rows = run_answers(model, store)
    assert [row["answer"] for row in rows] == [
        row["answer"] for row in expected
    ]  # log-odds differ by rounding
    assert sizes == [1, 4, 4, 4, 4]


def test_a_context_that_is_too_short_is_named_before_the_first_batch(tmp_path: Path) -> None:
    model = trained_lm(refuses=True)
    model.model.config.max_position_embeddings = 12
    texts = ["make tea now"] * 6 + ["make tea " + "now " * 20]
    with kill_after(model, -1) as sizes, pytest.raises(ValueError, match="expected at most 12 in all"):
        lm.judged_answer_rows(model, {"harmless": texts}, Store(tmp_path), SETTINGS)
    assert sizes == []
    assert generation.batches is decisions.batches
