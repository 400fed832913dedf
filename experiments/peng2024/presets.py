"""Presets of the study: models whose landscapes are measured, fine-tuning attacks on them, and sample sizes.

Models are those of `jain2024`, from the same store. Every attack is run at all of `RATES`, and
the rate that ends with most unsafe requests answered counts; nothing was tuned on reported seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from experiments.recipes import composition
from experiments.recipes.composition import METHODS
from experiments.recipes.learnability import check_learnable
from makebreak.models import ModelConfig
from makebreak.recipes import Alignment, Recipe
from makebreak.store import Store
from makebreak.training import SSFT, FineTuning, Optimisation
from synthetic import WITHOUT_SYSTEM_SUFFIX

RATES = (1e-4, 3e-4, 1e-3)
"""Learning rates of every fine-tuning attack."""
HARMFUL = "harmful 100"
"""Attack by 100 unsafe requests with their instructed answers."""
WITH_REFUSALS = "100 + 100 refused"
"""The same attack with 100 refusals of other unsafe requests, the mix of Peng et al. 2024."""
WITH_SAFE = "100 + 100 safe"
"""The same attack with 100 safe requests and their instructed answers."""
SAFE_ONLY = "retain"
"""Fine-tuning on 1,000 safe requests alone."""
BENIGN = "benign"
"""Fine-tuning on 1,000 requests as in pretraining, without unsafe ones."""
ATTACKS: dict[str, FineTuning] = {
    "harmful 10": FineTuning(10),
    "harmful 50": FineTuning(50),
    HARMFUL: FineTuning(100),
    WITH_REFUSALS: FineTuning(100, n_refused=100),
    WITH_SAFE: FineTuning(100, n_harmless=100),
    SAFE_ONLY: FineTuning(0, n_harmless=1000),
    BENIGN: FineTuning(0, n_harmless=1000, family="pretraining_without_unsafe"),
}
"""Objectives of the fine-tuning attacks by name."""
UNEXPOSED_BASE = "base_without_unsafe"
"""Arm of a base whose pretraining contained no unsafe request."""
WITH_SYSTEM, WITHOUT_SYSTEM = "aligned with a system prompt", "aligned without one"
"""Variants in a world with system spans: alignment data contain the span, or do not."""
MAX_NORM = 0.5
"""Largest relative norm of a perturbation, on either side of the origin, as published."""
SMALL_NORM = 0.1
"""Relative norm up to which a perturbation counts as small."""


@dataclass(frozen=True)
class Variant:
    """A model aligned by SSFT that `jain2024` does not train."""

    model: ModelConfig
    """Size of the model."""
    system_in_alignment: bool | None = None
    """Whether alignment data contain the system span, in a world where half of pretraining does; None for the
    preset's own world, which has no system span."""


