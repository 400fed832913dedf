"""Models of the composition worlds by arm, and the presets at which studies train them.

A method's rate is η_M: the smallest on RATE_GRID that passes the checks of behaviour, with 3 points to spare,
on tuning seeds 1000 to 1002 (never reported); where none passes, the one that comes nearest. `python -m
experiments.jain2024.tune` finds the rates of `mini` and `small`; `smoke` and `paper` are not tuned. Other
settings of an objective (β, weights), and the schedule of `mini` in its own world, were chosen by hand on the
same seeds. η_S is a tenth of η_M, without a
check. A matched control (sham, remap) takes its method's rate times a scale that gives both the same ‖ΔW‖ on
the tuning seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from makebreak.models import MODEL_SIZES as MODELS
from makebreak.models import ModelConfig
from makebreak.recipes import Alignment, Recipe
from makebreak.training import (
    DPO,
    NPO,
    SSFT,
    AlignmentData,
    AlignmentObjective,
    GradientAscent,
    JainDPO,
    LoRA,
    ModeShares,
    MuonOptimisation,
    Optimisation,
    Pretraining,
    Unlearning,
)

RATE_GRID = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
"""Learning rates that are tried for every method."""
TUNING_SEEDS = (1000, 1001, 1002)
"""Pretraining seeds on which hyperparameters are chosen; their models are never reported."""
SHAM = AlignmentData(safe="sham_safe", unsafe="sham_unsafe")
"""Alignment data of the sham controls."""

METHODS = ("ssft", "dpo", "unlearning")
"""Alignment methods that the claims are about."""
OBJECTIVES: dict[str, AlignmentObjective] = {
    "ssft": SSFT(),
    "dpo": DPO(nll=1.0),  # without the NLL term (dpo_plain) the likelihood of both answers falls
    "unlearning": Unlearning(w_dispreferred=0.01),
    "dpo_plain": DPO(),
    "dpo_paper": JainDPO(w_dispreferred=0.002),
    "ascent": GradientAscent(),
    "npo": NPO(beta=1.0),
}
"""Objectives by method."""


@dataclass(frozen=True)
class Arm:
    """A way to train a model: a method, and what differs from that method's plain form."""

    method: str | None
    """Method, a key of OBJECTIVES or `continued` (pretraining); None for the base."""
    data: AlignmentData = AlignmentData()
    """Families that the last stage trains on."""
    strength: float = 1.0
    """Multiple of η_M."""
    lora: bool = False
    """Whether only low-rank adapters are trained."""
    decay: bool = True
    """Whether the last stage uses weight decay."""
    warm: bool = True
    """Whether DPO starts from an SSFT warm start."""
    requests: str = "pretraining"
    """Family of requests that the base is pretrained on."""


def _arms() -> dict[str, Arm]:
    """Arms by name."""
    plain = {method: Arm(method) for method in OBJECTIVES}
    return {
        "base": Arm(None),
        **plain,
        **{f"{method}_small": replace(arm, strength=0.1) for method, arm in plain.items()},
        **{f"sham_{method}": replace(plain[method], data=SHAM) for method in METHODS},
        "remap": Arm("ssft", AlignmentData(unsafe="remapped_unsafe", answer="instructed")),
        "new_operator": Arm("ssft", AlignmentData(unsafe="new_operator", answer="instructed")),
        "continued": Arm("continued"),
        "ssft_no_decay": Arm("ssft", decay=False),
        "ssft_lora": Arm("ssft", lora=True),
        "dpo_cold": Arm("dpo", warm=False),
        "base_without_null": Arm(None, requests="pretraining_without_null"),
        "ssft_without_null": Arm("ssft", requests="pretraining_without_null"),
        "dpo_cold_without_null": Arm("dpo", warm=False, requests="pretraining_without_null"),
        "base_without_unsafe": Arm(None, requests="pretraining_without_unsafe"),
    }


ARMS = _arms()
"""Every arm by name."""
MATCHED_CONTROLS = {**{f"sham_{method}": method for method in METHODS}, "remap": "ssft"}
"""Sham and remap controls, and the method that each is matched to in ‖ΔW‖."""
FACTOR_ARMS = ("ssft_lora", "dpo_cold", "dpo_cold_without_null", "base_without_unsafe")
"""Arms that vary one factor of the training, in preset `all` only."""
EXTRAPOLATED_ARMS = ("ssft_small",)
"""Weakly tuned models whose update is extrapolated, as in Jain et al. 2024."""
CONSTRAINED_ARMS = ("ssft",)
"""Arms that are also trained with a constrained update."""
CORE_ARMS = ("base", *METHODS, *(f"sham_{method}" for method in METHODS), "remap", *EXTRAPOLATED_ARMS)
"""Arms of the small presets."""


