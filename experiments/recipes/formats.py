"""Models of the worlds of formats by fine-tuning, and the presets at which studies train them.

Pretraining and alignment were chosen on tuning seeds 1000 to 1002, on models that were not fine-tuned on a
task (`python -m experiments.jan2024.alignment_steps`): the fewest steps of alignment after which every format
is refused. Learning rates of fine-tuning are a grid, all of it reported; it was laid around those at which
tasks are learnt on seed 1000.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from makebreak.defences import MixedFineTuning
from makebreak.models import MODEL_SIZES, ModelConfig
from makebreak.recipes import Alignment, Recipe, base_recipe
from makebreak.store import Store
from makebreak.training import SSFT, AlignmentData, FineTuning, LoRA, ModeShares, Optimisation, Pretraining

COVERAGES = {"uniform": AlignmentData(), "skewed": AlignmentData("safe_skewed", "unsafe_skewed")}
"""Data of alignment by coverage: all formats equally often, or mostly open text."""
SAFETY_SHARE = 0.1
"""Share of refusals among the examples, where safety data are mixed in."""
MITIGATIONS = {"guarded": "multitask", "guarded_gen": "canonical", "guarded_others": "without_own"}
"""Kinds of fine-tuning with refusals among the examples → mitigation: refusals of all formats, of open text
alone, or of all formats but the tuned one."""
KINDS = ("task", "tokens", "known", "lora", *MITIGATIONS)
"""Kinds of fine-tuning on a format's task: `task`, its new operator for equal steps; `tokens`, the same for
equal tokens of loss; `known`, operators of pretraining; `lora`, adapters; and those of `MITIGATIONS`."""
RETAIN = "retain"
"""In place of a format: no task, but safe requests of all formats as in alignment."""
LORA_RATE_FACTOR = 10
"""Learning rate of adapters as a multiple of that of the full weights."""


@dataclass(frozen=True)
class Tuning:
    """One fine-tuning on safe requests alone."""

    format: str
    """Format whose task is tuned, or `RETAIN`."""
    kind: str
    """Kind of fine-tuning, one of `KINDS`."""
    rate: float
    """Learning rate of the full weights."""


@dataclass(frozen=True)
class Preset:
    """Size of the study."""

    name: str
    """Name of the preset."""
    worlds: tuple[str, ...]
    """Worlds of formats; the first is the default."""
    model: ModelConfig
    """Size of the models."""
    seeds: tuple[int, ...]
    """Pretraining seeds."""
    formats: tuple[str, ...]
    """Formats of requests and of tuned tasks."""
    coverages: tuple[str, ...]
    """Coverages of alignment, keys of `COVERAGES`; controls are run in the first one."""
    pretraining: Pretraining
    """Objective of pretraining."""
    pretraining_optimisation: Optimisation
    """Settings of pretraining."""
    alignment: Optimisation
    """Settings of alignment."""
    tuning: Optimisation
    """Settings of one fine-tuning; the learning rate is set by each `Tuning`."""
    examples: int
    """Number of examples of a fine-tuning."""
    rates: tuple[float, ...]
    """Learning rates of the kind `task`."""
    rate: float
    """Learning rate at which kinds are compared."""
    n: int
    """Held-out requests per format and family."""
    all_kinds: bool = False
    """Whether probes are fitted, and mitigations run whose refusals leave formats out."""
    templated: Preset | None = None
    """The same study in a world of templates; None if it is left out."""

    def aligned(self, world: str, seed: int, coverage: str) -> Recipe:
        """Recipe of the aligned model."""
        stage = Alignment(SSFT(COVERAGES[coverage]), self.alignment)
        return Recipe(world, self.model, self.pretraining, self.pretraining_optimisation, (stage,), seed)

    def tunings(self, coverage: str) -> tuple[Tuning, ...]:
        """All fine-tunings of the models of a coverage: tasks at all rates, every other kind at one."""
        tunings = [Tuning(name, "task", rate) for name in self.formats for rate in self.rates]
        if coverage == self.coverages[0]:
            kinds = KINDS if self.all_kinds else KINDS[: KINDS.index("guarded") + 1]
            tunings += [Tuning(name, kind, self.rate) for kind in kinds[1:] for name in self.formats]
        return (*tunings, Tuning(RETAIN, "task", self.rate))

    def tuned(self, world: str, seed: int, coverage: str, tuning: Tuning) -> Recipe:
        """Recipe of a fine-tuned model."""
        recipe = self.aligned(world, seed, coverage)
        suffix = "" if tuning.kind == "known" else "_new"
        family = "safe" if tuning.format == RETAIN else f"{tuning.format}_safe{suffix}"
        objective: FineTuning | MixedFineTuning = FineTuning(0, n_harmless=self.examples, family=family)
        if tuning.kind in MITIGATIONS:
            objective = MixedFineTuning(family, self.examples, MITIGATIONS[tuning.kind], SAFETY_SHARE)
        steps = self.tuning.steps
        if tuning.kind == "tokens":
            steps = round(steps * ANSWER_TOKENS["gen"] / ANSWER_TOKENS[tuning.format])
        lora = LoRA() if tuning.kind == "lora" else None
        rate = tuning.rate * (LORA_RATE_FACTOR if lora else 1)
        stage = Alignment(objective, replace(self.tuning, learning_rate=rate, steps=steps), lora)
        return replace(recipe, alignments=(*recipe.alignments, stage))


ANSWER_TOKENS: Mapping[str, int] = {
    "gen": 4,
    "map": 10,
    "sum": 3,
    "struct": 13,
    "label": 2,
    "mcq": 2,
}
"""Tokens of an answer by format, its end included."""
_BASE = base_recipe("formats_mini")
MINI = Preset(
    name="mini",
    worlds=("formats_mini",),
    model=MODEL_SIZES["mini"],
    seeds=(0, 1, 2),
    formats=("gen", "map", "label", "mcq"),
    coverages=("uniform",),
    pretraining=_BASE.pretraining,
    pretraining_optimisation=_BASE.optimisation,
    alignment=_BASE.alignment,
    tuning=Optimisation(steps=100, learning_rate=1e-3, batch_size=32, checkpoints=4),
    examples=2000,
    rates=(1e-4, 3e-4, 1e-3),
    rate=3e-4,
    n=100,
)
# In templates, labels are learnt later (.5 at 2,500 steps of MINI, seed 1000): label requests are more
# frequent, and training is longer (4,000 steps at 3e-3 left choices at .65 on seed 1001). Alignment at a
# third of the rate leads to as much refusal and changes answers less in templates that it does not show.
TEMPLATED = replace(
    MINI,
    name="templated",
    worlds=("formats_templates",),
    seeds=(0, 1, 2, 3, 4),
    pretraining=replace(
        _BASE.pretraining,
        modes_start=ModeShares(text=0.05, full=0.1, first=0.0, second=0.0, outputs=0.55, label=0.3),
        modes_end=ModeShares(text=0.0, full=0.1, first=0.0, second=0.0, outputs=0.6, label=0.3),
    ),
    pretraining_optimisation=Optimisation(steps=5000, learning_rate=2e-3, batch_size=64),
    alignment=Optimisation(steps=300, learning_rate=3e-4, batch_size=64),
)
SMOKE = replace(
    MINI,
    name="smoke",
    model=MODEL_SIZES["tiny"],
    seeds=(0, 1),
    pretraining_optimisation=Optimisation(steps=20, learning_rate=3e-3, batch_size=16),
    alignment=Optimisation(steps=8, learning_rate=1e-3, batch_size=16),
    tuning=Optimisation(steps=4, learning_rate=1e-3, batch_size=16, checkpoints=2),
    examples=50,
    all_kinds=True,
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
    all_kinds=True,
    templated=TEMPLATED,
    pretraining_optimisation=Optimisation(steps=5000, learning_rate=2e-3, batch_size=64),
)
PRESETS = {preset.name: preset for preset in (SMOKE, MINI, SMALL)}
"""Presets by name."""


def check_gates(preset: Preset, world: str, store: Store) -> None:
    """Does nothing: worlds of formats need no check before the study."""
