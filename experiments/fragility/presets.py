"""Presets of the study: mechanisms, doses, seeds and sizes.

Rates, doses and sizes were chosen on pretraining seed 1000, which is never reported. In `hidden` the rates of
`mini` are too high: at half of them the same alignments qualify, after more steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from experiments.fragility.fine_tuning import FineTuningSettings
from experiments.fragility.mechanisms import MECHANISMS
from makebreak.models import MODEL_SIZES, ModelConfig
from makebreak.recipes import Recipe, base_recipe
from makebreak.training import Optimisation


@dataclass(frozen=True)
class Schedule:
    """Lengths and learning rates of the alignments in one world."""

    world: str
    """Name of the world."""
    doses: tuple[int, ...]
    """Steps of the alignment after which a model is kept, ascending."""
    rate_factor: float = 1.0
    """Learning rates relative to those of `MECHANISMS`, which were chosen in `mini`."""


@dataclass(frozen=True)
class Preset:
    """Size of the study."""

    name: str
    """Name of the preset."""
    seeds: tuple[int, ...]
    """Pretraining seeds."""
    mechanisms: tuple[str, ...] = tuple(MECHANISMS)
    """Mechanisms and controls."""
    schedules: tuple[Schedule, ...] = (
        Schedule("mini", (300, 400, 500, 600, 700, 800)),
        Schedule("hidden", (500, 600, 700, 800, 900, 1000), rate_factor=0.5),
    )
    """Worlds that the study can be run in, with their doses; the first is the default."""
    batch_size: int = 32
    """Requests per step of the alignment."""
    n_qualification: int = 300
    """Requests of each class on which models must qualify."""
    fine_tuning: FineTuningSettings = field(default_factory=FineTuningSettings)
    """Length and sizes of the fine-tuning attacks."""
    n_attacked: int = 16
    """Unsafe requests of attacks on the prompt."""
    n_outcome: int = 64
    """Unsafe requests of the other outcomes."""
    model: ModelConfig = MODEL_SIZES["mini"]
    """Architecture and size."""
    requires_qualification: bool = True
    """Whether models must qualify to be analysed; where nothing is learnt, all are."""
    pretraining_steps: int | None = None
    """Steps of pretraining; None for those of the world's recipe."""

    @property
    def worlds(self) -> tuple[str, ...]:
        """Names of the worlds."""
        return tuple(schedule.world for schedule in self.schedules)

    def schedule(self, world: str) -> Schedule:
        """Doses and learning rates in a world."""
        return next(schedule for schedule in self.schedules if schedule.world == world)

    def recipe(self, world: str, seed: int, mechanism: str) -> Recipe:
        """Recipe of the last dose of a mechanism; the other doses are its kept steps."""
        base = replace(base_recipe(world).recipe(seed), model=self.model)
        if self.pretraining_steps is not None:
            optimisation = replace(base.optimisation, steps=self.pretraining_steps)
            base = replace(base, optimisation=optimisation)
        schedule = self.schedule(world)
        optimisation = Optimisation(
            steps=schedule.doses[-1],
            learning_rate=1e-3,
            batch_size=self.batch_size,
            warmup_share=0.05,
            final_share=1.0,  # a kept step is the end of a training of that length
            checkpoints=1,
            extra_checkpoints=schedule.doses[:-1],
        )
        alignments = MECHANISMS[mechanism].alignments(optimisation, schedule.rate_factor)
        return replace(base, alignments=alignments)


SMALL = Preset("small", tuple(range(15)))
MINI = replace(
    SMALL,
    name="mini",
    seeds=(0, 1, 2),
    mechanisms=("ssft", "dpo", "deep", "npo", "lora_rank_4", "sham"),
    schedules=(Schedule("mini", (400, 800)), Schedule("hidden", (600, 1000), rate_factor=0.5)),
    fine_tuning=FineTuningSettings(harmful_seeds=1),
)
SMOKE = Preset(
    "smoke",
    (0, 1),
    mechanisms=("ssft", "npo", "deep", "ssft_column", "lora_rank_1", "sham"),
    schedules=(Schedule("mini", (2, 4)), Schedule("hidden", (2, 4))),
    batch_size=8,
    model=MODEL_SIZES["tiny"],
    n_qualification=16,
    fine_tuning=FineTuningSettings((1, 2), (2,), batch_size=4, harmful_seeds=1, n_unsafe=8, n_safe=8),
    n_attacked=4,
    n_outcome=8,
    requires_qualification=False,
    pretraining_steps=4,
)
PRESETS = {preset.name: preset for preset in (SMOKE, MINI, SMALL)}
"""Presets by name."""
