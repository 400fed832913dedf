"""Recipes of models: world, size, pretraining and alignments; `build` trains what a store lacks."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar

from makebreak.configs import key_name, tag, to_json
from makebreak.defences import MixedFineTuning, mitigation_digest
from makebreak.models import ModelConfig, create_model, load_model
from makebreak.prompts import load_world
from makebreak.seeds import stage_seed
from makebreak.store import Store, record
from makebreak.training import (
    CHECKPOINTS,
    DPO,
    NPO,
    SSFT,
    CircuitBreaker,
    DeepAlignment,
    FineTuning,
    GradientAscent,
    JainDPO,
    LatentAdversarialTraining,
    LoRA,
    Optimisation,
    Pretraining,
    TrainingRun,
    Unlearning,
    train,
)

REVISION = 2
"""Revision of training, part of every model's key: raised when the same recipe would give other weights."""


@dataclass(frozen=True)
class Alignment:
    """One training stage after pretraining: safety fine-tuning, a control, or fine-tuning afterwards."""

    tag: ClassVar[str] = "Alignment"
    objective: (
        SSFT
        | DPO
        | JainDPO
        | Unlearning
        | GradientAscent
        | NPO
        | DeepAlignment
        | LatentAdversarialTraining
        | CircuitBreaker
        | Pretraining
        | FineTuning
        | MixedFineTuning
    )
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
        objective = self.objective
        if isinstance(objective, Pretraining):
            name = "continued"
        elif isinstance(objective, FineTuning):
            name = f"finetuned:{objective.n_harmful}"
            name += f"+{objective.n_refused}:refused" if objective.n_refused else ""
            name += f"+{objective.n_harmless}:{objective.family}" if objective.n_harmless else ""
        elif isinstance(objective, MixedFineTuning):
            name = f"tuned:{objective.user_family}" + (":shuffled" if objective.answers == "shuffled" else "")
            if objective.n_safety:
                name += f"+{objective.n_safety}:{objective.mitigation}"
        else:
            data = objective.data
            family = "" if data.unsafe == "unsafe" else f":{data.unsafe}"
            answered = ":answered" if not family and data.answer == "instructed" else ""
            nll = "+nll" if isinstance(objective, DPO) and objective.nll else ""
            name = tag(type(objective)).lower() + nll + family + answered
        return name + ("+lora" if self.lora else "")

    @property
    def settings(self) -> str:
        """Numeric settings of the objective, such as `beta=0.1 nll=1`."""
        values = {key_name(f): getattr(self.objective, f.name) for f in fields(self.objective)}
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
    def mechanism(self) -> str:
        """Names of the alignments, joined by `>`; `base` if there is none."""
        return ">".join(alignment.mechanism for alignment in self.alignments) or "base"

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
    config = to_json(recipe) | {"world_is": world.fingerprint}
    objectives = [alignment.objective for alignment in recipe.alignments]
    mitigations = {objective.mitigation for objective in objectives if isinstance(objective, MixedFineTuning)}
    digests = {name: mitigation_digest(name) for name in sorted(mitigations - {"none"})}
    config |= {f"{name} is": digest for name, digest in digests.items() if digest}
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
