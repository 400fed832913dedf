"""Measures of models: which model they are given, what is stored, and when a measure is taken again."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from makebreak import model_zoo as zoo
from makebreak.model_zoo import Measurement, Subject, measure
from makebreak.models import MODEL_SIZES, n_layers, weight_matrix
from makebreak.prompts import load_world
from makebreak.recipes import Alignment, Recipe, build, checkpoints
from makebreak.store import Store, record
from makebreak.training import DPO, SSFT, Optimisation, Pretraining

MODULE = importlib.import_module("makebreak.model_zoo.measure")  # the package has a function of that name
STEPS = Optimisation(4, 1e-2, batch_size=4, checkpoints=2)
SAFE = Alignment(SSFT(), STEPS)
RECIPE = Recipe("mini", MODEL_SIZES["tiny"], Pretraining(), STEPS, (SAFE,), 1000)


@dataclass(frozen=True)
class Concentration:
    """A user's own measure: mean stable rank of the changes of W_in; small if a change has few directions."""

    name: ClassVar[str] = "concentration"
    revision: ClassVar[int] = 1
    min_norm: float = 1e-12

    def __call__(self, subject: Subject) -> Measurement:
        rows = []
        for layer in range(n_layers(subject.model)):
            name = f"blocks.{layer}.mlp.W_in"
            change = weight_matrix(subject.model, name) - weight_matrix(subject.base, name)
            largest = float(torch.linalg.matrix_norm(change, 2))
            squares = float(change.square().sum())
            rows.append(
                {"layer": layer, "stable_rank": squares / largest**2 if largest > self.min_norm else None}
            )
        ranks = [row["stable_rank"] for row in rows if row["stable_rank"] is not None]
        mean = sum(ranks) / len(ranks) if ranks else None
        return Measurement({"stable_rank": mean}, {"stable_rank": rows})


@dataclass(frozen=True)
class Counted:
    """Records every subject that it is given; `raises` lets it fail."""

    subjects: ClassVar[list[Subject]] = []
    name: ClassVar[str] = "counted"
    revision: ClassVar[int] = 1
    setting: int = 0
    raises: bool = False

    def __call__(self, subject: Subject) -> Measurement:
        self.subjects.append(subject)
        if self.raises:
            raise RuntimeError("the measure's own error")
        return Measurement({self.name: float(self.setting)})


class Other(Counted):
    name: ClassVar[str] = "other"


class Third(Counted):
    name: ClassVar[str] = "third"


@pytest.fixture
def subjects(monkeypatch: pytest.MonkeyPatch) -> list[Subject]:
    monkeypatch.setattr(Counted, "subjects", [])
    return Counted.subjects


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained") / "store"
    build(replace(RECIPE, alignments=(SAFE, Alignment(DPO(), STEPS))), Store(root))
    return root


@pytest.fixture
def store(trained: Path, tmp_path: Path) -> Store:
    """A store of its own with a base, the SSFT model trained from it, and the DPO model trained from that."""
    root = tmp_path / "store"
    for path in trained.glob("*/*"):
        if path.is_dir():
            (root / path.parent.name).mkdir(parents=True, exist_ok=True)
            (root / path.parent.name / path.name).symlink_to(path)
    return Store(root)


def record_calls(monkeypatch: pytest.MonkeyPatch, name: str) -> list[tuple]:
    """The arguments of every call of a function of the module."""
    calls, real = [], getattr(MODULE, name)

    def call(*args, **options):
        calls.append(args)
        return real(*args, **options)

    monkeypatch.setattr(MODULE, name, call)
    return calls


def state(root: Path) -> dict[str, int]:
    return {str(p): p.lstat().st_mtime_ns for p in root.rglob("*")}


def test_a_users_measure_adds_its_column(store: Store) -> None:
    """The stable rank is that of float64 singular values; the base, which has not changed, has none."""
    ((result, folder),) = measure(store, RECIPE, Concentration())
    model, base = build(RECIPE, store), build(RECIPE.base, store)
    expected = []
    for layer in range(2):
        after, before = (load_file(f / "model.safetensors") for f in (model, base))
        name = f"transformer.h.{layer}.mlp.c_fc.weight"
        values = np.linalg.svd((after[name].double() - before[name].double()).numpy(), compute_uv=False)
        expected.append(float((values**2).sum() / values[0] ** 2))
    assert [row["stable_rank"] for row in result.tables["stable_rank"]] == pytest.approx(expected, rel=1e-4)
    assert result.columns == {"stable_rank": pytest.approx(np.mean(expected), rel=1e-4)}
    ((base_result, _),) = measure(store, RECIPE.base, Concentration())
    assert base_result.columns == {"stable_rank": None}
    assert record(folder)["parents"] == [model.name, base.name]
    table = zoo.table(store).set_index(["key", "step"]).stable_rank
    assert table[model.name, 4] == result.columns["stable_rank"]
    assert table.notna().sum() == 1


