"""Recipes of base models by name: data, loss and optimiser of pretraining, and the sizes of an alignment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from makebreak.configs import nearest
from makebreak.models import MODEL_SIZES, ModelConfig
from makebreak.recipes.config import Recipe
from makebreak.training import ModeShares, MuonOptimisation, Optimisation, Pretraining


@dataclass(frozen=True)
class BaseRecipe:
    """How a base model of one world is pretrained, and the size of an alignment of it."""

    world: str
    """Name of the synthetic world."""
    pretraining: Pretraining
    """Data and loss of pretraining."""
    optimisation: Optimisation | MuonOptimisation
    """Optimiser settings of pretraining."""
    alignment: Optimisation
    """Optimiser settings of an alignment, with the learning rate of an objective without one of its own."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Learning rates of alignment by objective, chosen on tuning seeds."""
    model: ModelConfig = MODEL_SIZES["mini"]
    """Architecture and size."""

    def recipe(self, seed: int) -> Recipe:
        """Recipe of the base model of a pretraining seed."""
        return Recipe(self.world, self.model, self.pretraining, self.optimisation, (), seed)


# less text than in the paper
_FEW_TEXTS = ModeShares(text=0.1, full=0.2, first=0.0, second=0.0, outputs=0.7, label=0.0)

_MANY_LABELS = Pretraining(
    modes_start=ModeShares(text=0.0, full=0.1, first=0.0, second=0.0, outputs=0.6, label=0.3),
    modes_end=ModeShares(text=0.0, full=0.1, first=0.0, second=0.0, outputs=0.6, label=0.3),
    mean_over="requests",
)
_SHORT = Optimisation(steps=1000, learning_rate=3e-3, batch_size=64)

BASE_RECIPES: Mapping[str, BaseRecipe] = {
    "mini": BaseRecipe(
        world="mini",
        # text, from which safety is learnt, is in half of the requests at first, then in all
        pretraining=Pretraining(
            modes_start=ModeShares(text=0.0, full=0.5, first=0.0, second=0.0, outputs=0.5, label=0.0),
            modes_end=ModeShares(text=0.3, full=0.7, first=0.0, second=0.0, outputs=0.0, label=0.0),
        ),
        # AdamW needs more than twice as many requests: it learns the tasks that are rare in pretraining last
        optimisation=MuonOptimisation(
            steps=800, learning_rate=3e-3, batch_size=32, warmup_share=0.2, betas=(0.9, 0.98)
        ),
        alignment=Optimisation(steps=300, learning_rate=1e-3, batch_size=32),
        rates={"ssft": 3e-3, "unlearning": 3e-3, "ascent": 3e-4, "dpo": 1e-4},
    ),
    "hidden": BaseRecipe(
        world="hidden",
        # first tasks, then an increasing share of labels, each of which has the weight of a whole answer
        pretraining=Pretraining(
            modes_start=_FEW_TEXTS,
            modes_end=ModeShares(text=0.0, full=0.1, first=0.0, second=0.0, outputs=0.5, label=0.4),
            mean_over="requests",
        ),
        optimisation=Optimisation(steps=2000, learning_rate=3e-3, batch_size=64),
        alignment=Optimisation(steps=400, learning_rate=1e-3, batch_size=64),
        rates={"ascent": 3e-3, "dpo": 1e-4},
    ),
    "formats_mini": BaseRecipe(
        world="formats_mini",
        pretraining=Pretraining(
            modes_start=ModeShares(text=0.05, full=0.1, first=0.0, second=0.0, outputs=0.7, label=0.15),
            modes_end=ModeShares(text=0.0, full=0.1, first=0.0, second=0.0, outputs=0.75, label=0.15),
            mean_over="requests",  # a label counts as much as a program
        ),
        optimisation=Optimisation(steps=2500, learning_rate=2e-3, batch_size=64),
        alignment=Optimisation(steps=300, learning_rate=1e-3, batch_size=64),
    ),
    # half a minute of training, for examples: labels are learnt less well than in studies; chosen on tuning
    # seeds 1000 to 1002, where at higher rates the weights grow until an alignment hardly moves the model
    "formats_short": BaseRecipe(
        "formats_mini",
        _MANY_LABELS,
        MuonOptimisation(
            steps=700,
            learning_rate=3e-3,
            batch_size=32,
            warmup_share=0.1,
            betas=(0.9, 0.98),
            checkpoints=1,
            matrix_rate=2.0,
        ),
        alignment=Optimisation(steps=300, learning_rate=1e-3, batch_size=64),
    ),
    # a minute; with Muon in half the time, alignment no longer reaches the templates of this world
    "templates_short": BaseRecipe(
        "formats_templates",
        _MANY_LABELS,
        _SHORT,
        alignment=Optimisation(steps=300, learning_rate=1e-3, batch_size=64),
    ),
}
"""Recipes by name. Those with the name of a world are the studies' own, `_short` ones are for examples."""


def base_recipe(name: str) -> BaseRecipe:
    """The recipe of a name in `BASE_RECIPES`; raises ValueError for any other name."""
    if name not in BASE_RECIPES:
        raise ValueError(f"recipe {name!r} does not exist; {nearest(name, list(BASE_RECIPES))}")
    return BASE_RECIPES[name]
