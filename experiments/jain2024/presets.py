"""Which models does the study train, and how large is each measurement?

A method's rate is η_M: the smallest on GRID that passes the check, with 3 points to spare, on tuning seeds 1000 to 1002
(never reported); where none passes, the one that comes nearest. `python -m experiments.jain2024.tune` finds them for
`mini` and `hidden`; `smoke` and `paper` are not tuned. Other settings of an objective (β, weights) were chosen by hand
on the same seeds. η_S is a tenth of η_M, without a check. A twin (sham, remap) takes its method's rate times a scale
that gives both the same ‖ΔW‖ on the tuning seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from makebreak.models import PRESETS as MODELS
from makebreak.models import ModelConfig
from makebreak.recipes import Alignment, Recipe
from makebreak.training import (
    DPO,
    NPO,
    SSFT,
    Ascent,
    Data,
    LoRA,
    Optimisation,
    PaperDPO,
    Pretraining,
    Unlearning,
)

GRID = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
TUNING_SEEDS = (1000, 1001, 1002)
SHAM = Data(safe="sham_safe", unsafe="sham_unsafe")

METHODS = ("ssft", "dpo", "unlearning")  # those of the claims
OBJECTIVES: dict[str, SSFT | DPO | PaperDPO | Unlearning | Ascent | NPO] = {
    "ssft": SSFT(),
    "dpo": DPO(nll=1.0),  # pairs alone (dpo_plain) sink both answers
    "unlearning": Unlearning(w_dispreferred=0.01),
    "dpo_plain": DPO(),
    "dpo_paper": PaperDPO(w_dispreferred=0.002),
    "ascent": Ascent(),
    "npo": NPO(beta=1.0),
}


@dataclass(frozen=True)
class Arm:
    """A way to make a model: a method (None: the base), and what is different from that method's plain form.

    strength: times η_M. warm: whether DPO starts from SSFT. requests: the pretraining family of its base.
    """

    method: str | None
    data: Data = Data()
    strength: float = 1.0
    lora: bool = False
    decay: bool = True
    warm: bool = True
    requests: str = "pretraining"


def _arms() -> dict[str, Arm]:
    plain = {method: Arm(method) for method in OBJECTIVES}
    return {
        "base": Arm(None),
        **plain,
        **{f"{method}_small": replace(arm, strength=0.1) for method, arm in plain.items()},
        **{f"sham_{method}": replace(plain[method], data=SHAM) for method in METHODS},
        "remap": Arm("ssft", Data(unsafe="remapped_unsafe", answer="instructed")),
        "new_operator": Arm("ssft", Data(unsafe="new_operator", answer="instructed")),
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
TWINS = {**{f"sham_{method}": method for method in METHODS}, "remap": "ssft"}
FACTORS = ("ssft_lora", "dpo_cold", "dpo_cold_without_null", "base_without_unsafe")
EXTRAPOLATED = ("ssft_small",)  # the weakly tuned model that Jain et al. strengthen by going on along ΔW
CONFINED = ("ssft",)
CORE = ("base", *METHODS, *(f"sham_{method}" for method in METHODS), "remap", *EXTRAPOLATED)


@dataclass(frozen=True)
class Preset:
    """Sizes of one preset. n_requests: per family and half. By world: pretraining, rates of each method.

    failing: world → methods of which no rate passes the check. scales: world → twin → times its method's rates, 1 if
    not given. gate: world → training of the classifier that has to tell its branches apart first. thorough: also look
    inside models at kept steps, and train safety again in confinement. attacked: refused requests per attack. also:
    other worlds in which models of some arms are attacked beside those of the first.
    """

    name: str
    worlds: tuple[str, ...]
    model: ModelConfig
    seeds: tuple[int, ...]
    arms: tuple[str, ...]
    pretraining: Mapping[str, Pretraining]
    pretraining_optimisation: Mapping[str, Optimisation]
    alignment_optimisation: Optimisation
    dpo_warm_share: float
    rates: Mapping[str, Mapping[str, float]]
    failing: Mapping[str, tuple[str, ...]]
    scales: Mapping[str, Mapping[str, float]]
    n_requests: int
    gate: Mapping[str, Optimisation]
    thorough: bool = False
    attacked: int = 80
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def others(self, world: str) -> Mapping[str, tuple[str, ...]]:
        """Arms that are attacked in worlds beside this one."""
        return self.also if world == self.worlds[0] else {}

    def recipe(
        self, world: str, seed: int, arm: str, *, rate: float | None = None, scale: float | None = None
    ) -> Recipe:
        """How an arm's model is made; rate, scale: in place of its own. All methods take the same steps."""
        spec = ARMS[arm]
        pretraining = replace(self.pretraining[world], family=spec.requests)
        base = Recipe(world, self.model, pretraining, self.pretraining_optimisation[world], (), seed)
        if spec.method is None:
            return base
        eta = self.rates[world]
        if spec.method == "continued":
            later = replace(pretraining, modes_start=pretraining.modes_end)  # its curriculum is over
            return replace(base, alignments=(Alignment(later, self._optimisation(1.0, eta["ssft"])),))
        objective = replace(OBJECTIVES[spec.method], data=spec.data)
        times = spec.strength * (self.scales.get(world, {}).get(arm, 1.0) if scale is None else scale)
        own = times * eta[spec.method] if rate is None else rate
        if isinstance(objective, DPO) and spec.warm:
            warm = Alignment(SSFT(spec.data), self._optimisation(self.dpo_warm_share, times * eta["ssft"]))
            last = Alignment(objective, self._optimisation(1 - self.dpo_warm_share, own))
            return replace(base, alignments=(warm, last))
        optimisation = self._optimisation(1.0, own)
        if not spec.decay:
            optimisation = replace(optimisation, weight_decay=0.0)
        return replace(base, alignments=(Alignment(objective, optimisation, LoRA() if spec.lora else None),))

    def _optimisation(self, share: float, rate: float) -> Optimisation:
        whole = self.alignment_optimisation
        return replace(whole, steps=round(share * whole.steps), learning_rate=rate)


