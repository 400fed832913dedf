"""Arms of the composition worlds: methods of alignment, controls, and variants of one factor."""

from __future__ import annotations

from dataclasses import dataclass, replace

from makebreak.training import (
    DPO,
    NPO,
    SSFT,
    AlignmentData,
    AlignmentObjective,
    GradientAscent,
    JainDPO,
    Unlearning,
)

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
SAFETY = AlignmentData(unsafe_second="second_composition_unsafe")
"""Families of safety training: safe and unsafe requests, some of the latter unsafe in the second pair."""
SHAM = AlignmentData("sham_safe", "sham_unsafe", unsafe_second="second_composition_sham_unsafe")
"""Families of the sham controls."""
REMAP = AlignmentData(
    unsafe="remapped_unsafe", answer="instructed", unsafe_second="second_composition_remapped_unsafe"
)
"""Families and answers of the remap control."""
NEW_OPERATOR = AlignmentData(unsafe="new_operator", answer="instructed")
"""Families and answers of the control that learns a new operator, which is in the first pair alone."""


@dataclass(frozen=True)
class Mixture:
    """Shares of the requests that an alignment trains on; those of Jain et al. 2024 (README, trainers).

    There a batch is of one side alone, which is drawn; here every batch holds both sides.
    """

    safe: float = 0.8
    """Share of safe requests where one answer to each request is trained: SSFT and its controls."""
    safe_of_pairs: float = 0.5
    """Share of safe requests of all other methods, which have a preferred and a dispreferred answer."""
    second: float = 0.2
    """Share of the unsafe requests whose first pair is safe and whose second pair is refused."""

    def of(self, objective: AlignmentObjective, data: AlignmentData) -> AlignmentData:
        """Returns the data of an objective: the families of `data` in these shares."""
        share = self.safe if isinstance(objective, SSFT) else self.safe_of_pairs
        if not self.second or data.unsafe_second is None:
            return replace(data, safe_share=share, unsafe_second=None)
        return replace(data, safe_share=share, second_share=self.second)


PAPER_MIXTURE = Mixture()
"""The mixture of Jain et al. 2024."""
EVEN = Mixture(safe=0.5, second=0.0)
"""As many safe as unsafe requests, all of them judged on the first output."""


@dataclass(frozen=True)
class Arm:
    """A way to train a model: a method, and what differs from that method's plain form."""

    method: str | None
    """Method, a key of OBJECTIVES or `continued` (pretraining); None for the base."""
    data: AlignmentData = SAFETY
    """Families that the last stage trains on; their shares are those of the preset's mixture."""
    strength: float = 1.0
    """Multiple of η_M."""
    weak: bool = False
    """Whether the rate is that of a weakly tuned model that still answers safe requests (`weak_strength`)."""
    lora: bool = False
    """Whether only low-rank adapters are trained."""
    weight_decay: float | None = None
    """Weight decay of the last stage; None for the preset's."""
    warm: bool = True
    """Whether DPO starts from an SSFT warm start."""
    requests: str = "pretraining"
    """Family of requests that the base is pretrained on."""
    rate: float | None = None
    """Learning rate of all stages in place of η_M; None for η_M."""
    steps: int | None = None
    """Steps of all stages together; None for the preset's."""
    objective: AlignmentObjective | None = None
    """Objective of the last stage in place of the method's; None for the method's."""


WEIGHT_DECAYS = {"ssft_no_decay": 0.0} | {f"ssft_decay_{decay:g}": decay for decay in (0.01, 0.1, 1.0)}
"""Weight decay of the arms that vary it; the preset's own is 1e-4."""


PUBLISHED_OBJECTIVES: dict[str, AlignmentObjective] = {
    "unlearning": Unlearning(w_dispreferred=0.1),
    "dpo_paper": JainDPO(w_dispreferred=0.01),
    "dpo_paper_small": JainDPO(w_dispreferred=0.002),
}
"""Objectives by method or arm with the weights that Jain et al. 2024 used at each learning rate (README)."""
_LIGHT = Arm("unlearning", objective=Unlearning(w_dispreferred=0.05))
PUBLISHED_ARMS = {
    "unlearning_light": _LIGHT,
    "unlearning_light_small": replace(_LIGHT, strength=0.1),
}
"""Unlearning with the weight of the ascent that Jain et al. 2024 used at η_S, at both rates."""


def _arms() -> dict[str, Arm]:
    """Arms by name."""
    plain = {method: Arm(method) for method in OBJECTIVES}
    return {
        "base": Arm(None),
        **plain,
        **{f"{method}_small": replace(arm, strength=0.1) for method, arm in plain.items()},
        "ssft_weak": Arm("ssft", weak=True),
        **{f"sham_{method}": replace(plain[method], data=SHAM) for method in METHODS},
        "remap": Arm("ssft", REMAP),
        "new_operator": Arm("ssft", NEW_OPERATOR),
        "continued": Arm("continued"),
        **{name: Arm("ssft", weight_decay=decay) for name, decay in WEIGHT_DECAYS.items()},
        "ssft_lora": Arm("ssft", lora=True),
        "dpo_cold": Arm("dpo", warm=False),
        "base_without_null": Arm(None, requests="pretraining_without_null"),
        "ssft_without_null": Arm("ssft", requests="pretraining_without_null"),
        "dpo_cold_without_null": Arm("dpo", warm=False, requests="pretraining_without_null"),
        "base_without_unsafe": Arm(None, requests="pretraining_without_unsafe"),
    }


DOSE_RATES, DOSE_STEPS = (1e-4, 3e-4, 1e-3, 2e-3, 3e-3), (50, 100, 200, 400)
"""Learning rates and numbers of steps of the dose grid."""
DOSE_ARMS = {
    f"{method}_rate_{rate:g}_steps_{steps}": Arm(
        "ssft" if method == "remap" else method,
        REMAP if method == "remap" else SAFETY,
        rate=rate,
        steps=steps,
    )
    for method in (*METHODS, "remap")
    for rate in DOSE_RATES
    for steps in DOSE_STEPS
}
"""Every method and the remap control at every rate and length of the dose grid."""
ARMS = _arms() | DOSE_ARMS | PUBLISHED_ARMS
"""Every arm by name."""
MATCHED_CONTROLS = {**{f"sham_{method}": method for method in METHODS}, "remap": "ssft"}
"""Sham and remap controls, and the method that each is matched to in ‖ΔW‖."""
FACTOR_ARMS = (
    *("ssft_lora", "dpo_cold", "dpo_cold_without_null", "base_without_unsafe"),
    *(name for name in WEIGHT_DECAYS if name != "ssft_no_decay"),
)
"""Arms that vary one factor of the training, in preset `all` only."""
EXTRAPOLATED_ARMS = ("ssft_small", "ssft_weak")
"""Weakly tuned models whose update is extrapolated: as in Jain et al. 2024, and by `weak_strength`."""
CONSTRAINED_ARMS = ("ssft",)
"""Arms that are also trained with a constrained update."""
CORE_ARMS = ("base", *METHODS, *(f"sham_{method}" for method in METHODS), "remap", *EXTRAPOLATED_ARMS)
"""Arms of the small presets."""