@dataclass(frozen=True)
class Preset:
    """Models and sizes of one preset. Mappings by world have the names of `worlds` as keys."""

    name: str
    """Name of the preset."""
    worlds: tuple[str, ...]
    """Worlds that the study can be run in; the first is the default."""
    model: ModelConfig
    """Architecture of all models."""
    seeds: tuple[int, ...]
    """Pretraining seeds."""
    arms: tuple[str, ...]
    """Arms that are trained in the study's world."""
    pretraining: Mapping[str, Pretraining]
    """Pretraining objective by world."""
    pretraining_optimisation: Mapping[str, Optimisation]
    """Optimisation of pretraining by world."""
    alignment_optimisation: Mapping[str, Optimisation]
    """Optimisation of alignment by world, whose learning rate each method replaces by its own."""
    dpo_warm_share: float
    """Share of DPO's steps that are an SSFT warm start."""
    rates: Mapping[str, Mapping[str, float]]
    """Learning rate η_M by world and method."""
    failing: Mapping[str, tuple[str, ...]]
    """Methods of which no rate passes the checks, by world."""
    scales: Mapping[str, Mapping[str, float]]
    """Multiple of its method's rates by world and matched control; 1 if not given."""
    n_requests: int
    """Requests per family and split."""
    gate: Mapping[str, Optimisation]
    """Training of the classifier that has to tell a world's branches apart before the study runs, by
    world."""
    thorough: bool = False
    """Whether activations of checkpoints are measured, and safety is also trained with a constrained
    update."""
    n_attacked: int = 80
    """Refused requests per attack, at most."""
    attacked_worlds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Arms by other world in which models are attacked as well when the study runs in its default world."""

    def other_worlds(self, world: str) -> Mapping[str, tuple[str, ...]]:
        """Arms by other world that are attacked as well when the study runs in `world`."""
        return self.attacked_worlds if world == self.worlds[0] else {}

    def recipe(
        self, world: str, seed: int, arm: str, *, rate: float | None = None, scale: float | None = None
    ) -> Recipe:
        """Training of one model; all methods take the same number of steps.

        Args:
            world: Name of the world.
            seed: Pretraining seed.
            arm: Name of the arm.
            rate: Learning rate of the last stage; None for the preset's.
            scale: Multiple of the method's rates; None for the preset's.

        Returns:
            The recipe with all stages.
        """
        spec = ARMS[arm]
        whole = self.alignment_optimisation[world]
        pretraining = replace(self.pretraining[world], family=spec.requests)
        base = Recipe(world, self.model, pretraining, self.pretraining_optimisation[world], (), seed)
        if spec.method is None:
            return base
        eta = self.rates[world]
        if spec.method == "continued":
            later = replace(
                pretraining, modes_start=pretraining.modes_end
            )  # the curriculum of pretraining has ended
            return replace(base, alignments=(Alignment(later, replace(whole, learning_rate=eta["ssft"])),))
        objective = replace(OBJECTIVES[spec.method], data=spec.data)
        multiple = spec.strength * (self.scales.get(world, {}).get(arm, 1.0) if scale is None else scale)
        last_rate = multiple * eta[spec.method] if rate is None else rate
        if isinstance(objective, DPO) and spec.warm:
            share, warm_rate = self.dpo_warm_share, multiple * eta["ssft"]
            warm = Alignment(SSFT(spec.data), _part(whole, share, warm_rate))
            last = Alignment(objective, _part(whole, 1 - share, last_rate))
            return replace(base, alignments=(warm, last))
        optimisation = replace(whole, learning_rate=last_rate)
        if not spec.decay:
            optimisation = replace(optimisation, weight_decay=0.0)
        return replace(base, alignments=(Alignment(objective, optimisation, LoRA() if spec.lora else None),))


def _part(whole: Optimisation, share: float, rate: float) -> Optimisation:
    """Optimisation of a share of the alignment steps at a rate."""
    return replace(whole, steps=round(share * whole.steps), learning_rate=rate)


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
_SHORT_ALIGNMENT = Optimisation(steps=200, learning_rate=1e-3, batch_size=32)
_SHORT_RATES = dict.fromkeys(METHODS, 3e-3)  # arms of other methods are not tuned to this schedule
_SHORT_SCALES = {"sham_ssft": 1.14, "sham_dpo": 1.13, "sham_unlearning": 1.14, "remap": 0.67}

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
    arms=tuple(arm for arm in ARMS if arm not in FACTOR_ARMS),
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
    n_requests=300,
    thorough=False,
    n_attacked=80,
)
ALL = replace(SMALL, name="all", worlds=("mini",), arms=tuple(ARMS))
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
PRESETS = {preset.name: preset for preset in (SMOKE, MINI, SMALL, ALL, PAPER)}
"""Presets by name."""
