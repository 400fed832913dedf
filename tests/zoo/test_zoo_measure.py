"""Is a measure taken of the model that was asked for, once, and kept whatever another measure does?"""

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

from makebreak import zoo
from makebreak.artifacts import Store, record
from makebreak.models import PRESETS, matrix, n_layers
from makebreak.recipes import Alignment, Recipe, build, checkpoints
from makebreak.requests import load_world
from makebreak.training import DPO, SSFT, Optimisation, Pretraining
from makebreak.zoo import Measured, Subject, measure

MODULE = importlib.import_module("makebreak.zoo.measure")  # the package has a function of that name
STEPS = Optimisation(4, 1e-2, batch_size=4, checkpoints=2)
SAFE = Alignment(SSFT(), STEPS)
RECIPE = Recipe("mini", PRESETS["tiny"], Pretraining(), STEPS, (SAFE,), 1000)


@dataclass(frozen=True)
class Concentration:
    """A user's own measure, all of it: is a change of W_in concentrated in few directions (stable rank, small)?"""

    name: ClassVar[str] = "concentration"
    revision: ClassVar[int] = 1
    tiny: float = 1e-12

    def __call__(self, subject: Subject) -> Measured:
        rows = []
        for layer in range(n_layers(subject.model)):
            name = f"blocks.{layer}.mlp.W_in"
            change = matrix(subject.model, name) - matrix(subject.base, name)
            largest = float(torch.linalg.matrix_norm(change, 2))
            squares = float(change.square().sum())
            rows.append(
                {"layer": layer, "stable_rank": squares / largest**2 if largest > self.tiny else None}
            )
        found = [row["stable_rank"] for row in rows if row["stable_rank"] is not None]
        return Measured({"stable_rank": sum(found) / len(found) if found else None}, {"stable_rank": rows})


@dataclass(frozen=True)
class Counted:
    """Notes every subject that it is shown; `raises` lets it fail."""

    seen: ClassVar[list[Subject]] = []
    name: ClassVar[str] = "counted"
    revision: ClassVar[int] = 1
    setting: int = 0
    raises: bool = False

    def __call__(self, subject: Subject) -> Measured:
        self.seen.append(subject)
        if self.raises:
            raise RuntimeError("the measure's own error")
        return Measured({self.name: float(self.setting)})


class Other(Counted):
    name: ClassVar[str] = "other"


class Third(Counted):
    name: ClassVar[str] = "third"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Subject]:
    monkeypatch.setattr(Counted, "seen", [])
    return Counted.seen


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained") / "store"
    build(replace(RECIPE, alignments=(SAFE, Alignment(DPO(), STEPS))), Store(root))
    return root


@pytest.fixture
def store(trained: Path, tmp_path: Path) -> Store:
    """A store of its own with a base, the SSFT model that starts from it, and the DPO model that starts from that."""
    root = tmp_path / "store"
    for path in trained.glob("*/*"):
        if path.is_dir():
            (root / path.parent.name).mkdir(parents=True, exist_ok=True)
            (root / path.parent.name / path.name).symlink_to(path)
    return Store(root)


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[tuple]:
    """The arguments of every call of a function of the module."""
    calls, real = [], getattr(MODULE, name)

    def call(*args, **options):
        calls.append(args)
        return real(*args, **options)

    monkeypatch.setattr(MODULE, name, call)
    return calls


def state(root: Path) -> dict[str, int]:
    return {str(p): p.lstat().st_mtime_ns for p in root.rglob("*")}


def test_a_measure_of_ones_own_adds_its_column_beside_the_model(store: Store) -> None:
    """The stable rank is that of float64 singular values; the base, which has not changed, has none."""
    ((found, folder),) = measure(store, RECIPE, Concentration())
    model, base = build(RECIPE, store), build(RECIPE.base, store)
    expected = []
    for layer in range(2):
        after, before = (load_file(f / "model.safetensors") for f in (model, base))
        name = f"transformer.h.{layer}.mlp.c_fc.weight"
        values = np.linalg.svd((after[name].double() - before[name].double()).numpy(), compute_uv=False)
        expected.append(float((values**2).sum() / values[0] ** 2))
    assert [row["stable_rank"] for row in found.tables["stable_rank"]] == pytest.approx(expected, rel=1e-4)
    assert found.columns == {"stable_rank": pytest.approx(np.mean(expected), rel=1e-4)}
    ((of_base, _),) = measure(store, RECIPE.base, Concentration())
    assert of_base.columns == {"stable_rank": None}
    assert record(folder)["parents"] == [model.name, base.name]
    table = zoo.table(store).set_index(["key", "step"]).stable_rank
    assert table[model.name, 4] == found.columns["stable_rank"]
    assert table.notna().sum() == 1