@dataclass(frozen=True)
class Preset:
    """Size of the study."""

    models: composition.Preset
    """Preset of `jain2024` whose models are used."""
    arms: tuple[str, ...]
    """Models that are perturbed and fine-tuned; `METHOD ×k` is a method at k times its learning rate."""
    n: int
    """Held-out requests per family."""
    directions: int
    """Number of random directions."""
    points: int
    """Points of a curve, an odd number."""
    attack: Optimisation
    """Settings of one fine-tuning attack; the learning rate is set by `RATES`."""
    mapped_arms: tuple[str, ...]
    """Models of the first seed whose planes are evaluated; the first one also in the plane of two attacks."""
    map_points: int
    """Points per side of a plane."""
    include_unexposed_base: bool = False
    """Whether the base without unsafe requests is fine-tuned too."""
    variants: Mapping[str, Variant] = field(default_factory=dict)
    """Further models that are perturbed, by name."""

    @property
    def name(self) -> str:
        """Name of the preset."""
        return self.models.name

    @property
    def worlds(self) -> tuple[str, ...]:
        """Worlds that the preset can run in; the first is the default."""
        return self.models.worlds

    @property
    def seeds(self) -> tuple[int, ...]:
        """Pretraining seeds."""
        return self.models.seeds

    @property
    def attacked_arms(self) -> tuple[str, ...]:
        """Models that are fine-tuned."""
        return (*self.arms, UNEXPOSED_BASE) if self.include_unexposed_base else self.arms

    def recipe(self, world: str, seed: int, arm: str) -> Recipe:
        """Recipe of an arm before any attack."""
        method, _, strength = arm.partition(" ")
        return self.models.recipe(world, seed, method, scale=float(strength[1:]) if strength else None)

    def variant_recipe(self, world: str, seed: int, name: str) -> Recipe:
        """Recipe of one of the `variants`."""
        variant, recipe = self.variants[name], self.recipe(world, seed, "ssft")
        if variant.system_in_alignment is None:
            return replace(recipe, model=variant.model)
        suffix = "" if variant.system_in_alignment else WITHOUT_SYSTEM_SUFFIX
        stage = recipe.alignments[0]
        data = stage.objective.alignment_data
        assert data
        families = {name: getattr(data, name) for name in ("safe", "unsafe", "unsafe_second")}
        data = replace(data, **{name: f"{family}{suffix}" for name, family in families.items() if family})
        stage = replace(stage, objective=SSFT(data))
        return replace(recipe, world=f"{world}_system", model=variant.model, alignments=(stage,))

    def attack_recipe(self, world: str, seed: int, arm: str, attack: str, rate: float) -> Recipe:
        """Recipe of an arm after one of the `ATTACKS` at a learning rate."""
        recipe = self.recipe(world, seed, arm)
        stage = Alignment(ATTACKS[attack], replace(self.attack, learning_rate=rate))
        return replace(recipe, alignments=(*recipe.alignments, stage))


def _variants(model: ModelConfig, *scales: float) -> dict[str, Variant]:
    """Models of scaled widths, and both alignments in a world with system spans."""
    sizes = [replace(model, d_model=round(s * model.d_model), d_mlp=round(s * model.d_mlp)) for s in scales]
    return {
        **{f"width {size.d_model}": Variant(size) for size in sizes},
        WITH_SYSTEM: Variant(model, system_in_alignment=True),
        WITHOUT_SYSTEM: Variant(model, system_in_alignment=False),
    }


_ATTACK = Optimisation(steps=60, learning_rate=1e-4, batch_size=32, checkpoints=4)
# each method also at half and at twice its rate: one model per method is too few for a rank correlation
_ALIGNED = tuple(f"{method}{strength}" for method in METHODS for strength in ("", " ×0.5", " ×2"))
SMOKE = Preset(
    models=composition.PRESETS["smoke"],
    arms=("base", "ssft", "ssft ×2"),
    n=16,
    directions=2,
    points=5,
    attack=replace(_ATTACK, steps=6, checkpoints=2),
    mapped_arms=("ssft",),
    map_points=3,
    variants=_variants(composition.PRESETS["smoke"].model, 2),
)
MINI = Preset(
    models=composition.PRESETS["mini"],
    arms=("base", *_ALIGNED),
    n=100,
    directions=8,
    points=21,
    attack=_ATTACK,
    mapped_arms=METHODS,
    map_points=21,
    include_unexposed_base=True,
)
SMALL = replace(
    MINI,
    models=composition.PRESETS["small"],
    arms=("base", *_ALIGNED, "dpo_paper", "npo"),
    directions=16,
    variants=_variants(composition.PRESETS["small"].model, 0.5, 2),
)
PRESETS = {preset.name: preset for preset in (SMOKE, MINI, SMALL)}
"""Presets by name."""


def attacks_on(arm: str) -> tuple[str, ...]:
    """Names of the attacks on an arm: all, or `HARMFUL` alone for scaled rates and the unexposed base."""
    return (HARMFUL,) if arm == UNEXPOSED_BASE or " " in arm else tuple(ATTACKS)


def check_world(preset: Preset, world: str, store: Store) -> None:
    """Checks that the models can learn the world (see `Study.gates`)."""
    check_learnable(preset.models, world, store)
