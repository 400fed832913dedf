"""Measures of models: the subject that a measure is given, and `measure`, which stores each result once."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from transformers import PreTrainedModel

from makebreak.configs import to_json
from makebreak.evaluation import Behaviour, evaluate_behaviour, kl_to_base
from makebreak.models import load_model
from makebreak.prompts import Requests, World, load_world
from makebreak.recipes import Recipe, build, checkpoints
from makebreak.store import Store, write_json

MEASUREMENT_FILE = "measured.json"
"""File of a measurement within its folder of the store."""
FIRST_TUNING_SEED = 1000
"""Pretraining seeds from here on are for tuning hyperparameters; their models are never reported."""


class AlignedPair(Protocol):
    """A model, the base that it was aligned from, and held-out requests of both classes."""

    @property
    def model(self) -> PreTrainedModel:
        """The aligned model."""
        ...

    @property
    def base(self) -> PreTrainedModel:
        """The model before all alignments."""
        ...

    @property
    def world(self) -> World:
        """The world of the requests."""
        ...

    def sample(self, family: str, n: int, split: str = "score") -> Requests:
        """Held-out requests of a family, `safe` or `unsafe`, and of a half, `fit` or `score`."""
        ...


@dataclass(frozen=True)
class Subject:
    """A model at one step of its last training stage, and the base model that it was trained from."""

    recipe: Recipe
    """How the model was trained."""
    step: int
    """Training step of the last stage whose weights are measured."""
    model: PreTrainedModel
    """The model."""
    base: PreTrainedModel
    """The pretrained model before all alignments."""
    store: Store
    """Store that the model was loaded from."""
    activations: dict[tuple[int, int], Any] = field(default_factory=dict, repr=False, compare=False)
    """Activations that measures share (`mechanism.shared_activations`)."""
    behaviours: dict[tuple[str, int], Behaviour] = field(default_factory=dict, repr=False, compare=False)
    """Behaviour by family and number of requests, computed once for all measures (`behaviour`)."""
    divergences: dict[int, float] = field(default_factory=dict, repr=False, compare=False)
    """KL to the base by number of requests (`kl_on_safe`)."""

    @property
    def world(self) -> World:
        """The synthetic world of the recipe."""
        return load_world(self.recipe.world)

    def sample(self, family: str, n: int, split: str = "score") -> Requests:
        """Held-out requests of a family, the same for every model of a world and pretraining seed."""
        return held_out_requests(self.recipe.world, family, n, self.recipe.seed, split)

    def other_base(self) -> PreTrainedModel:
        """Base model of another pretraining seed, `other_seed`; trained now unless the store has it."""
        other = replace(self.recipe.base, seed=other_seed(self.recipe.seed))
        model: Any = load_model(build(other, self.store), symbols=self.world.vocabulary.symbols)
        return model.to(self.recipe.engine.device)

    def behaviour(self, family: str, n: int) -> Behaviour:
        """Outcomes of the model on `sample(family, n)`; computed once for all measures of a subject."""
        if (family, n) not in self.behaviours:
            requests = self.sample(family, n)
            self.behaviours[family, n] = evaluate_behaviour(self.model, self.world, requests)
        return self.behaviours[family, n]

    def kl_on_safe(self, n: int) -> float:
        """KL(base ‖ model) on `n` safe requests, in nats per judged token; computed once."""
        if n not in self.divergences:
            requests = self.sample("safe", n)
            self.divergences[n] = kl_to_base(self.world, requests, base=self.base, tuned=self.model)
        return self.divergences[n]


def other_seed(seed: int) -> int:
    """Seed of the unrelated base used as a control: seed - 1, or seed + 1 for a first seed."""
    return seed - 1 if seed % FIRST_TUNING_SEED else seed + 1


@lru_cache(maxsize=256)
def held_out_requests(world: str, family: str, n: int, seed: int, split: str) -> Requests:
    """The first n requests of a family, a seed and a held-out split (`fit` or `score`) of a named world."""
    return load_world(world).sample(family, n, seed=seed, split=split)


@dataclass(frozen=True)
class Measurement:
    """Result of one measure on one model."""

    columns: dict[str, float | None] = field(default_factory=dict)
    """Values by column of the zoo table; None where a value is undefined."""
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Longer tables by name, as rows; they are stored with the measurement, but not part of the zoo table."""


@runtime_checkable
class Measure(Protocol):
    """A function of a subject, as a frozen dataclass whose fields are its settings."""

    name: ClassVar[str]
    """Name of the measure in the store."""
    revision: ClassVar[int]
    """Number that is raised when the same model would get other values or other columns."""

    def __call__(self, subject: Subject) -> Measurement:
        """Measures one model."""
        ...


def measure(
    store: Store,
    recipe: Recipe,
    *measures: Measure,
    step: int | None = None,
    subject: Subject | None = None,
) -> list[tuple[Measurement, Path]]:
    """Takes measures of one model; the model is trained, and measures are taken, unless the store has them.

    Args:
        store: Where models and measurements are kept.
        recipe: The model.
        *measures: What is measured.
        step: Checkpoint of the last training stage; None for its last step.
        subject: The model, where it is loaded already.

    Returns:
        For each measure its result and the folder in which it is kept.

    Raises:
        ValueError: If there is no checkpoint of this step.
    """
    model, base = build(recipe, store), build(recipe.base, store)
    folders = checkpoints(model)
    step = max(folders) if step is None else step
    if step not in folders:
        raise ValueError(f"step {step} of {recipe.label()} was not kept: expected one of {sorted(folders)}")

    @cache
    def get_subject() -> Subject:
        return subject or load_subject(store, recipe, step)

    results = []
    for each in measures:
        folder = store.build(
            f"measure-{each.name}",
            revision=each.revision,
            config={"measure": to_json(each), "step": step},
            parents=[model, base],
            make=lambda folder, each=each: write_json(folder / MEASUREMENT_FILE, vars(each(get_subject()))),
            files=re.escape(MEASUREMENT_FILE),
        )
        results.append((Measurement(**json.loads((folder / MEASUREMENT_FILE).read_text())), folder))
    return results


def load_subject(store: Store, recipe: Recipe, step: int | None = None) -> Subject:
    """The model of a recipe at a kept step of its last stage, with its base, on the device of its engine.

    Args:
        store: Where the models are kept.
        recipe: The model.
        step: The step; None for the last one.

    Returns:
        The model, ready to be measured.
    """
    folders = checkpoints(build(recipe, store))
    step = max(folders) if step is None else step
    symbols = load_world(recipe.world).vocabulary.symbols
    paths = folders[step], build(recipe.base, store)
    models: list[Any] = [load_model(path, symbols=symbols) for path in paths]
    measured, base = (model.to(recipe.engine.device) for model in models)
    return Subject(recipe, step, measured, base, store)
