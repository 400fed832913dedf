"""Which models does the study train, and how large is each measurement?

Rates are η_M: the smallest on GRID that passes the check, with 3 points to spare, on tuning seeds 1000 to 1002 (never
reported); `python -m experiments.jain2024.tune` finds them, dev/LOG.md holds the table. DPO's β was chosen by hand on
the same seeds: the smallest of 0.1, 0.5, 1 and 3 with which a rate passes. DPO's warm start passes by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from makebreak.models import PRESETS as MODELS
from makebreak.models import ModelConfig
from makebreak.recipes import Alignment, Recipe
from makebreak.training import DPO, SSFT, Data, Optimisation, Pretraining, Unlearning

GRID = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
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
    dpo_warm_share: float
    dpo_beta: float
    rates: dict[str, float]
    n_requests: int

    def base(self, world: str, seed: int) -> Recipe:
        return Recipe(world, self.model, self.pretraining, self.pretraining_optimisation, (), seed)

    def alignments(self, method: str, *, sham: bool = False, rate: float | None = None) -> tuple[Alignment, ...]:
        """The stages of a method. All methods take the same steps; DPO spends `dpo_warm_share` of them on SSFT."""
        data = SHAM if sham else Data()
        objective = DPO(data, self.dpo_beta) if method == "dpo" else METHODS[method](data)
        rate = self.rates[method] if rate is None else rate
        if not isinstance(objective, DPO):
            return (self._stage(objective, self.alignment_steps, rate),)
        warm = round(self.alignment_steps * self.dpo_warm_share)
        start = self._stage(SSFT(data=data), warm, self.rates["ssft"])
        return (start, self._stage(objective, self.alignment_steps - warm, rate))

    def _stage(self, objective: SSFT | DPO | Unlearning, steps: int, rate: float) -> Alignment:
        return Alignment(objective, Optimisation(steps=steps, learning_rate=rate, batch_size=self.alignment_batch))


_MINI_MODES = (0.1, 0.2, 0.0, 0.0, 0.7)  # less text than in the paper: the budget is seconds
_MINI_PRETRAINING = Pretraining(modes_start=_MINI_MODES, modes_end=_MINI_MODES)

SMOKE = Preset(
    name="smoke",
    worlds=("mini",),
    model=MODELS["tiny"],
    seeds=(0, 1),
    pretraining=_MINI_PRETRAINING,
    pretraining_optimisation=Optimisation(steps=20, learning_rate=3e-3, batch_size=16),
    alignment_steps=8,
    alignment_batch=16,
    dpo_warm_share=0.75,
    dpo_beta=1.0,
    rates={"ssft": 1e-3, "dpo": 1e-3, "unlearning": 1e-3},
    n_requests=32,
)
MINI = Preset(
    name="mini",
    worlds=("mini",),
    model=MODELS["mini"],
    seeds=(0, 1, 2),
    pretraining=_MINI_PRETRAINING,
    pretraining_optimisation=Optimisation(steps=1400, learning_rate=3e-3, batch_size=64),
    alignment_steps=400,
    alignment_batch=64,
    dpo_warm_share=0.75,
    dpo_beta=1.0,
    rates={"ssft": 1e-3, "dpo": 3e-5, "unlearning": 1e-3},
    n_requests=500,
)
SMALL = replace(MINI, name="small", seeds=(0, 1, 2, 3, 4), n_requests=2000)
PRESETS = {preset.name: preset for preset in (SMOKE, MINI, SMALL)}
