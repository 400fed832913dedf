"""A preset: which models of the composition worlds are trained, how, and how much is measured of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from experiments.recipes.composition.arms import (
    ARMS,
    DOSE_ARMS,
    METHODS,
    OBJECTIVES,
    PAPER_MIXTURE,
    Arm,
    Mixture,
)
from makebreak.models import ModelConfig
from makebreak.recipes import Alignment, Recipe
from makebreak.training import (
    DPO,
    SSFT,
    AlignmentData,
    AlignmentObjective,
    LoRA,
    Optimisation,
    Pretraining,
)


@dataclass(frozen=True)
class Preset:
    """Models and sizes of one preset. Mappings by world have the names of `worlds` as keys."""

    name: str
    """Name of the preset."""
    worlds: tuple[str, ...]
    """Worlds that the study can be run in; the first is the default."""
    model: ModelConfig
    """Architecture of all models."""
    seeds: tuple[int, ...]
    """Pretraining seeds."""
    arms: tuple[str, ...]
    """Arms that are trained in the study's world."""
    pretraining: Mapping[str, Pretraining]
    """Pretraining objective by world."""
    pretraining_optimisation: Mapping[str, Optimisation]
    """Optimisation of pretraining by world."""
    alignment_optimisation: Mapping[str, Optimisation]
    """Optimisation of alignment by world, whose learning rate each method replaces by its own."""
    dpo_warm_share: float
    """Share of DPO's steps that are an SSFT warm start."""
    rates: Mapping[str, Mapping[str, float]]
    """Learning rate η_M by world and method."""
    failing: Mapping[str, tuple[str, ...]]
    """Methods of which no rate passes the checks, by world."""
    scales: Mapping[str, Mapping[str, float]]
    """Multiple of its method's rates by world and matched control; 1 if not given."""
    n_requests: int
    """Requests per family and split."""
    gate: Mapping[str, Optimisation]
    """Training of the classifier that has to tell a world's branches apart before the study runs, by
    world."""
    mixture: Mixture = PAPER_MIXTURE
    """Shares of the requests that alignments train on."""
    weak_strength: Mapping[str, float] = field(default_factory=dict)
    """Multiple of SSFT's η_M, by world, of the weakly tuned model that still answers safe requests; 1 if not
    given."""
    extra_checkpoints: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Steps of every stage, by world, after which methods are saved too, beside those that are evenly
    spaced."""
    thorough: bool = False
    """Whether activations of checkpoints are measured, and safety is also trained with a constrained
    update."""
    n_attacked: int = 80
    """Refused requests per attack, at most."""
    objectives: Mapping[str, AlignmentObjective] = field(default_factory=dict)
    """Objectives in place of those of all presets, by method or by arm; an arm's own comes first."""
    families: Mapping[str, AlignmentData] = field(default_factory=dict)
    """Families that an arm is trained on in place of its own, by arm."""
    published: bool = False
    """Whether τ is also measured in the definition of the published figure."""
    attacked_worlds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Arms by other world in which models are attacked as well when the study runs in its default world."""

    def other_worlds(self, world: str) -> Mapping[str, tuple[str, ...]]:
        """Arms by other world that are attacked as well when the study runs in `world`."""
        return self.attacked_worlds if world == self.worlds[0] else {}

    def recipe(
        self, world: str, seed: int, arm: str, *, rate: float | None = None, scale: float | None = None
    ) -> Recipe:
        """Training of one model; all methods take the same number of steps.

        Args:
            world: Name of the world.
            seed: Pretraining seed.
            arm: Name of the arm.
            rate: Learning rate of the last stage; None for the preset's.
            scale: Multiple of the method's rates; None for the preset's.

        Returns:
            The recipe with all stages.
        """
        spec = ARMS[arm]
        pretraining = replace(self.pretraining[world], family=spec.requests)
        base = Recipe(world, self.model, pretraining, self.pretraining_optimisation[world], (), seed)
        if spec.method is None:
            return base
        whole = self._optimisation(world, arm)
        eta = self.rates[world]
        if spec.method == "continued":
            later = replace(
                pretraining, modes_start=pretraining.modes_end
            )  # the curriculum of pretraining has ended
            return replace(base, alignments=(Alignment(later, replace(whole, learning_rate=eta["ssft"])),))
        data, eta_m = self.families.get(arm, spec.data), spec.rate or eta[spec.method]
        objective = self._objective(self.objective(arm), data)
        multiple = self._strength(world, spec) * (
            self.scales.get(world, {}).get(arm, 1.0) if scale is None else scale
        )
        last_rate = multiple * eta_m if rate is None else rate
        if isinstance(objective, DPO) and spec.warm:
            share, warm_rate = self.dpo_warm_share, multiple * (spec.rate or eta["ssft"])
            warm = Alignment(self._objective(SSFT(), data), _part(whole, share, warm_rate))
            last = Alignment(objective, _part(whole, 1 - share, last_rate))
            return replace(base, alignments=(warm, last))
        optimisation = replace(whole, learning_rate=last_rate)
        return replace(base, alignments=(Alignment(objective, optimisation, LoRA() if spec.lora else None),))

    def objective(self, arm: str) -> AlignmentObjective:
        """Objective of the last stage of an arm, before its families are chosen."""
        spec = ARMS[arm]
        assert spec.method is not None
        known = {**OBJECTIVES, **self.objectives}
        return spec.objective or known.get(arm) or known[spec.method]

    def _optimisation(self, world: str, arm: str) -> Optimisation:
        """Optimisation of all stages after pretraining of an arm, at the learning rate of the preset."""
        spec, whole = ARMS[arm], self.alignment_optimisation[world]
        if arm in (*METHODS, *DOSE_ARMS):
            whole = replace(whole, extra_checkpoints=self.extra_checkpoints.get(world, ()))
        if spec.weight_decay is not None:
            whole = replace(whole, weight_decay=spec.weight_decay)
        return replace(whole, steps=spec.steps or whole.steps)

    def _objective(self, objective: AlignmentObjective, data: AlignmentData) -> AlignmentObjective:
        """The objective on the families of an arm, in the shares of the preset."""
        return replace(objective, data=self.mixture.of(objective, data))

    def _strength(self, world: str, spec: Arm) -> float:
        """Multiple of η_M in an arm."""
        return spec.strength * (self.weak_strength.get(world, 1.0) if spec.weak else 1.0)


def _part(whole: Optimisation, share: float, rate: float) -> Optimisation:
    """Optimisation of a share of the alignment steps at a rate."""
    return replace(whole, steps=round(share * whole.steps), learning_rate=rate)
