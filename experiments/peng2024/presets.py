"""Which models are walked and fine-tuned, and how large is each measurement?

Models are those of `experiments.jain2024`, from the same store. Fine-tuning is done at all of `RATES`, and what counts
is the attacker's best; nothing was tuned on reported seeds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from experiments.jain2024.presets import METHODS
from experiments.jain2024.presets import PRESETS as ALIGNED
from experiments.jain2024.presets import Preset as Aligned
from experiments.jain2024.worlds import check
from makebreak.artifacts import Store
from makebreak.recipes import Alignment, Recipe
from makebreak.training import FineTuning, Optimisation

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
WINDOW = 0.5  # of the relative norm, on either side, as published
NEAR = 0.1  # a small move


@dataclass(frozen=True)
class Preset:
    """aligned: whose models these are. n: requests per family. arms: walked and fine-tuned, `METHOD ×k` at k times
    its rate. directions: random ones.
    points: of a curve, an odd number. finetuning: one run of it. maps: arms drawn as maps, of the first seed.
    side: points on a map's side. never: also fine-tune a base that never saw unsafe requests."""

    aligned: Aligned
    arms: tuple[str, ...]
    n: int
    directions: int
    points: int
    finetuning: Optimisation
    maps: tuple[str, ...]
    side: int
    never: bool = False

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

    def finetuned(self, world: str, seed: int, arm: str, kind: str, rate: float) -> Recipe:
        recipe = self.recipe(world, seed, arm)
        stage = Alignment(FINETUNINGS[kind], replace(self.finetuning, learning_rate=rate))
        return replace(recipe, alignments=(*recipe.alignments, stage))


_TUNING = Optimisation(steps=60, learning_rate=1e-4, batch_size=32, checkpoints=4)
# the same at half and twice the rate, since one model a method is too few to correlate anything
_ALIGNED = tuple(f"{method}{strength}" for method in METHODS for strength in ("", " ×0.5", " ×2"))
SMOKE = Preset(
    ALIGNED["smoke"], ("base", "ssft", "ssft ×2"), 16, 2, 5, replace(_TUNING, steps=6, checkpoints=2), ("ssft",), 3
)
MINI = Preset(ALIGNED["mini"], ("base", *_ALIGNED), 100, 8, 21, _TUNING, METHODS, 21, never=True)
SMALL = replace(MINI, aligned=ALIGNED["small"], arms=("base", *_ALIGNED, "dpo_paper", "npo"), directions=16)
PRESETS = {preset.name: preset for preset in (SMOKE, MINI, SMALL)}


def kinds(arm: str) -> tuple[str, ...]:
    """How an arm is fine-tuned: a method at another rate, and a base that never saw unsafe requests, only harmfully."""
    return (HARMFUL,) if arm == NEVER or " " in arm else tuple(FINETUNINGS)


def check_gates(preset: Preset, world: str, store: Store) -> None:
    """Raises ValueError where the models' own study does."""
    check(preset.aligned, world, store)
