"""Objectives of makebreak and of a user: names, keys, training and the zoo table."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from makebreak.configs import from_json, to_json
from makebreak.defences import MixedFineTuning
from makebreak.model_zoo import SafetyMeasure, measure, table
from makebreak.models import MODEL_SIZES
from makebreak.recipes import Alignment, Recipe, build
from makebreak.store import Store, record
from makebreak.training import (
    METRICS,
    OBJECTIVES,
    SSFT,
    AlignmentData,
    Objective,
    Optimisation,
    Pretraining,
    load_objective,
)

SHORT = Optimisation(40, 1e-2, batch_size=8, checkpoints=1)
BASE = Recipe("mini", MODEL_SIZES["tiny"], Pretraining(), Optimisation(2, 1e-3, batch_size=4), (), 1000)
SHAM = AlignmentData("sham_safe", "sham_unsafe")
SOURCE = '''
from dataclasses import dataclass

from makebreak.training import AlignmentObjective, Objective, sequence_log_probs


@dataclass(frozen=True)
class Hinge(AlignmentObjective):
    """Hinge loss on the log-odds of the preferred answer."""

    margin: float = 2.0

    def batch(self, world, *, size, step, steps, seed):
        return self.data.preference_pairs(world, size=size, step=step, seed=seed)

    def loss(self, model, batch, reference):
        preferred, dispreferred = (sequence_log_probs(model, part)[0] for part in batch)
        return (self.margin - (preferred - dispreferred)).clamp(min=0).mean(), {}


@dataclass(frozen=True)
class Wider(Hinge):
    margin: float = 5.0


@dataclass(frozen=True)
class Steep(Objective):
    slope: float

    def batch(self, world, *, size, step, steps, seed):
        raise NotImplementedError


wide = Hinge(margin=9.0)
number = 3
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a user's module `hinge`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "hinge", raising=False)
    (tmp_path / "hinge.py").write_text(SOURCE)
    return tmp_path / "hinge.py"


def recipe(objective: Objective) -> Recipe:
    return replace(BASE, alignments=(Alignment(objective, SHORT),))


def test_names_of_registered_objectives() -> None:
    names = {name: load_objective(name).describe() for name in OBJECTIVES}
    assert names == {
        "ssft": "ssft",
        "dpo": "dpo",
        "dpo_nll": "dpo+nll",
        "unlearning": "unlearning",
        "npo": "npo",
        "ascent": "ascent",
        "deep": "deep",
        "latent": "latentadversarial",
        "breaker": "circuitbreaker",
        "extended": "extendedrefusal",
        "booster": "booster",
    }
    for objective in OBJECTIVES.values():
        assert objective.source_digests() == {}
        assert objective.alignment_data == AlignmentData()
    assert SSFT(SHAM).describe() == "ssft:sham_unsafe"
    assert SSFT(AlignmentData(answer="instructed")).describe() == "ssft:answered"
    assert Pretraining().describe() == "continued"
    assert Pretraining().alignment_data is None


def test_objective_of_a_user(module: Path) -> None:
    """One file: the class has a name, families, a config that is read back, and a digest of its source."""
    hinge = load_objective("hinge:Hinge")
    assert to_json(hinge) == {"type": "hinge:Hinge", "data": to_json(AlignmentData()), "margin": 2.0}
    assert (hinge.describe(), replace(hinge, data=SHAM).describe()) == ("hinge", "hinge:sham_unsafe")
    assert hinge.alignment_data == AlignmentData()
    assert load_objective("hinge:wide") == replace(hinge, margin=9.0)
    assert list(hinge.source_digests()) == ["hinge:Hinge is"]
    assert set(load_objective("hinge:Wider").source_digests()) == {"hinge:Hinge is", "hinge:Wider is"}
    for objective in (hinge, load_objective("hinge:wide"), load_objective("hinge:Wider")):
        assert from_json(Recipe, to_json(recipe(objective))) == recipe(objective)


def test_training_with_an_objective_of_a_user(module: Path, tmp_path: Path) -> None:
    """It is trained, measured and listed as any other, and every change of it is another model."""
    store = Store(tmp_path / "store")
    hinge = replace(load_objective("hinge:Hinge"), data=AlignmentData(safe_share=0.0))
    folder = build(recipe(hinge), store)
    losses = [json.loads(line)["loss"] for line in (folder / METRICS).read_text().splitlines()]
    assert losses[-1] < 0.5 < losses[0]
    assert record(folder)["config"]["hinge:Hinge is"] == hinge.source_digests()["hinge:Hinge is"]
    assert build(recipe(load_objective("hinge:wide")), store) != folder
    measure(store, recipe(hinge), SafetyMeasure(8))
    (row,) = table(store).query("key == @folder.name").to_dict("records")
    assert (row["mechanism"], row["settings"]) == ("hinge", "margin=2")
    assert row["trained_answer_rate"] == row["unsafe.refuse"] == 1

    module.write_text(module.read_text() + "# another text\n")
    hinge_again = importlib.reload(sys.modules["hinge"]).Hinge(hinge.data)
    assert folder.name not in set(table(store).key)
    assert build(recipe(hinge_again), store) != folder


def test_a_removed_objective_is_reported(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of all other models stay."""
    store = Store(tmp_path / "store")
    folders = [build(recipe(objective), store) for objective in (SSFT(), load_objective("hinge:Hinge"))]
    assert {folder.name for folder in folders} < set(table(store).key)
    module.unlink()
    monkeypatch.delitem(sys.modules, "hinge")
    with pytest.warns(
        UserWarning, match="objective 'hinge:Hinge': module 'hinge' cannot be imported"
    ) as warned:
        zoo = table(store)
    assert len(warned) == 1
    assert f"{folders[1]} (" in str(warned[0].message)
    assert folders[0].name in set(zoo.key)
    assert folders[1].name not in set(zoo.key)


def test_mitigation_of_a_user_is_part_of_the_key(module: Path) -> None:
    (module.parent / "provider.py").write_text("def refuse(safety, user):\n    return []\n")
    digests = MixedFineTuning("safe", 10, "provider:refuse", 0.5).source_digests()
    assert list(digests) == ["provider:refuse is"]
    assert MixedFineTuning("safe", 10, "canonical", 0.5).source_digests() == {}
    assert MixedFineTuning("safe", 10).source_digests() == {}


def test_bad_objectives(module: Path) -> None:
    for name, message in {
        "ssfk": "objective 'ssfk' does not exist; did you mean 'ssft'?",
        "hinge:number": "objective 'hinge:number' is 3: expected an Objective or a subclass of it",
        "makebreak.training:LoRA": "expected an Objective or a subclass of it",
        "makebreak.training:Objective": "abstract",
        "hinge:Steep": "missing 1 required positional argument: 'slope'; name an instance with its settings",
    }.items():
        with pytest.raises(ValueError, match=message):
            load_objective(name)


def test_slips_in_a_class_are_errors() -> None:
    """A setting that were no field would be in no key; a tag of one's own could not be read back."""

    class Undecorated(SSFT):
        weight: float = 1.0

    with pytest.raises(
        ValueError, match=r"Undecorated\.weight is no field: decorate the class with @dataclass"
    ):
        to_json(Undecorated())

    @dataclass(frozen=True)
    class Decorated(SSFT):
        weight: float = 1.0

    assert to_json(Decorated())["weight"] == 1.0
    with pytest.raises(TypeError, match=r"Tagged\.tag = 'Mine': leave it out, it is MODULE:CLASS"):

        class Tagged(SSFT):
            tag: ClassVar[str] = "Mine"
