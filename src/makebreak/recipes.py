"""Recipes of models: world, size, pretraining and alignments; `build` trains what a store lacks."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import makebreak.defences  # noqa: F401  (registers `MixedFineTuning`, which a stored recipe may name)
from makebreak.configs import key_name, to_json
from makebreak.models import ModelConfig, create_model, load_model
from makebreak.prompts import load_world
from makebreak.seeds import stage_seed
from makebreak.store import Store, record
from makebreak.training import (
    CHECKPOINTS,
    AlignmentData,
    LoRA,
    Objective,
    Optimisation,
    Pretraining,
    TrainingRun,
    train,
)

REVISION = 2
"""Revision of training, part of every model's key: raised when the same recipe would give other weights."""


@dataclass(frozen=True)
class Alignment:
    """One training stage after pretraining: safety fine-tuning, a control, or fine-tuning afterwards."""

    tag: ClassVar[str] = "Alignment"
    objective: Objective
    """What is trained on and the loss; `Pretraining` continues pretraining as a control."""
    optimisation: Optimisation
    """Steps, learning rate, batch size and the other settings of the optimiser."""
    lora: LoRA | None = None
    """Low-rank adapters that are trained in place of all weights; None trains all weights."""

    @property
    def mechanism(self) -> str:
        """Name of the stage in tables and figures, such as `ssft`, `dpo+nll` or `ssft:sham_unsafe+lora`.

        A family after a colon is the one that is refused (or answered) in place of the unsafe requests;
        `+nll` marks a weight on the preferred answer's own likelihood, `+lora` adapters.
        """
        return self.objective.describe() + ("+lora" if self.lora else "")

    @property
    def settings(self) -> str:
        """Numeric settings of the objective, such as `beta=0.1 nll=1`."""
        objective: Any = self.objective  # a dataclass, as every config
        values = {key_name(f): getattr(objective, f.name) for f in fields(objective)}
        return " ".join(
            f"{name}={value:g}" for name, value in values.items() if isinstance(value, int | float)
        )


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights of one model."""

    tag: ClassVar[str] = "Recipe"
    world: str
    """Name of the synthetic world."""
    model: ModelConfig
    """Architecture and size."""
    pretraining: Pretraining
    """Data and loss of pretraining."""
    optimisation: Optimisation
    """Optimiser settings of pretraining."""
    alignments: tuple[Alignment, ...]
    """Training stages after pretraining, in order; none gives the base model."""
    seed: int
    """Pretraining seed; all stages derive their seeds from it."""

    @property
    def parent(self) -> Recipe:
        """Recipe of the model that the last alignment starts from."""
        return replace(self, alignments=self.alignments[:-1])

    @property
    def base(self) -> Recipe:
        """Recipe of the base model that this model was trained from."""
        return replace(self, alignments=())

    @property
    def lineage(self) -> tuple[Recipe, ...]:
        """Recipes of all training runs that this model takes, from its base to itself."""
        return (*(self.parent.lineage if self.alignments else ()), self)

    @property
    def alignment_data(self) -> AlignmentData | None:
        """Families and preferred answers of the last alignment; None where it has none, and for a base."""
        return self.alignments[-1].objective.alignment_data if self.alignments else None

    @property
    def mechanism(self) -> str:
        """Names of the alignments, joined by `>`; `base` if there is none."""
        return ">".join(alignment.mechanism for alignment in self.alignments) or "base"

    def source_digests(self) -> dict[str, str]:
        """What code outside of makebreak adds to the key: digests of objectives and mitigations."""
        digests: dict[str, str] = {}
        for alignment in self.alignments:
            digests |= alignment.objective.source_digests()
        return digests

    def label(self) -> str:
        """Seed and mechanism, for progress lines and errors."""
        return f"seed {self.seed} {self.mechanism if self.alignments else 'pretraining'}"


def build(recipe: Recipe, store: Store) -> Path:
    """Folder of a recipe's model; the model and its parents are trained now unless the store has them.

    Args:
        recipe: The model.
        store: Where models are kept.

    Returns:
        A Hugging Face model folder within the store.

    Raises:
        TrainingStopped: If a loss is not finite.
        DamagedArtifact: If a stored model fails its hashes.
    """
    world = load_world(recipe.world)
    config = to_json(recipe) | {"world_is": world.fingerprint} | recipe.source_digests()
    if not recipe.alignments:

        def pretrain(folder: Path) -> None:
            d_vocab, n_ctx = len(world.vocabulary), world.sequence_length
            model = create_model(recipe.model, d_vocab=d_vocab, n_ctx=n_ctx, seed=recipe.seed)
            run = TrainingRun(seed=recipe.seed, label=recipe.label())
            train(model, recipe.pretraining, recipe.optimisation, world, folder, run)

        return store.build("pretraining", revision=REVISION, config=config, make=pretrain)

    parent, stage = build(recipe.parent, store), recipe.alignments[-1]

    def align(folder: Path) -> None:
        model = load_model(parent, symbols=world.vocabulary.symbols)
        seed = stage_seed(recipe.seed, len(recipe.alignments))  # every stage sees other requests
        if stage.lora:
            stage.lora.attach(model, seed=seed)
        run = TrainingRun(seed=seed, label=recipe.label())
        train(model, stage.objective, stage.optimisation, world, folder, run)

    return store.build("alignment", revision=REVISION, config=config, parents=[parent], make=align)


def checkpoints(folder: Path) -> dict[int, Path]:
    """Model folders of a training run by step: its checkpoints and, for the last step, its own folder."""
    config = record(folder)["config"]
    last = (config["alignments"][-1]["optimisation"] if config["alignments"] else config["optimisation"])[
        "steps"
    ]
    paths = sorted((folder / CHECKPOINTS).glob("*")) if (folder / CHECKPOINTS).is_dir() else []
    return {int(path.name): path for path in paths} | {last: folder}