_MINI_MODES = (0.1, 0.2, 0.0, 0.0, 0.7, 0.0)  # less text than in the paper: the budget is seconds
_MODES = {
    "mini": Pretraining(modes_start=_MINI_MODES, modes_end=_MINI_MODES),
    # tasks first, then more and more labels, each of which counts as much as a whole answer
    "hidden": Pretraining(
        modes_start=_MINI_MODES, modes_end=(0.0, 0.1, 0.0, 0.0, 0.5, 0.4), mean_over="requests"
    ),
}
_ANY = dict.fromkeys(OBJECTIVES, 1e-3) | {"dpo_plain": 3e-5}
_RATES = {"mini": _ANY | {"npo": 3e-3, "ascent": 3e-3}, "hidden": _ANY}
_FAILING = dict.fromkeys(_MODES, ("dpo_plain", "dpo_paper", "ascent"))
_SCALES = {
    "mini": {"sham_ssft": 1.18, "sham_dpo": 1.2, "sham_unlearning": 1.15, "remap": 0.54},
    "hidden": {"sham_ssft": 1.18, "sham_dpo": 1.11, "sham_unlearning": 1.0, "remap": 0.5},
}

_ALSO = {"hidden": ("base", "ssft", "dpo")}

SMOKE = Preset(
    name="smoke",
    worlds=("mini", "hidden"),
    model=MODELS["tiny"],
    seeds=(0, 1),
    arms=CORE,
    pretraining=_MODES,
    pretraining_optimisation=dict.fromkeys(_MODES, Optimisation(steps=20, learning_rate=3e-3, batch_size=16)),
    alignment_optimisation=Optimisation(steps=8, learning_rate=1e-3, batch_size=16, checkpoints=2),
    dpo_warm_share=0.25,
    rates=_RATES,
    failing={},
    scales={},
    n_requests=32,
    gate={},
    thorough=True,
    attacked=8,
    also=_ALSO,
)
MINI = Preset(
    name="mini",
    worlds=("mini", "hidden"),
    model=MODELS["mini"],
    seeds=(0, 1, 2),
    arms=CORE,
    pretraining=_MODES,
    pretraining_optimisation={
        "mini": Optimisation(steps=1400, learning_rate=3e-3, batch_size=64),
        "hidden": Optimisation(steps=2000, learning_rate=3e-3, batch_size=64),
    },
    alignment_optimisation=Optimisation(steps=400, learning_rate=1e-3, batch_size=64),
    dpo_warm_share=0.25,
    rates=_RATES,
    failing=_FAILING,
    scales=_SCALES,
    n_requests=300,
    gate={"hidden": Optimisation(steps=800, learning_rate=3e-3, batch_size=64)},
    also=_ALSO,
)
_SEEDS = (0, 1, 2, 3, 4)
SMALL = replace(
    MINI,
    name="small",
    seeds=_SEEDS,
    arms=tuple(arm for arm in ARMS if arm not in FACTORS),
    n_requests=500,
    thorough=True,
    attacked=100,
    also={},  # a run of its own
)
ALL = replace(SMALL, name="all", worlds=("mini",), arms=tuple(ARMS))
# Sizes and rates of Jain et al. 2024 (§4.1, §4.2), with a cosine to the last step where theirs ends at four fifths.
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
    alignment_optimisation=replace(_PAPER, steps=10_000, learning_rate=1e-4),
    dpo_warm_share=0.25,
    rates={"jain2024": dict.fromkeys(OBJECTIVES, 1e-4)},
    failing={},
    scales={},
    n_requests=2000,
    gate={},
)
PRESETS = {preset.name: preset for preset in (SMOKE, MINI, SMALL, ALL, PAPER)}
