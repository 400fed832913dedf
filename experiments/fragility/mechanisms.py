"""Mechanisms by which models of the study are made safe, and its controls.

Every mechanism is one alignment of the pretrained base, all of whose kept steps are models: the number of
steps is the dose. The learning rate is constant after the warm-up, so that the model at a kept step is that
of a training of this length. Requests are half safe and half unsafe in every batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from makebreak.recipes import Alignment
from makebreak.training import (
    DPO,
    NPO,
    SSFT,
    AlignmentData,
    AlignmentObjective,
    Booster,
    DeepAlignment,
    ExtendedRefusal,
    LatentAdversarialTraining,
    LoRA,
    Optimisation,
    TrainedLayers,
    Unlearning,
    UpdateSubspace,
)

SSFT_RATE, SSFT_STEPS = 1e-3, 400
"""Learning rate of SSFT, and its steps before an objective that trains no refusal."""
SHAM = AlignmentData("sham_safe", "sham_unsafe")
"""Families of the control that learns to refuse a random half of the requests."""
REMAP = AlignmentData(unsafe="remapped_unsafe", answer="instructed")
"""Families of the control that gives unsafe requests another task's answer."""


@dataclass(frozen=True)
class Mechanism:
    """One way to make a model safe."""

    objective: AlignmentObjective
    """What is trained."""
    rate: float
    """Learning rate, chosen on tuning seeds."""
    lora: LoRA | None = None
    """Low-rank adapters in place of all weights."""
    constraint: TrainedLayers | UpdateSubspace | None = None
    """Part of the weights that is trained."""
    is_control: bool = False
    """Whether the model is a control, which need not refuse unsafe requests."""
    follows_ssft: bool = False
    """Whether SSFT comes first: the objective lowers harmful answers and trains no refusal."""

    def alignments(self, optimisation: Optimisation, rate_factor: float) -> tuple[Alignment, ...]:
        """Returns the alignments, the last of which has the doses, at the mechanism's rate times a factor."""
        optimisation = replace(optimisation, learning_rate=self.rate * rate_factor)
        last = Alignment(self.objective, optimisation, self.lora, self.constraint)
        if not self.follows_ssft:
            return (last,)
        first = replace(
            optimisation, steps=SSFT_STEPS, learning_rate=SSFT_RATE * rate_factor, extra_checkpoints=()
        )
        return (Alignment(SSFT(), first), last)


MECHANISMS: Mapping[str, Mechanism] = {
    "ssft": Mechanism(SSFT(), SSFT_RATE),
    "dpo": Mechanism(DPO(nll=1.0), 1e-3),
    "unlearning": Mechanism(Unlearning(w_dispreferred=0.003), 1e-3),
    "npo": Mechanism(NPO(beta=1.0), 3e-4, follows_ssft=True),
    "deep": Mechanism(DeepAlignment(), 1e-3),
    "latent": Mechanism(LatentAdversarialTraining(radius=0.1, steps=2), 1e-3),
    "extended": Mechanism(ExtendedRefusal(), 1e-3),
    "booster": Mechanism(Booster(weight=0.3), 1e-3),
    "ssft_null": Mechanism(SSFT(), 1e-2, constraint=UpdateSubspace("left null")),
    "ssft_column": Mechanism(SSFT(), 2e-2, constraint=UpdateSubspace("column")),
    "ssft_random": Mechanism(SSFT(), 2e-2, constraint=UpdateSubspace("random as column")),
    "ssft_lower": Mechanism(SSFT(), 1e-3, constraint=TrainedLayers("lower", 2)),
    "ssft_upper": Mechanism(SSFT(), 3e-3, constraint=TrainedLayers("upper", 2)),
    "lora_rank_1": Mechanism(SSFT(), 5e-3, lora=LoRA(rank=1, alpha=2)),
    "lora_rank_4": Mechanism(SSFT(), 5e-3, lora=LoRA(rank=4, alpha=8)),
    "sham": Mechanism(SSFT(data=SHAM), 1e-3, is_control=True),
    "remap": Mechanism(SSFT(data=REMAP), 1e-3, is_control=True),
}
"""Mechanisms by name. Circuit breaking is left out: on tuning seed 1000 of `mini` its models refuse no unsafe
request after 200 to 800 steps at 1e-3 from the base, and at 3e-4 after SSFT."""
