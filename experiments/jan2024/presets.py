"""Which models are tuned on which task, and how large is each measurement?

Pretraining and alignment were chosen on tuning seeds 1000 to 1002, on models that no task had been tuned on
(`python -m experiments.jan2024.tune`): the fewest steps of alignment after which every format refuses. Rates of tuning
are a grid, all of it reported; it was laid around those at which tasks are learnt on seed 1000.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from makebreak.artifacts import Store
from makebreak.defences import Mixed
from makebreak.models import PRESETS as MODELS
from makebreak.models import ModelConfig
from makebreak.recipes import Alignment, Recipe
from makebreak.training import SSFT, Data, FineTuning, LoRA, Optimisation, Pretraining

COVERAGES = {"uniform": Data(), "skewed": Data("safe_skewed", "unsafe_skewed")}
SAFETY_SHARE = 0.1  # of the examples, where safety data over all formats is mixed in
# how a format's task is tuned: its new operator for equal steps (`task`), for equal tokens of loss, the operators that
# pretraining has shown, by adapters at ten times the rate, or with refusals among the examples: of all formats, of open
# text alone, or of all formats but its own
GUARDED = {"guarded": "multitask", "guarded_gen": "canonical", "guarded_others": "without_own"}
KINDS = ("task", "tokens", "known", "lora", *GUARDED)
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
    all that are tried; rate: at which kinds are compared. n: requests per family. guards: whether guards are made, and
    safety data that leave formats out. templated: the same in a world of templates, None where it is left out."""

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
    templated: Preset | None = None

    def aligned(self, world: str, seed: int, coverage: str) -> Recipe:
        stage = Alignment(SSFT(COVERAGES[coverage]), self.alignment)
        return Recipe(world, self.model, self.pretraining, self.pretraining_optimisation, (stage,), seed)

    def tunings(self, coverage: str) -> tuple[Tuning, ...]:
        """The task itself at all rates, every other kind at one."""
        found = [Tuning(f, "task", rate) for f in self.formats for rate in self.rates]
        if coverage == self.coverages[0]:
            kinds = KINDS[1:] if self.guards else KINDS[1:5]
            found += [Tuning(f, kind, self.rate) for kind in kinds for f in self.formats]
        return (*found, Tuning(RETAIN, "task", self.rate))

    def tuned(self, world: str, seed: int, coverage: str, tuning: Tuning) -> Recipe:
        recipe = self.aligned(world, seed, coverage)
        family = (
            "safe" if tuning.format == RETAIN else f"{tuning.format}_safe" + "_new" * (tuning.kind != "known")
        )
        objective: FineTuning | Mixed = FineTuning(0, harmless=self.examples, family=family)
        if tuning.kind in GUARDED:
            objective = Mixed(family, self.examples, GUARDED[tuning.kind], SAFETY_SHARE)
        steps = self.tuning.steps
        if tuning.kind == "tokens":
            steps = round(steps * TOKENS["gen"] / TOKENS[tuning.format])
        lora = LoRA() if tuning.kind == "lora" else None
        rate = tuning.rate * (10 if lora else 1)
        stage = Alignment(objective, replace(self.tuning, learning_rate=rate, steps=steps), lora)
        return replace(recipe, alignments=(*recipe.alignments, stage))


TOKENS: Mapping[str, int] = {
    "gen": 4,
    "map": 10,
    "sum": 3,
    "struct": 13,
    "label": 2,
    "mcq": 2,
}  # stop included
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
# behind templates labels are learnt later (.5 at 2,500 steps of MINI, seed 1000): they are asked for more often, and
# all longer (4,000 steps at 3e-3 left choices at .65 on seed 1001); alignment at a third of the rate refuses as much,
# and forgets less of templates that it does not show
TEMPLATED = replace(
    MINI,
    name="templated",
    worlds=("formats_templates",),
    seeds=(0, 1, 2, 3, 4),
    pretraining=replace(
        _PRETRAINING, modes_start=(0.05, 0.1, 0.0, 0.0, 0.55, 0.3), modes_end=(0.0, 0.1, 0.0, 0.0, 0.6, 0.3)
    ),
    pretraining_optimisation=Optimisation(steps=5000, learning_rate=2e-3, batch_size=64),
    alignment=Optimisation(steps=300, learning_rate=3e-4, batch_size=64),
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
SMOKE = replace(SMOKE, templated=replace(SMOKE, worlds=TEMPLATED.worlds, formats=("gen", "map")))
SMALL = replace(
    MINI,
    name="small",
    worlds=("formats",),
    seeds=(0, 1, 2, 3, 4),
    formats=("gen", "map", "sum", "struct", "label", "mcq"),
    coverages=("uniform", "skewed"),
    guards=True,
    templated=TEMPLATED,
    pretraining_optimisation=Optimisation(steps=5000, learning_rate=2e-3, batch_size=64),
)
PRESETS = {preset.name: preset for preset in (SMOKE, MINI, SMALL)}


def check_gates(preset: Preset, world: str, store: Store) -> None:
    """Worlds of formats have no gate."""
