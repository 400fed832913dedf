"""Which models does the study train, and how large is each measurement?

Rates are the η_M of DESIGN: the smallest on GRID that passes the check on tuning seeds 1000, 1001 and 1002 (never
reported); `python -m experiments.jain2024.tune` finds them, dev/LOG.md holds the table.
"""

from __future__ import annotations

from dataclasses import dataclass

from makebreak.models import PRESETS as MODELS
from makebreak.models import ModelConfig
from makebreak.recipes import Alignment, Recipe
from makebreak.training import DPO, SSFT, Data, Optimisation, Pretraining, Unlearning

GRID = (1e-4, 3e-4, 1e-3, 3e-3)
TUNING_SEEDS = (1000, 1001, 1002)
SHAM = Data(safe="sham_safe", unsafe="sham_unsafe")
METHODS: dict[str, type[SSFT | DPO | Unlearning]] = {"ssft": SSFT, "dpo": DPO, "unlearning": Unlearning}


@dataclass(frozen=True)
class Preset:
    """Sizes of one preset. rates: η_M of each method. n_requests: per family and half, for measuring."""

    name: str
    worlds: tuple[str, ...]
    model: ModelConfig
    seeds: tuple[int, ...]
    pretraining: Pretraining
    pretraining_optimisation: Optimisation
    alignment_steps: int
    alignment_batch: int
    rates: dict[str, float]
    n_requests: int

    def base(self, world: str, seed: int) -> Recipe:
        return Recipe(world, self.model, self.pretraining, self.pretraining_optimisation, None, seed)

    def alignment(self, method: str, *, sham: bool = False, rate: float | None = None) -> Alignment:
        objective = METHODS[method](data=SHAM) if sham else METHODS[method]()
        optimisation = Optimisation(
            steps=self.alignment_steps,
            learning_rate=self.rates[method] if rate is None else rate,
            batch_size=self.alignment_batch,
        )
        return Alignment(objective, optimisation)


_MINI_MODES = (0.1, 0.2, 0.0, 0.0, 0.7)  # less text than in the paper: the budget is seconds
_MINI_PRETRAINING = Pretraining(modes_start=_MINI_MODES, modes_end=_MINI_MODES)

PRESETS = {
    "smoke": Preset(
        name="smoke",
        worlds=("mini",),
        model=MODELS["tiny"],
        seeds=(0, 1),
        pretraining=_MINI_PRETRAINING,
        pretraining_optimisation=Optimisation(steps=20, learning_rate=3e-3, batch_size=16),
        alignment_steps=6,
        alignment_batch=16,
        rates={"ssft": 1e-3, "dpo": 1e-3, "unlearning": 1e-3},
        n_requests=64,
    ),
    "mini": Preset(
        name="mini",
        worlds=("mini",),
        model=MODELS["mini"],
        seeds=(0, 1, 2),
        pretraining=_MINI_PRETRAINING,
        pretraining_optimisation=Optimisation(steps=1400, learning_rate=3e-3, batch_size=64),
        alignment_steps=200,
        alignment_batch=64,
        rates={"ssft": 1e-3, "dpo": 1e-3, "unlearning": 1e-3},
        n_requests=500,
    ),
}
