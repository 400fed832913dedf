"""Presets of the composition worlds: models, schedules, rates and sizes at which studies run.

A method's rate is η_M: the smallest on RATE_GRID that passes the checks of behaviour, with 3 points to spare,
on the tuning seeds (never reported); where none passes, the one that passes on most of them. `python -m
experiments.jain2024.tune` finds the rates of `mini` and `small`; `smoke` is not tuned. Other
settings of an objective (β, weights), and the schedules of pretraining, were chosen by hand on the same
seeds. η_S is a tenth of η_M, without a check. A matched control (sham, remap) takes its method's rate times a
scale that gives both the same ‖ΔW‖ on the tuning seeds.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.recipes.composition.arms import ARMS, CORE_ARMS, DOSE_ARMS, FACTOR_ARMS, PUBLISHED_ARMS
from experiments.recipes.composition.preset import Preset
from makebreak.models import MODEL_SIZES as MODELS
from makebreak.recipes import base_recipe
from makebreak.training import Optimisation

RATE_GRID = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
"""Learning rates that are tried for every method."""
TUNING_SEEDS = (1000, 1001, 1002, 1004, 1005, 1006)
"""Pretraining seeds on which hyperparameters are chosen; their models are never reported. 1003 is that of the
classifier that checks whether a world can be learnt."""

_BASES = {name: base_recipe(name) for name in ("mini", "hidden")}
_MODES = {name: base.pretraining for name, base in _BASES.items()}
_PRETRAINING = {name: base.optimisation for name, base in _BASES.items()}
_ALIGNMENT = {name: base.alignment for name, base in _BASES.items()}
# Lowest shares refused / answered on the tuning seeds. In `mini`: SSFT .983 / 1.000 (at 1e-3 .913 / .997 on
# the first one), DPO .997 / .993 (3e-4: .947 / .960), unlearning .993 / .983 (1e-3: .977 / .973). In
# `hidden`: SSFT .997 / 1.000 (3e-4: .857 / .993), DPO 1.000 / .993 (3e-4: .990 / .973); unlearning answers
# .973 of the safe requests of the second seed at 1e-3 and .970 at 3e-3, where .98 is asked for; NPO passes on
# the first four seeds at 1e-3, on one at 3e-4.
_RATES = {
    "mini": {
        **{"ssft": 3e-3, "dpo": 1e-3, "unlearning": 3e-3},
        **{"npo": 1e-3, "ascent": 3e-4, "dpo_plain": 1e-4, "dpo_paper": 3e-3},
    },
    "hidden": {
        **{"ssft": 1e-3, "dpo": 1e-3, "unlearning": 1e-3},
        **{"npo": 1e-3, "ascent": 3e-3, "dpo_plain": 1e-4, "dpo_paper": 1e-3},
    },
}
_FAILING = {
    "mini": ("dpo_plain", "ascent"),
    "hidden": ("dpo_plain", "dpo_paper", "ascent", "npo", "unlearning"),
}
# safe answers .967 to .993 and refused .713 to .947 in `mini`, .970 to 1.000 and .767 to .997 in `hidden`
_WEAK_STRENGTH = {"mini": 0.215, "hidden": 0.464}
# ‖ΔW‖ over that of the method, mean over the tuning seeds: .996, .983, 1.010, 1.002; .979, .986, .991, .996
_SCALES = {
    "mini": {"sham_ssft": 1.05, "sham_dpo": 1.11, "sham_unlearning": 1.11, "remap": 0.71},
    "hidden": {"sham_ssft": 1.17, "sham_dpo": 1.1, "sham_unlearning": 1.0, "remap": 0.58},
}

# KL to the base peaks within the first steps; comparisons at equal KL are made after the peak
EARLY_STEPS = tuple(range(5, 101, 5))
"""Steps after which methods are kept for comparisons at equal KL."""
_ATTACKED_WORLDS = {"hidden": ("base", "ssft", "dpo")}

SMOKE = Preset(
    name="smoke",
    worlds=("mini", "hidden"),
    model=MODELS["tiny"],
    seeds=(0, 1),
    arms=CORE_ARMS,
    pretraining=_MODES,
    pretraining_optimisation=dict.fromkeys(_MODES, Optimisation(steps=20, learning_rate=3e-3, batch_size=16)),
    alignment_optimisation=dict.fromkeys(
        _MODES, Optimisation(steps=8, learning_rate=1e-3, batch_size=16, checkpoints=2)
    ),
    dpo_warm_share=0.25,
    rates=_RATES,
    failing={},
    scales={},
    n_requests=32,
    gate={},
    thorough=True,
    n_attacked=8,
    attacked_worlds=_ATTACKED_WORLDS,
)
SMALL = Preset(
    name="small",
    worlds=("mini", "hidden"),
    model=MODELS["mini"],
    seeds=(0, 1, 2, 3, 4),
    arms=tuple(arm for arm in ARMS if arm not in (*FACTOR_ARMS, *DOSE_ARMS, *PUBLISHED_ARMS)),
    pretraining=_MODES,
    pretraining_optimisation=_PRETRAINING,
    alignment_optimisation=_ALIGNMENT,
    dpo_warm_share=0.25,
    rates=_RATES,
    failing=_FAILING,
    scales=_SCALES,
    weak_strength=_WEAK_STRENGTH,
    extra_checkpoints=dict.fromkeys(_MODES, EARLY_STEPS),
    n_requests=500,
    gate={"hidden": Optimisation(steps=800, learning_rate=3e-3, batch_size=64)},
    thorough=True,
    n_attacked=100,
)
# the same models, but for arms, steps that are kept, and sizes of the measures
MINI = replace(
    SMALL,
    name="mini",
    seeds=(0, 1, 2),
    arms=CORE_ARMS,
    extra_checkpoints={"hidden": EARLY_STEPS},
    n_requests=300,
    thorough=False,
    n_attacked=80,
)
ALL = replace(SMALL, name="all", worlds=("mini",), arms=(*SMALL.arms, *FACTOR_ARMS))
