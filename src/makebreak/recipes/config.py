"""Recipes of models: world, size, pretraining, alignments, and the engine that trains them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

import makebreak.defences  # noqa: F401  (registers `MixedFineTuning`, which a stored recipe may name)
from makebreak.configs import key_name
from makebreak.models import ModelConfig
from makebreak.training import (
    AlignmentData,
    LoRA,
    MuonOptimisation,
    Objective,
    Optimisation,
    Pretraining,
    TrainedLayers,
    UpdateSubspace,
)

ENGINE_VARIABLE = "MAKEBREAK_ENGINE"
"""Environment variable that names the engine of recipes without one, ENGINE:DEVICE, such as stacked:cuda."""


@dataclass(frozen=True)
class Engine:
    """What trains a model: engines and devices round differently, so that they are part of a model's key."""

    tag: ClassVar[str] = "Engine"
    name: Literal["single", "stacked"] = "single"
    """One model at a time, or many models of one architecture in one step."""
    device: str = "cpu"
    """`cpu`, or the type of an accelerator."""

    @classmethod
    def from_name(cls, name: str) -> Engine:
        """Returns the engine of a string ENGINE:DEVICE; raises ValueError for any other string."""
        engine, _, device = name.partition(":")
        if engine not in ("single", "stacked") or device not in ("cpu", "cuda"):
            raise ValueError(f"engine {name!r}: expected single or stacked, a colon, and cpu or cuda")
        return cls(engine, device)

    @classmethod
    def default(cls) -> Engine:
        """Returns the engine that `ENGINE_VARIABLE` names; where it is unset, single models on the CPU."""
        return cls.from_name(os.environ.get(ENGINE_VARIABLE) or str(cls()))

    def __str__(self) -> str:
        return f"{self.name}:{self.device}"


@dataclass(frozen=True)
class Alignment:
    """One training stage after pretraining: safety fine-tuning, a control, or fine-tuning afterwards."""

    tag: ClassVar[str] = "Alignment"
    objective: Objective
    """What is trained on and the loss; `Pretraining` continues pretraining as a control."""
    optimisation: Optimisation | MuonOptimisation
    """Steps, learning rate, batch size and the other settings of the optimiser."""
    lora: LoRA | None = None
    """Low-rank adapters that are trained in place of all weights; None trains all weights."""
    constraint: TrainedLayers | UpdateSubspace | None = field(default=None, metadata={"omit": None})
    """Part of the weights that is trained, where it is not all of them."""

    @property
    def mechanism(self) -> str:
        """Name of the stage in tables and figures, such as `ssft` or `dpo+nll`.

        A family after a colon, as in `ssft:sham_unsafe+lora`, is refused (or answered) in place of the unsafe
        requests; `+nll` marks a weight on the preferred answer's own likelihood, `+lora` adapters,
        and `+lower`, `+upper`, `+left null` or `+column` the part of the weights that is trained.
        """
        parts = [self.objective.describe(), *(["lora"] if self.lora else [])]
        if isinstance(self.constraint, TrainedLayers):
            parts.append(self.constraint.part)
        if isinstance(self.constraint, UpdateSubspace):
            parts.append(self.constraint.space)
        return "+".join(parts)

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
    optimisation: Optimisation | MuonOptimisation
    """Optimiser settings of pretraining."""
    alignments: tuple[Alignment, ...]
    """Training stages after pretraining, in order; none gives the base model."""
    seed: int
    """Pretraining seed; all stages derive their seeds from it."""
    engine: Engine = field(default_factory=Engine.default, metadata={"omit": Engine()})
    """What trains the model, and on which device."""

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
