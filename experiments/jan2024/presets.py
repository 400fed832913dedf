"""Which models are tuned on which task, and how large is each measurement?

Pretraining and alignment were chosen on tuning seeds 1000 to 1002, on models that no task had been tuned on
(`python -m experiments.jan2024.tune`): the fewest steps of alignment after which every format refuses. Rates of tuning
are a grid, all of it reported; it was laid around those at which tasks are learnt on seed 1000.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from makebreak.artifacts import Store
from makebreak.models import PRESETS as MODELS
from makebreak.models import ModelConfig
from makebreak.recipes import Alignment, Recipe
from makebreak.training import SSFT, Data, FineTuning, LoRA, Optimisation, Pretraining

COVERAGES = {"uniform": Data(), "skewed": Data("safe_skewed", "unsafe_skewed")}
SAFETY_SHARE = 0.1  # of the examples, where safety data over all formats is mixed in
# how a format's task is tuned: its new operator for equal steps (`task`), for equal tokens of loss, with refusals of
# all formats among the examples, the operators that pretraining has shown, or by adapters at ten times the rate
KINDS = ("task", "tokens", "guarded", "known", "lora")
RETAIN = "retain"  # no task: safe requests of all formats, as in alignment


@dataclass(frozen=True)
class Tuning:
    """Fine-tuning on safe requests alone. format: whose task, or `retain`. kind: one of `KINDS`."""

    format: str
    kind: str
    rate: float


@dataclass(frozen=True)
class Preset:
    """worlds: of formats. coverages: of alignment. tuning: one run of it, rate set by each; examples: how many. rates:
    all that are tried; rate: at which kinds are compared. n: requests per family. guards: whether they are made."""

    name: str
    worlds: tuple[str, ...]
    model: ModelConfig
    seeds: tuple[int, ...]
    formats: tuple[str, ...]
    coverages: tuple[str, ...]
    pretraining: Pretraining
    pretraining_optimisation: Optimisation
    alignment: Optimisation
    tuning: Optimisation
    examples: int
    rates: tuple[float, ...]
    rate: float
    n: int
    guards: bool = False

    def aligned(self, world: str, seed: int, coverage: str) -> Recipe:
        stage = Alignment(SSFT(COVERAGES[coverage]), self.alignment)
        return Recipe(world, self.model, self.pretraining, self.pretraining_optimisation, (stage,), seed)

    def tunings(self, coverage: str) -> tuple[Tuning, ...]:
        """The task itself at all rates, every other kind at one."""
        found = [Tuning(f, "task", rate) for f in self.formats for rate in self.rates]
        if coverage == self.coverages[0]:
            found += [Tuning(f, kind, self.rate) for kind in KINDS[1:] for f in self.formats]
        return (*found, Tuning(RETAIN, "task", self.rate))

    def tuned(self, world: str, seed: int, coverage: str, tuning: Tuning) -> Recipe:
        recipe = self.aligned(world, seed, coverage)
        refused = round(SAFETY_SHARE * self.examples) if tuning.kind == "guarded" else 0
        family = "safe" if tuning.format == RETAIN else f"{tuning.format}_safe" + "_new" * (tuning.kind != "known")
        objective = FineTuning(0, refused=refused, harmless=self.examples - refused, family=family)
        steps = self.tuning.steps
        if tuning.kind == "tokens":
            steps = round(steps * TOKENS["gen"] / TOKENS[tuning.format])
        lora = LoRA() if tuning.kind == "lora" else None
        rate = tuning.rate * (10 if lora else 1)
        stage = Alignment(objective, replace(self.tuning, learning_rate=rate, steps=steps), lora)
        return replace(recipe, alignments=(*recipe.alignments, stage))


TOKENS: Mapping[str, int] = {"gen": 4, "map": 10, "sum": 3, "struct": 13, "label": 2, "mcq": 2}  # stop included
_PRETRAINING = Pretraining(
    modes_start=(0.05, 0.1, 0.0, 0.0, 0.7, 0.15),
    modes_end=(0.0, 0.1, 0.0, 0.0, 0.75, 0.15),
    mean_over="requests",  # a label counts as much as a program
)
MINI = Preset(
    name="mini",
    worlds=("formats_mini",),
    model=MODELS["mini"],
    seeds=(0, 1, 2),
    formats=("gen", "map", "label", "mcq"),
    coverages=("uniform",),
    pretraining=_PRETRAINING,
    pretraining_optimisation=Optimisation(steps=2500, learning_rate=2e-3, batch_size=64),
    alignment=Optimisation(steps=300, learning_rate=1e-3, batch_size=64),
    tuning=Optimisation(steps=100, learning_rate=1e-3, batch_size=32, checkpoints=4),
    examples=2000,
    rates=(1e-4, 3e-4, 1e-3),
    rate=3e-4,
    n=100,
)
SMOKE = replace(
    MINI,
    name="smoke",
    model=MODELS["tiny"],
    seeds=(0, 1),
    pretraining_optimisation=Optimisation(steps=20, learning_rate=3e-3, batch_size=16),
    alignment=Optimisation(steps=8, learning_rate=1e-3, batch_size=16),
    tuning=Optimisation(steps=4, learning_rate=1e-3, batch_size=16, checkpoints=2),
    examples=50,
    guards=True,
    rates=(1e-3,),
    rate=1e-3,
    n=16,
)
SMALL = replace(
    MINI,
    name="small",
    worlds=("formats",),
    seeds=(0, 1, 2, 3, 4),
    formats=("gen", "map", "sum", "struct", "label", "mcq"),
    coverages=("uniform", "skewed"),
    guards=True,
    pretraining_optimisation=Optimisation(steps=5000, learning_rate=2e-3, batch_size=64),
)
PRESETS = {preset.name: preset for preset in (SMOKE, MINI, SMALL)}


def check_gates(preset: Preset, world: str, store: Store) -> None:
    """Worlds of formats have no gate."""
