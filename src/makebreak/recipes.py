"""How was a model made? A recipe says it all; `build` makes what is missing and returns its folder."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

from makebreak.artifacts import Store, record
from makebreak.configs import to_json
from makebreak.defences import Mixed, digest
from makebreak.models import ModelConfig, create, load
from makebreak.requests import load_world
from makebreak.training import (
    CHECKPOINTS,
    DPO,
    NPO,
    SSFT,
    Ascent,
    CircuitBreaker,
    Deep,
    FineTuning,
    LatentAdversarial,
    LoRA,
    Optimisation,
    PaperDPO,
    Pretraining,
    Unlearning,
    train,
)

REVISION = 2  # of training: raise it when the same config would give other weights
_STAGE_SEEDS = 1_000_000


@dataclass(frozen=True)
class Alignment:
    """How a base is changed: an objective (`Pretraining` goes on as before, `FineTuning` comes after safety), its
    optimisation, all weights or LoRA."""

    objective: (
        SSFT
        | DPO
        | PaperDPO
        | Unlearning
        | Ascent
        | NPO
        | Deep
        | LatentAdversarial
        | CircuitBreaker
        | Pretraining
        | FineTuning
        | Mixed
    )
    optimisation: Optimisation
    lora: LoRA | None = None

    @property
    def mechanism(self) -> str:
        """`ssft`, or `ssft:sham_unsafe` where the second family is not the unsafe one; `+lora` where it is adapters.

        `dpo+nll` for DPO with a weight on the preferred answer's own likelihood.
        """
        if isinstance(self.objective, Pretraining):
            name = "continued"
        elif isinstance(self.objective, FineTuning):
            of = self.objective
            name = f"finetuned:{of.harmful}" + (f"+{of.refused}:refused" if of.refused else "")
            name += f"+{of.harmless}:{of.family}" if of.harmless else ""
        elif isinstance(self.objective, Mixed):
            of = self.objective
            name = f"tuned:{of.user}" + (":shuffled" if of.answers == "shuffled" else "")
            name += f"+{of.safety_examples}:{of.mitigation}" if of.safety_examples else ""
        else:
            data = self.objective.data
            family = "" if data.unsafe == "unsafe" else f":{data.unsafe}"
            answered = ":answered" if not family and data.answer == "instructed" else ""
            nll = "+nll" if isinstance(self.objective, DPO) and self.objective.nll else ""
            name = type(self.objective).__name__.lower() + nll + family + answered
        return name + ("+lora" if self.lora else "")

    @property
    def settings(self) -> str:
        """The numbers of the objective, as `beta=0.1 nll=1`."""
        values = {f.name: getattr(self.objective, f.name) for f in fields(self.objective)}
        return " ".join(
            f"{name}={value:g}" for name, value in values.items() if isinstance(value, int | float)
        )


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

    @property
    def base(self) -> Recipe:
        """The pretrained model of the same line."""
        return replace(self, alignments=())

    @property
    def lineage(self) -> tuple[Recipe, ...]:
        """Base, …, this one: every training that it takes."""
        return (*(self.parent.lineage if self.alignments else ()), self)

    @property
    def mechanism(self) -> str:
        """The alignments by name, joined by `>`; `base` for none."""
        return ">".join(alignment.mechanism for alignment in self.alignments) or "base"

    def label(self) -> str:
        return f"seed {self.seed} {self.mechanism if self.alignments else 'pretraining'}"


def build(recipe: Recipe, store: Store) -> Path:
    """The folder of the recipe's model, trained now if it is not in the store; parents first."""
    world = load_world(recipe.world)
    config = to_json(recipe) | {"world_is": world.fingerprint}
    mixed = {of.objective.mitigation for of in recipe.alignments if isinstance(of.objective, Mixed)}
    config |= {f"{name} is": own for name in sorted(mixed - {"none"}) if (own := digest(name))}
    if not recipe.alignments:

        def pretrain(folder: Path) -> None:
            d_vocab, n_ctx = len(world.vocabulary), world.sequence_length
            model = create(recipe.model, d_vocab=d_vocab, n_ctx=n_ctx, seed=recipe.seed)
            train(
                model,
                recipe.pretraining,
                recipe.optimisation,
                world,
                folder,
                seed=recipe.seed,
                label=recipe.label(),
            )

        return store.build("pretraining", revision=REVISION, config=config, make=pretrain)

    parent, stage = build(recipe.parent, store), recipe.alignments[-1]

    def align(folder: Path) -> None:
        model = load(parent, symbols=world.vocabulary.symbols)
        seed = recipe.seed + _STAGE_SEEDS * len(recipe.alignments)  # every stage sees other requests
        if stage.lora:
            stage.lora.attach(model, seed=seed)
        train(model, stage.objective, stage.optimisation, world, folder, seed=seed, label=recipe.label())

    return store.build("alignment", revision=REVISION, config=config, parents=[parent], make=align)


def checkpoints(folder: Path) -> dict[int, Path]:
    """Folders of the models of a run by step, the last one the run's own."""
    config = record(folder)["config"]
    last = (config["alignments"][-1]["optimisation"] if config["alignments"] else config["optimisation"])[
        "steps"
    ]
    kept = sorted((folder / CHECKPOINTS).glob("*")) if (folder / CHECKPOINTS).is_dir() else []
    return {int(path.name): path for path in kept} | {last: folder}
