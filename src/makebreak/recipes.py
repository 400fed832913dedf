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
_STAGE_SEEDS = 1_000_000


@dataclass(frozen=True)
class Alignment:
    """How a base is made safe: an objective and its optimisation."""

    objective: SSFT | DPO | Unlearning
    optimisation: Optimisation


@dataclass(frozen=True)
class Recipe:
    """A model: its world, size, pretraining, the alignments that follow one another (none: the base) and seed."""

    world: str
    model: ModelConfig
    pretraining: Pretraining
    optimisation: Optimisation
    alignments: tuple[Alignment, ...]
    seed: int

    @property
    def parent(self) -> Recipe:
        """The model that the last alignment starts from."""
        return replace(self, alignments=self.alignments[:-1])

    def label(self) -> str:
        if not self.alignments:
            return f"seed {self.seed} pretraining"
        objective = self.alignments[-1].objective
        kind = "" if objective.data.unsafe == "unsafe" else f" ({objective.data.unsafe})"
        return f"seed {self.seed} {type(objective).__name__}{kind}"


def build(recipe: Recipe, store: Store) -> Path:
    """The folder of the recipe's model, trained now if it is not in the store; parents first."""
    world = load_world(recipe.world)
    config = to_json(recipe) | {"world_is": world.fingerprint}
    if not recipe.alignments:

        def pretrain(folder: Path) -> None:
            d_vocab, n_ctx = len(world.vocabulary), world.sequence_length
            model = create(recipe.model, d_vocab=d_vocab, n_ctx=n_ctx, seed=recipe.seed)
            train(model, recipe.pretraining, recipe.optimisation, world, folder, seed=recipe.seed, label=recipe.label())

        return store.build("pretraining", revision=REVISION, config=config, make=pretrain)

    parent, stage = build(recipe.parent, store), recipe.alignments[-1]

    def align(folder: Path) -> None:
        model = load(parent, symbols=world.vocabulary.symbols)
        seed = recipe.seed + _STAGE_SEEDS * (len(recipe.alignments) - 1)  # a later stage sees other requests
        train(model, stage.objective, stage.optimisation, world, folder, seed=seed, label=recipe.label())

    return store.build("alignment", revision=REVISION, config=config, parents=[parent], make=align)
