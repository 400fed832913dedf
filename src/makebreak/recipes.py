"""How was a model made? A recipe says it all; `build` makes what is missing and returns its folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from makebreak.artifacts import Store
from makebreak.configs import to_json
from makebreak.models import ModelConfig, create, load
from makebreak.requests import load_world
from makebreak.training import DPO, SSFT, Optimisation, Pretraining, Unlearning, train

REVISION = 1  # of training: raise it when the same config would give other weights


@dataclass(frozen=True)
class Alignment:
    """How a base is made safe: an objective and its optimisation."""

    objective: SSFT | DPO | Unlearning
    optimisation: Optimisation


@dataclass(frozen=True)
class Recipe:
    """A model: its world, size, pretraining, alignment (None: the base itself) and seed."""

    world: str
    model: ModelConfig
    pretraining: Pretraining
    optimisation: Optimisation
    alignment: Alignment | None
    seed: int

    @property
    def base(self) -> Recipe:
        return replace(self, alignment=None)

    def label(self) -> str:
        if self.alignment is None:
            return f"seed {self.seed} pretraining"
        kind = "" if self.alignment.objective.data.unsafe == "unsafe" else f" ({self.alignment.objective.data.unsafe})"
        return f"seed {self.seed} {type(self.alignment.objective).__name__}{kind}"


def build(recipe: Recipe, store: Store) -> Path:
    """The folder of the recipe's model, trained now if it is not in the store; parents first."""
    world, stage = load_world(recipe.world), recipe.alignment
    if stage is None:

        def pretrain(folder: Path) -> None:
            d_vocab, n_ctx = len(world.vocabulary), world.sequence_length
            model = create(recipe.model, d_vocab=d_vocab, n_ctx=n_ctx, seed=recipe.seed)
            train(model, recipe.pretraining, recipe.optimisation, world, folder, seed=recipe.seed, label=recipe.label())

        return store.build("pretraining", revision=REVISION, config=to_json(recipe), make=pretrain)

    base = build(recipe.base, store)

    def align(folder: Path) -> None:
        model = load(base, symbols=world.vocabulary.symbols)
        train(model, stage.objective, stage.optimisation, world, folder, seed=recipe.seed, label=recipe.label())

    return store.build("alignment", revision=REVISION, config=to_json(recipe), parents=[base], make=align)
