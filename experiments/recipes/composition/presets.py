"""Presets of the composition worlds: models, schedules, rates and sizes at which studies run.

A method's rate is η_M: the smallest on RATE_GRID that passes the checks of behaviour, with 3 points to spare,
on the tuning seeds (never reported); where none passes, the one that comes nearest. `python -m
experiments.jain2024.tune` finds the rates of `mini` and `small`; `smoke` and `paper` are not tuned. Other
settings of an objective (β, weights), and the schedule of pretraining of `mini` in its own world, were chosen
by hand on the same seeds. η_S is a tenth of η_M, without a check. A matched control (sham, remap) takes its
method's rate times a scale that gives both the same ‖ΔW‖ on the tuning seeds.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.recipes.composition.arms import ARMS, CORE_ARMS, DOSE_ARMS, FACTOR_ARMS, OBJECTIVES
from experiments.recipes.composition.preset import Preset
from makebreak.models import MODEL_SIZES as MODELS
from makebreak.training import ModeShares, MuonOptimisation, Optimisation, Pretraining

RATE_GRID = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
"""Learning rates that are tried for every method."""
TUNING_SEEDS = (1000, 1001, 1002, 1004, 1005, 1006)
"""Pretraining seeds on which hyperparameters are chosen; their models are never reported. 1003 is that of the
classifier that checks whether a world can be learnt."""

# less text than in the paper
_MINI_MODES = ModeShares(text=0.1, full=0.2, first=0.0, second=0.0, outputs=0.7, label=0.0)
_MODES = {
    "mini": Pretraining(modes_start=_MINI_MODES, modes_end=_MINI_MODES),
    # first tasks, then an increasing share of labels, each of which has the weight of a whole answer
    "hidden": Pretraining(
        modes_start=_MINI_MODES,
        modes_end=ModeShares(text=0.0, full=0.1, first=0.0, second=0.0, outputs=0.5, label=0.4),
        mean_over="requests",
    ),
}
# found with the mixture EVEN on seeds 1000 to 1002, as are _SCALES; not tuned to the paper's mixture
_DEFAULT_RATES = dict.fromkeys(OBJECTIVES, 1e-3) | {"dpo_plain": 3e-5}
_RATES = {"mini": _DEFAULT_RATES | {"npo": 3e-3, "ascent": 3e-3}, "hidden": _DEFAULT_RATES}
_FAILING = dict.fromkeys(_MODES, ("dpo_plain", "dpo_paper", "ascent"))
_SCALES = {
    "mini": {"sham_ssft": 1.18, "sham_dpo": 1.2, "sham_unlearning": 1.15, "remap": 0.54},
    "hidden": {"sham_ssft": 1.18, "sham_dpo": 1.11, "sham_unlearning": 1.0, "remap": 0.5},
}

# text, from which safety is learnt, is in half of the requests at first, then in all
_MORE_TEXT = Pretraining(
    modes_start=ModeShares(text=0.0, full=0.5, first=0.0, second=0.0, outputs=0.5, label=0.0),
    modes_end=ModeShares(text=0.3, full=0.7, first=0.0, second=0.0, outputs=0.0, label=0.0),
)
# AdamW needs more than twice as many requests: it learns the tasks that are rare in pretraining last
_SHORT_PRETRAINING = MuonOptimisation(
    steps=800, learning_rate=3e-3, batch_size=32, warmup_share=0.2, betas=(0.9, 0.98)
)
_SHORT_ALIGNMENT = Optimisation(steps=300, learning_rate=1e-3, batch_size=32)
# 300 steps, on six tuning seeds: lowest refused / answered of SSFT .983 / 1.000 (at 1e-3 .913 / .997 on the
# first), of DPO .997 / .993 (3e-4: .947 / .960), of unlearning .993 / .983 (1e-3: .977 / .973)
_SHORT_RATES = {"ssft": 3e-3, "dpo": 1e-3, "unlearning": 3e-3}  # arms of other methods are not tuned to it
# safe answers .967 to .993, refused .713 to .947; at .147 of η_M .930 of safe answers on one seed
_SHORT_WEAK = 0.215
# ‖ΔW‖ over that of the method, mean over the tuning seeds: .996, .983, 1.010, 1.002
_SHORT_SCALES = {"sham_ssft": 1.05, "sham_dpo": 1.11, "sham_unlearning": 1.11, "remap": 0.71}

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
    arms=tuple(arm for arm in ARMS if arm not in (*FACTOR_ARMS, *DOSE_ARMS)),
    pretraining=_MODES,
    pretraining_optimisation={
        "mini": Optimisation(steps=1400, learning_rate=3e-3, batch_size=64),
        "hidden": Optimisation(steps=2000, learning_rate=3e-3, batch_size=64),
    },
    alignment_optimisation=dict.fromkeys(_MODES, Optimisation(steps=400, learning_rate=1e-3, batch_size=64)),
    dpo_warm_share=0.25,
    rates=_RATES,
    failing=_FAILING,
    scales=_SCALES,
    extra_checkpoints=dict.fromkeys(_MODES, EARLY_STEPS),
    n_requests=500,
    gate={"hidden": Optimisation(steps=800, learning_rate=3e-3, batch_size=64)},
    thorough=True,
    n_attacked=100,
)
# a shorter schedule in its own world; in `hidden`, models are those of SMALL
MINI = replace(
    SMALL,
    name="mini",
    seeds=(0, 1, 2),
    arms=CORE_ARMS,
    pretraining=_MODES | {"mini": _MORE_TEXT},
    pretraining_optimisation={**SMALL.pretraining_optimisation, "mini": _SHORT_PRETRAINING},
    alignment_optimisation={**SMALL.alignment_optimisation, "mini": _SHORT_ALIGNMENT},
    rates=_RATES | {"mini": _RATES["mini"] | _SHORT_RATES},
    scales=_SCALES | {"mini": _SHORT_SCALES},
    weak_strength={"mini": _SHORT_WEAK},
    extra_checkpoints={"hidden": EARLY_STEPS},
    n_requests=300,
    thorough=False,
    n_attacked=80,
)
ALL = replace(SMALL, name="all", worlds=("mini",), arms=(*SMALL.arms, *FACTOR_ARMS))
# sizes and rates of Jain et al. 2024 (§4.1, §4.2); the cosine ends at the last step, theirs at four fifths
_PAPER = Optimisation(
    steps=100_000, learning_rate=1e-3, batch_size=512, warmup_share=0.2, precision="bfloat16"
)
PAPER = Preset(
    name="paper",
    worlds=("jain2024",),
    model=MODELS["jain"],
    seeds=(0,),
    arms=tuple(arm for arm in SMALL.arms if arm != "new_operator"),  # the released world has no task to spare
    pretraining={"jain2024": Pretraining()},
    pretraining_optimisation={"jain2024": _PAPER},
    alignment_optimisation={"jain2024": replace(_PAPER, steps=10_000, learning_rate=1e-4)},
    dpo_warm_share=0.25,
    rates={"jain2024": dict.fromkeys(OBJECTIVES, 1e-4)},
    failing={},
    scales={},
    n_requests=2000,
    gate={},
)