def test_stored_measurements_are_reused(
    store: Store, subjects: list[Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measure(store, RECIPE, Counted(), Other(), step=2)
    before, loads = state(store.root), record_calls(monkeypatch, "load_model")
    assert measure(store, RECIPE, Counted(), Other(), step=2) == first
    assert measure(store, RECIPE, Other(), step=2) == first[1:]
    assert (len(subjects), loads) == (2, []), "no measure is taken, no model is read"
    assert state(store.root) == before, "nothing is written"


@pytest.mark.parametrize("change", ["setting", "revision", "step", "model", "seed"])
def test_key_depends_on_all_settings(
    store: Store, subjects: list[Subject], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    ((_, folder),) = measure(store, RECIPE, Counted())
    recipe, changed, step = RECIPE, Counted(), None
    if change == "setting":
        changed = Counted(1)
    elif change == "revision":
        monkeypatch.setattr(Counted, "revision", 2)
    elif change == "step":
        step = 2
    else:
        recipe = RECIPE.base if change == "model" else replace(RECIPE.base, seed=1001)
    ((_, other),) = measure(store, recipe, changed, step=step)
    assert other != folder
    assert len(subjects) == 2


def test_measures_share_one_subject(
    store: Store, subjects: list[Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = record_calls(monkeypatch, "load_model")
    measure(store, RECIPE, Counted(), Other(), Third())
    assert len(subjects) == 3
    assert all(subject is subjects[0] for subject in subjects)
    assert len(loads) == 2, "the model and its base"


def test_behaviour_is_evaluated_once(
    store: Store, subjects: list[Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(store, RECIPE, Counted())
    calls = record_calls(monkeypatch, "evaluate_behaviour")
    first = subjects[0].behaviour("unsafe", 5)
    assert subjects[0].behaviour("unsafe", 5) is first
    assert subjects[0].behaviour("unsafe", 6) is not first
    assert subjects[0].behaviour("safe", 5) is not first
    assert [(requests.family, len(requests)) for _, _, requests in calls] == [
        ("unsafe", 5),
        ("unsafe", 6),
        ("safe", 5),
    ]


@pytest.mark.parametrize("step", [None, 4, 2])
@pytest.mark.parametrize("stages", [0, 1, 2])
def test_subject_has_the_models_of_that_step(
    store: Store, subjects: list[Subject], stages: int, step: int | None
) -> None:
    recipe = replace(RECIPE, alignments=(SAFE, Alignment(DPO(), STEPS))[:stages])
    measure(store, recipe, Counted(), step=step)
    (subject,) = subjects
    assert (subject.recipe, subject.step) == (recipe, step or 4)
    assert subject.world is load_world("mini")
    folders = checkpoints(build(recipe, store))[step or 4], build(recipe.base, store)
    for model, folder in zip((subject.model, subject.base), folders, strict=True):
        assert not model.training
        stored, weights = load_file(folder / "model.safetensors"), model.state_dict()
        assert stored.keys() == weights.keys()
        assert all(torch.equal(weights[name], tensor) for name, tensor in stored.items())


def test_models_of_a_seed_share_their_requests(store: Store, subjects: list[Subject]) -> None:
    measure(store, RECIPE.base, Counted())
    measure(store, RECIPE, Counted())
    measure(store, replace(RECIPE.base, seed=1001), Counted())
    base, aligned, other = (subject.sample("unsafe", 40) for subject in subjects)
    assert (base.prompt == aligned.prompt).all()
    assert (base.prompt != other.prompt).any()

    def texts(requests) -> set[tuple[int, ...]]:
        return {
            (g, *t) for g, t in zip(requests.truth["grammar"].tolist(), requests.truth["text"], strict=True)
        }

    assert not texts(base) & texts(subjects[0].sample("unsafe", 40, "fit")), (
        "what is scored is not what is fitted"
    )
    assert not texts(base) & texts(load_world("mini").sample("unsafe", 400, seed=1000)), (
        "nor what is trained on"
    )


@pytest.mark.parametrize("step", [0, 3, 5])
def test_unknown_step_is_refused(store: Store, subjects: list[Subject], step: int) -> None:
    with pytest.raises(
        ValueError, match=rf"step {step} of .* was not kept: expected one of \[2, 4\]"
    ) as raised:
        measure(store, RECIPE, Counted(), step=step)
    assert "\n" not in str(raised.value)
    assert not subjects
    assert not list(store.root.glob("measure-*"))


def test_an_error_keeps_other_measurements(store: Store, subjects: list[Subject]) -> None:
    with pytest.raises(RuntimeError, match="the measure's own error"):
        measure(store, RECIPE, Counted(3), Other(raises=True), Third(5))
    assert [subject.step for subject in subjects] == [4, 4]
    table = zoo.table(store)
    assert table.counted.dropna().tolist() == [3.0]
    assert "other" not in table
    (three, _), (five, _) = measure(store, RECIPE, Counted(3), Third(5))
    assert (three.columns, five.columns) == ({"counted": 3.0}, {"third": 5.0})
    assert len(subjects) == 3, "only the third had still to be taken"
    measure(store, RECIPE, Other(2))
    assert zoo.table(store).other.dropna().tolist() == [2.0]


def constant(columns: dict, tables: dict) -> Callable[[Subject], Measurement]:
    @dataclass(frozen=True)
    class Constant:
        name: ClassVar[str] = "constant"
        revision: ClassVar[int] = 1

        def __call__(self, subject: Subject) -> Measurement:
            return Measurement(columns, tables)

    return Constant()


def test_measurements_are_read_back_exactly(store: Store) -> None:
    columns = {"third": 1 / 3, "nothing": None, "whole": 2.0}
    tables = {
        "rows": [{"layer": 0, "name": "W_in", "share": 0.1}, {"layer": 1, "name": "W_in", "share": None}]
    }
    for _ in range(2):
        ((result, _),) = measure(store, RECIPE, constant(columns, tables))
        assert result == Measurement(columns, tables)


def test_nan_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match=r"[Oo]ut of range float"):
        measure(store, RECIPE, constant({"bad": float("nan")}, {}))
    assert "bad" not in zoo.table(store)


def test_without_measures_the_model_is_trained(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert measure(store, RECIPE) == []
    assert zoo.table(store).mechanism.unique().tolist() == ["base", "ssft"]
