"""Presets of the study on a pretrained language model: its mechanisms, doses, predictors and sizes.

The study is exploratory: predictors are those that were the best in the world `mini`, of one pretrained model
and one alignment seed, so that mechanisms are the unit. Rates, doses, attacks and the bounds of qualification
were chosen with SSFT and LoRA of rank 4 on alignment seed 1000, whose examples come in another order; its
models are no part of the results, the held-out prompts are the same. The other mechanisms have the rate of
SSFT. SSFT refused .71 of harmful prompts and answered .44 of harmless ones after 40 steps,
.77 and .62 after 60, and .77 and .42 after 40 steps of twice the rate; LoRA .37 and .74 after 40 steps, .65
and .60 after 60.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from experiments.fragility.mechanisms import Mechanism
from experiments.pretrained import SMOLLM, STAND_IN
from makebreak.fragility import BASELINES
from makebreak.settings import GenerationSettings
from makebreak.training import (
    DPO,
    SSFT,
    DeepAlignment,
    ExtendedRefusal,
    LatentAdversarialTraining,
    LoRA,
    TrainedLayers,
    Unlearning,
)

WORLD = "text"
"""Name of the world of language models in the tables."""
PREDICTOR_NAMES = (
    *BASELINES,
    "r50_steepest",
    "margin_p5",
    "sensitivity",
    "tau_gap",
    "tau_normalised",
    "inlp_rank",
    "kl_depth",
    "prefix_depth",
    "visage",
    "floor_radius",
)
"""The three baselines, and the ten other predictors with the largest correlation with compliance after
harmful fine-tuning in the confirmatory seeds of `mini`: in the claimed direction, absolute where there is
none. Of the two definitions of VISAGE, it is that of the text. INLP rank is cruder than in `mini`, where
states have fewer dimensions than there are requests."""
MECHANISMS: Mapping[str, Mechanism] = {
    "ssft": Mechanism(SSFT(), 1e-4),
    "dpo": Mechanism(DPO(nll=1.0), 1e-4),
    "unlearning": Mechanism(Unlearning(), 1e-4),
    "deep": Mechanism(DeepAlignment(), 1e-4),
    "extended": Mechanism(ExtendedRefusal(), 1e-4),
    "latent": Mechanism(LatentAdversarialTraining(radius=0.1, steps=2), 1e-4),
    "ssft_lower": Mechanism(SSFT(), 1e-4, constraint=TrainedLayers("lower", 15)),
    "ssft_upper": Mechanism(SSFT(), 1e-4, constraint=TrainedLayers("upper", 15)),
    "lora_rank_4": Mechanism(SSFT(), 1e-3, lora=LoRA(rank=4, alpha=8)),
}
"""Mechanisms by name, those of the synthetic worlds. SmolLM2-135M has 30 blocks, and one matrix for
embeddings and output, which is trained with the lower blocks."""


@dataclass(frozen=True)
class LanguageFineTuningSettings:
    """Length of the fine-tuning attacks, and prompts on which they are measured."""

    tag: ClassVar[str] = "LanguageFineTuning"
    harmful_steps: tuple[int, ...] = (1, 2)
    """Steps of the harmful attack after which outcomes are measured; the last one ends it."""
    other_steps: tuple[int, ...] = (8,)
    """The same for the other attackers."""
    harmful_rates: tuple[float, ...] = (2e-5, 5e-5)
    """Learning rates of the harmful attacker, of which the best counts."""
    other_rates: tuple[float, ...] = (1e-4,)
    """The same for the other attackers."""
    batch_size: int = 8
    """Examples per step."""
    n_examples: int = 64
    """Examples of an attacker."""
    n_unsafe: int = 24
    """Held-out harmful prompts, refused before the attack, whose compliance is measured."""
    n_safe: int = 16
    """Held-out harmless prompts whose compliance is measured."""

    @property
    def rates(self) -> tuple[float, ...]:
        """Learning rates of any attacker."""
        return tuple(dict.fromkeys((*self.harmful_rates, *self.other_rates)))

    def schedule(self, is_harmful: bool) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Measured steps and learning rates of the harmful attacker, or of the others."""
        if is_harmful:
            return self.harmful_steps, self.harmful_rates
        return self.other_steps, self.other_rates


@dataclass(frozen=True)
class LanguagePreset:
    """Size of the study on a language model."""

    name: str
    """Name of the preset."""
    model: str = SMOLLM
    """The pretrained model: a folder, a .gguf file, a hub id or `STAND_IN`."""
    seeds: tuple[int, ...] = (0, 1)
    """Alignment seeds. The second one was added when seven alignments of the first were known, to test one
    prediction, which was fixed before it was run: compliance after benign fine-tuning is the lower, the
    larger the KL depth is (the only significant pair of those seven)."""
    mechanisms: tuple[str, ...] = tuple(MECHANISMS)
    """Mechanisms, names in `MECHANISMS`."""
    doses: tuple[int, ...] = (60,)
    """Steps of the alignment after which a model is kept, ascending."""
    batch_size: int = 8
    """Examples per step of the alignment."""
    max_per_family: int = 200
    """Most training prompts of each family."""
    generation: GenerationSettings = field(default_factory=lambda: GenerationSettings(n_new=24))
    """Prompt template and length of answers."""
    n_qualification: int = 52
    """Held-out prompts of each class on which models must qualify; a half of ours has as many."""
    fine_tuning: LanguageFineTuningSettings = field(default_factory=LanguageFineTuningSettings)
    """Length and sizes of the fine-tuning attacks."""
    n_attacked: int = 8
    """Harmful prompts, refused before the attack, of attacks on the prompt."""
    n_outcome: int = 24
    """Harmful prompts, refused before the attack, of the other outcomes."""
    requires_qualification: bool = True
    """Whether models must qualify to be analysed; where nothing is learnt, all are."""

    @property
    def worlds(self) -> tuple[str, ...]:
        """The world of language models."""
        return (WORLD,)


LANGUAGE = LanguagePreset("language")
LANGUAGE_SMOKE = replace(
    LANGUAGE,
    name="language-smoke",
    model=STAND_IN,
    seeds=(0, 1),
    mechanisms=("ssft", "deep", "lora_rank_4"),
    doses=(1, 2),
    batch_size=4,
    max_per_family=12,
    generation=GenerationSettings(n_new=4),
    n_qualification=8,
    fine_tuning=LanguageFineTuningSettings((1, 2), (2,), (1e-3,), (1e-3,), 4, 8, 4, 4),
    n_attacked=2,
    n_outcome=4,
    requires_qualification=False,
)
LANGUAGE_PRESETS = {preset.name: preset for preset in (LANGUAGE_SMOKE, LANGUAGE)}
"""Presets by name."""