def test_nothing_is_computed_twice(
    store: Store, seen: list[Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measure(store, RECIPE, Counted(), Other(), step=2)
    before, loads = state(store.root), counted(monkeypatch, "load")
    assert measure(store, RECIPE, Counted(), Other(), step=2) == first
    assert measure(store, RECIPE, Other(), step=2) == first[1:]
    assert (len(seen), loads) == (2, []), "no measure is taken, no model is read"
    assert state(store.root) == before, "nothing is written"


@pytest.mark.parametrize("change", ["setting", "revision", "step", "model", "seed"])
def test_what_it_depends_on_is_in_its_key(
    store: Store, seen: list[Subject], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    ((_, folder),) = measure(store, RECIPE, Counted())
    recipe, how, step = RECIPE, Counted(), None
    if change == "setting":
        how = Counted(1)
    elif change == "revision":
        monkeypatch.setattr(Counted, "revision", 2)
    elif change == "step":
        step = 2
    else:
        recipe = RECIPE.base if change == "model" else replace(RECIPE.base, seed=1001)
    ((_, other),) = measure(store, recipe, how, step=step)
    assert other != folder
    assert len(seen) == 2


def test_one_subject_for_several_measures(
    store: Store, seen: list[Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = counted(monkeypatch, "load")
    measure(store, RECIPE, Counted(), Other(), Third())
    assert len(seen) == 3
    assert all(subject is seen[0] for subject in seen)
    assert len(loads) == 2, "the model and its base"


def test_behaviour_is_found_once_for_several_measures(
    store: Store, seen: list[Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(store, RECIPE, Counted())
    calls = counted(monkeypatch, "behaviour")
    first = seen[0].behaviour("unsafe", 5)
    assert seen[0].behaviour("unsafe", 5) is first
    assert seen[0].behaviour("unsafe", 6) is not first
    assert seen[0].behaviour("safe", 5) is not first
    assert [(requests.family, len(requests)) for _, _, requests in calls] == [
        ("unsafe", 5),
        ("unsafe", 6),
        ("safe", 5),
    ]


@pytest.mark.parametrize("step", [None, 4, 2])
@pytest.mark.parametrize("stages", [0, 1, 2])
def test_the_subject_is_the_model_of_that_step_and_its_base(
    store: Store, seen: list[Subject], stages: int, step: int | None
) -> None:
    recipe = replace(RECIPE, alignments=(SAFE, Alignment(DPO(), STEPS))[:stages])
    measure(store, recipe, Counted(), step=step)
    (subject,) = seen
    assert (subject.recipe, subject.step) == (recipe, step or 4)
    assert subject.world is load_world("mini")
    folders = checkpoints(build(recipe, store))[step or 4], build(recipe.base, store)
    for model, folder in zip((subject.model, subject.base), folders, strict=True):
        assert not model.training
        kept, weights = load_file(folder / "model.safetensors"), model.state_dict()
        assert kept.keys() == weights.keys()
        assert all(torch.equal(weights[name], tensor) for name, tensor in kept.items())


def test_every_model_of_a_seed_is_asked_the_same(store: Store, seen: list[Subject]) -> None:
    measure(store, RECIPE.base, Counted())
    measure(store, RECIPE, Counted())
    measure(store, replace(RECIPE.base, seed=1001), Counted())
    base, aligned, other = (subject.asked("unsafe", 40) for subject in seen)
    assert (base.prompt == aligned.prompt).all()
    assert (base.prompt != other.prompt).any()

    def texts(requests) -> set[tuple[int, ...]]:
        return {
            (g, *t) for g, t in zip(requests.truth["grammar"].tolist(), requests.truth["text"], strict=True)
        }

    assert not texts(base) & texts(seen[0].asked("unsafe", 40, "fit")), "what is scored is not what is fitted"
    assert not texts(base) & texts(load_world("mini").sample("unsafe", 400, seed=1000)), (
        "nor what is trained on"
    )


@pytest.mark.parametrize("step", [0, 3, 5])
def test_a_step_that_was_not_kept_is_named_with_those_that_were(
    store: Store, seen: list[Subject], step: int
) -> None:
    with pytest.raises(
        ValueError, match=rf"step {step} of .* was not kept: expected one of \[2, 4\]"
    ) as raised:
        measure(store, RECIPE, Counted(), step=step)
    assert "\n" not in str(raised.value)
    assert not seen
    assert not list(store.root.glob("measure-*"))


def test_a_measure_that_raises_loses_nothing_of_the_others(store: Store, seen: list[Subject]) -> None:
    with pytest.raises(RuntimeError, match="the measure's own error"):
        measure(store, RECIPE, Counted(3), Other(raises=True), Third(5))
    assert [subject.step for subject in seen] == [4, 4]
    table = zoo.table(store)
    assert table.counted.dropna().tolist() == [3.0]
    assert "other" not in table
    (three, _), (five, _) = measure(store, RECIPE, Counted(3), Third(5))
    assert (three.columns, five.columns) == ({"counted": 3.0}, {"third": 5.0})
    assert len(seen) == 3, "only the third had still to be taken"
    measure(store, RECIPE, Other(2))
    assert zoo.table(store).other.dropna().tolist() == [2.0]


def of(columns: dict, tables: dict) -> Callable[[Subject], Measured]:
    @dataclass(frozen=True)
    class Given:
        name: ClassVar[str] = "given"
        revision: ClassVar[int] = 1

        def __call__(self, subject: Subject) -> Measured:
            return Measured(columns, tables)

    return Given()


def test_what_was_found_comes_back_exactly(store: Store) -> None:
    columns = {"third": 1 / 3, "nothing": None, "whole": 2.0}
    tables = {
        "rows": [{"layer": 0, "name": "W_in", "share": 0.1}, {"layer": 1, "name": "W_in", "share": None}]
    }
    for _ in range(2):
        ((found, _),) = measure(store, RECIPE, of(columns, tables))
        assert found == Measured(columns, tables)


def test_a_number_that_is_none_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match=r"[Oo]ut of range float"):
        measure(store, RECIPE, of({"bad": float("nan")}, {}))
    assert "bad" not in zoo.table(store)


def test_no_measure_only_makes_the_model(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert measure(store, RECIPE) == []
    assert zoo.table(store).mechanism.unique().tolist() == ["base", "ssft"]
