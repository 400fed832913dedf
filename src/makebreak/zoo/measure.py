"""How is a model of the zoo measured? By a function of a subject; what it found is kept beside the model, once."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from transformers import PreTrainedModel

from makebreak.artifacts import Store, write_json
from makebreak.behaviour import Behaviour, behaviour
from makebreak.configs import to_json
from makebreak.models import load
from makebreak.recipes import Recipe, build, checkpoints
from makebreak.requests import Requests, World, load_world

MEASURED = "measured.json"
FIRST_TUNING_SEED = 1000  # settings are found on seeds from there on, which are never reported


@dataclass(frozen=True)
class Subject:
    """A model of the zoo: the weights after `step` steps of its last stage, and the pretrained model of its line."""

    recipe: Recipe
    step: int
    model: PreTrainedModel
    base: PreTrainedModel
    store: Store
    _behaved: dict[tuple[str, int], Behaviour] = field(default_factory=dict, repr=False, compare=False)

    @property
    def world(self) -> World:
        return load_world(self.recipe.world)

    def asked(self, family: str, n: int, split: str = "score") -> Requests:
        """Held-out requests of a family: the same for every model of a world and pretraining seed."""
        return asked(self.recipe.world, family, n, self.recipe.seed, split)

    def other_base(self) -> PreTrainedModel:
        """A base that differs in its seed alone: the one below, of seed 0 the one above. Trained now if missing."""
        other = replace(self.recipe.base, seed=other_seed(self.recipe.seed))
        return load(build(other, self.store), symbols=self.world.vocabulary.symbols)

    def behaviour(self, family: str, n: int) -> Behaviour:
        """What the model does on `asked(family, n)`; several measures may ask, it is found once."""
        if (family, n) not in self._behaved:
            self._behaved[family, n] = behaviour(self.model, self.world, self.asked(family, n))
        return self._behaved[family, n]


def other_seed(seed: int) -> int:
    return seed - 1 if seed % FIRST_TUNING_SEED else seed + 1


@lru_cache(maxsize=256)
def asked(world: str, family: str, n: int, seed: int, split: str) -> Requests:
    return load_world(world).sample(family, n, seed=seed, split=split)


@dataclass(frozen=True)
class Measured:
    """What was found: one value per column of the zoo table (None where undefined), and longer tables as rows."""

    columns: dict[str, float | None] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


@runtime_checkable
class Measure(Protocol):
    """A frozen dataclass: its fields are its settings, `revision` rises when the same model would get other numbers."""

    name: ClassVar[str]
    revision: ClassVar[int]

    def __call__(self, subject: Subject) -> Measured: ...


def measure(
    store: Store, recipe: Recipe, *hows: Measure, step: int | None = None
) -> list[tuple[Measured, Path]]:
    """What each of `hows` finds in a model, trained and measured now where that is missing, and where it is kept.

    step: a kept checkpoint of the last stage; the last one by default. Raises ValueError for a step not kept.
    """
    model, base = build(recipe, store), build(recipe.base, store)
    kept = checkpoints(model)
    at = max(kept) if step is None else step
    if at not in kept:
        raise ValueError(f"step {at} of {recipe.label()} was not kept: expected one of {sorted(kept)}")

    @cache
    def subject() -> Subject:
        symbols = load_world(recipe.world).vocabulary.symbols
        return Subject(recipe, at, load(kept[at], symbols=symbols), load(base, symbols=symbols), store)

    found = []
    for how in hows:
        folder = store.build(
            f"measure-{how.name}",
            revision=how.revision,
            config={"measure": to_json(how), "step": at},
            parents=[model, base],
            make=lambda folder, how=how: write_json(folder / MEASURED, vars(how(subject()))),
        )
        found.append((Measured(**json.loads((folder / MEASURED).read_text())), folder))
    return found
