"""Models of the public API: those that ship, those of synthetic worlds, and language models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedModel

from makebreak import settings
from makebreak.api.result import Result
from makebreak.errors import InvalidInput
from makebreak.lm import is_store_model
from makebreak.model_library import DATA, open_organism, organism_rows
from makebreak.models import LanguageModel, load_model, n_layers
from makebreak.models import open_model as open_language_model
from makebreak.output_folders import name_option
from makebreak.output_record import OutputOwner
from makebreak.plugins import without_imports
from makebreak.prompts import World, load_world
from makebreak.recipes import Recipe, build, copy_lineage, install, read_recipe
from makebreak.settings import LoadSettings
from makebreak.store import Store, record


@dataclass(frozen=True, repr=False, eq=False)
class Model:
    """A model that all functions of the public API accept: one of a synthetic world, or a language model."""

    name: str
    """Name in tables, figures and pages."""
    network: PreTrainedModel
    """The weights, a model of transformers."""
    recipe: Recipe | None = None
    """How it was trained in its synthetic world; None for a language model."""
    language_model: LanguageModel | None = None
    """The model with its tokenizer; None for a model of a synthetic world."""
    folder: Path | None = None
    """Folder of a model of a synthetic world in the store; None for a language model."""

    @property
    def world(self) -> World | None:
        """The synthetic world that it was trained in; None for a language model."""
        return None if self.recipe is None else load_world(self.recipe.world)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of a language model; None for a model of a synthetic world."""
        return None if self.language_model is None else self.language_model.tokenizer

    def __repr__(self) -> str:
        kind = "language model" if self.recipe is None else f"world {self.recipe.world}"
        config = self.network.config
        return f"<Model {self.name}: {kind}, {config.model_type}, {n_layers(self.network)} layers>"


def current_store() -> Store:
    """The store that `makebreak.settings.store` names."""
    return Store(Path(settings.store))


def world_model(recipe: Recipe, name: str | None = None) -> Model:
    """The model of a recipe, which is trained now unless the store has it.

    Args:
        recipe: The model.
        name: Its name; None for world, alignment and seed.

    Returns:
        The model.
    """
    folder = build(recipe, current_store())
    network = load_model(folder, symbols=load_world(recipe.world).vocabulary.symbols)
    return Model(name or _label(recipe), network, recipe, folder=folder)


def organism(name: str) -> Model:
    """Opens one of the trained models that ship with the package.

    Args:
        name: Name of the model, such as `mini-ssft`; `makebreak.organisms` lists all.

    Returns:
        The model.

    Raises:
        InvalidInput: If there is no such model, or a file of the installation is damaged.
    """
    shipped = open_organism(name)
    symbols = load_world(shipped.recipe.world).vocabulary.symbols
    network = load_model(shipped.folder, symbols=symbols)
    return Model(name, network, shipped.recipe, folder=shipped.folder)


def organisms() -> Result:
    """The trained models that ship with the package.

    Returns:
        One row per model: world, training, size, and outcome rates on held-out requests.
    """
    table = pd.DataFrame(organism_rows())
    summary = [
        f"{len(table)} models of one pretraining seed each: base, SSFT, DPO, unlearning, and two controls of "
        "SSFT (sham and remap). `makebreak.organism(name)` opens one."
    ]
    return Result("organisms", OutputOwner("makebreak.organisms"), {"organisms": table}, summary)


def store_model(model: Model) -> None:
    """Puts a model of a world that comes from elsewhere into the store, with those it was trained from.

    Args:
        model: The model; one of a language model is left as it is.

    Raises:
        InvalidInput: If its weights were changed after it was opened.
    """
    check_unchanged(model)
    store = current_store()
    if model.recipe is None or model.folder is None or store.root.resolve() in model.folder.resolve().parents:
        return
    if model.folder.resolve().parent == DATA.resolve():
        base = open_organism(open_organism(model.folder.name).base)
        install(base.recipe, store, base.folder)
        install(model.recipe, store, model.folder)
    else:
        copy_lineage(model.recipe, Store(model.folder.parent.parent), store)


def check_unchanged(model: Model) -> None:
    """Raises InvalidInput if a model of a world has other weights than its folder, which is what is used."""
    if model.folder is None:
        return
    stored, weights = load_model(model.folder).state_dict(), model.network.state_dict()
    for name, tensor in stored.items():
        if not torch.equal(tensor, weights[name].to(tensor)):
            raise InvalidInput(
                f"{model.name}: {name} was changed after the model was opened, and this function uses the "
                f"weights in {model.folder}: open the model again; makebreak.evaluate and makebreak.inspect "
                "use the weights that a model has"
            )


def open_model(name: str | Path, loading: LoadSettings | None = None) -> Model:
    """Opens a language model, or a model of a synthetic world in a store.

    Args:
        name: Folder of a transformers model or of a LoRA adapter, path of a .gguf file, or Hugging Face Hub
            id; or the folder of a model in a store of makebreak. Only a Hub id needs network access.
        loading: Device, precision and base of an adapter; None for the defaults.

    Returns:
        The model.

    Raises:
        InvalidInput: If the model cannot be read, or is not supported.
    """
    if is_store_model(str(name)):
        with without_imports():
            recipe = read_recipe(record(Path(name)))
            if recipe is None:
                raise InvalidInput(
                    f"{name} was trained in another version of its world, or with an objective that has "
                    "changed since: train it again"
                )
            symbols = load_world(recipe.world).vocabulary.symbols
        return Model(_label(recipe), load_model(Path(name), symbols=symbols), recipe, folder=Path(name))
    with name_option("makebreak.settings.store", Path(settings.store)):
        language_model = open_language_model(
            str(name), store=current_store(), loading=loading or LoadSettings()
        )
    return Model(language_model.name, language_model.model, language_model=language_model)


def result_owner(program: str, *models: Model) -> OutputOwner:
    """Owner of the folder of a result on some models: these models, and the program that gave it."""
    return OutputOwner(program, tuple(str(model.folder or model.name) for model in models))


def check_models(models: Model | Sequence[Model]) -> list[Model]:
    """The models as a list; raises TypeError if one is none, InvalidInput if they are of different kinds."""
    every = [models] if isinstance(models, Model | str) else list(models)
    if not every:
        raise InvalidInput("no model was given: expected a model, or a list of models")
    for model in every:
        if not isinstance(model, Model):
            raise TypeError(f"{model!r} is no model: makebreak.open_model or makebreak.organism gives one")
    names = [model.name for model in every]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(
                f"two models have the name {name!r}: dataclasses.replace(model, name=...) gives another one"
            )
    worlds = {None if model.recipe is None else model.recipe.world for model in every}
    if len(worlds) > 1:
        names = ", ".join(sorted("language models" if world is None else world for world in worlds))
        raise InvalidInput(f"the models are of {names}: expected models of one world, or language models")
    return every


def _label(recipe: Recipe) -> str:
    return f"{recipe.world}-{recipe.mechanism} seed {recipe.seed}"
