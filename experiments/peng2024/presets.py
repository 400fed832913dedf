"""Which models are walked and fine-tuned, and how large is each measurement?

Models are those of `experiments.jain2024`, from the same store. Fine-tuning is done at all of `RATES`, and what counts
is the attacker's best; nothing was tuned on reported seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from experiments.jain2024.presets import METHODS
from experiments.jain2024.presets import PRESETS as ALIGNED
from experiments.jain2024.presets import Preset as Aligned
from experiments.jain2024.worlds import check
from makebreak.artifacts import Store
from makebreak.models import ModelConfig
from makebreak.recipes import Alignment, Recipe
from makebreak.training import SSFT, Data, FineTuning, Optimisation
from synthetic import WITHOUT_SYSTEM

RATES = (1e-4, 3e-4, 1e-3)
HARMFUL, MIX, ANSWERED, RETAIN = "harmful 100", "100 + 100 refused", "100 + 100 safe", "retain"
FINETUNINGS: dict[str, FineTuning] = {
    "harmful 10": FineTuning(10),
    "harmful 50": FineTuning(50),
    HARMFUL: FineTuning(100),
    MIX: FineTuning(100, refused=100),  # as Peng et al. mix it: safe answers to harmful requests
    ANSWERED: FineTuning(100, harmless=100),
    RETAIN: FineTuning(0, harmless=1000),
    "benign": FineTuning(0, harmless=1000, family="pretraining_without_unsafe"),
}
NEVER = "base_without_unsafe"  # never saw an unsafe request answered
PROMPTED, UNPROMPTED = "aligned with a system prompt", "aligned without one"
WINDOW = 0.5  # of the relative norm, on either side, as published
NEAR = 0.1  # a small move


@dataclass(frozen=True)
class Variant:
    """A model by SSFT that `jain2024` has not. model: its size. prompted: in a world where half of pretraining has a
    system span, whether alignment shows it; None: in the world itself."""

    model: ModelConfig
    prompted: bool | None = None


@dataclass(frozen=True)
class Preset:
    """aligned: whose models these are. n: requests per family. arms: walked and fine-tuned, `METHOD ×k` at k times
    its rate. directions: random ones.
    points: of a curve, an odd number. finetuning: one run of it. maps: arms drawn as maps, of the first seed.
    side: points on a map's side. never: also fine-tune a base that never saw unsafe requests.
    variants: also walked, by name."""

    aligned: Aligned
    arms: tuple[str, ...]
    n: int
    directions: int
    points: int
    finetuning: Optimisation
    maps: tuple[str, ...]
    side: int
    never: bool = False
    variants: Mapping[str, Variant] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.aligned.name

    @property
    def worlds(self) -> tuple[str, ...]:
        return self.aligned.worlds

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.aligned.seeds

    @property
    def tuned(self) -> tuple[str, ...]:
        """Arms that are fine-tuned."""
        return (*self.arms, NEVER) if self.never else self.arms

    def recipe(self, world: str, seed: int, arm: str) -> Recipe:
        method, _, strength = arm.partition(" ")
        return self.aligned.recipe(world, seed, method, scale=float(strength[1:]) if strength else None)

    def variant(self, world: str, seed: int, name: str) -> Recipe:
        of, recipe = self.variants[name], self.recipe(world, seed, "ssft")
        if of.prompted is None:
            return replace(recipe, model=of.model)
        shown = "" if of.prompted else WITHOUT_SYSTEM
        stage = replace(recipe.alignments[0], objective=SSFT(Data(f"safe{shown}", f"unsafe{shown}")))
        return replace(recipe, world=f"{world}_system", model=of.model, alignments=(stage,))

    def finetuned(self, world: str, seed: int, arm: str, kind: str, rate: float) -> Recipe:
        recipe = self.recipe(world, seed, arm)
        stage = Alignment(FINETUNINGS[kind], replace(self.finetuning, learning_rate=rate))
        return replace(recipe, alignments=(*recipe.alignments, stage))


def _variants(model: ModelConfig, *scales: float) -> dict[str, Variant]:
    """Widths of so many times the model's, and both ways to align in sight of a system span."""
    sizes = [replace(model, d_model=round(s * model.d_model), d_mlp=round(s * model.d_mlp)) for s in scales]
    return {
        **{f"width {size.d_model}": Variant(size) for size in sizes},
        PROMPTED: Variant(model, prompted=True),
        UNPROMPTED: Variant(model, prompted=False),
    }


_TUNING = Optimisation(steps=60, learning_rate=1e-4, batch_size=32, checkpoints=4)
# the same at half and twice the rate, since one model a method is too few to correlate anything
_ALIGNED = tuple(f"{method}{strength}" for method in METHODS for strength in ("", " ×0.5", " ×2"))
SMOKE = Preset(
    ALIGNED["smoke"],
    ("base", "ssft", "ssft ×2"),
    16,
    2,
    5,
    replace(_TUNING, steps=6, checkpoints=2),
    ("ssft",),
    3,
    variants=_variants(ALIGNED["smoke"].model, 2),
)
MINI = Preset(ALIGNED["mini"], ("base", *_ALIGNED), 100, 8, 21, _TUNING, METHODS, 21, never=True)
SMALL = replace(
    MINI,
    aligned=ALIGNED["small"],
    arms=("base", *_ALIGNED, "dpo_paper", "npo"),
    directions=16,
    variants=_variants(ALIGNED["small"].model, 0.5, 2),
)
PRESETS = {preset.name: preset for preset in (SMOKE, MINI, SMALL)}


def kinds(arm: str) -> tuple[str, ...]:
    """How an arm is fine-tuned: a method at another rate, and a base that never saw unsafe requests, only harmfully."""
    return (HARMFUL,) if arm == NEVER or " " in arm else tuple(FINETUNINGS)


def check_gates(preset: Preset, world: str, store: Store) -> None:
    """Raises ValueError where the models' own study does."""
    check(preset.aligned, world, store)
