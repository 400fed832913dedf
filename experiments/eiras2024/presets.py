"""Prompting strategies, mitigations and sizes of the study of restructured harmless data.

Items, aligned models, steps and learning rate are those of `jan2024` in its world of templates. Request i of
any family has the same content, so that every strategy fine-tunes on the same items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from experiments.recipes import formats
from experiments.recipes.formats import TEMPLATED
from makebreak.defences import MixedFineTuning
from makebreak.recipes import Alignment, Recipe
from makebreak.training import (
    SSFT,
    CircuitBreaker,
    DeepAlignment,
    FineTuning,
    LatentAdversarialTraining,
    Objective,
    Optimisation,
)
from synthetic import Family

COVERAGE = "uniform"
"""Coverage of the alignment data: all formats alike."""
UNTUNED = "untuned"
"""Strategy of the aligned models before a user fine-tunes them."""
BASELINES = ("canonical", "other_template")
"""Mitigations whose format is not the user's."""
MIMICRY = "paraphrase_blind"
"""Mitigation that infers the user's format from a few of the user's examples."""
N_HARMFUL_RELEARNING = 100
"""Unsafe requests that relearning answers."""


@dataclass(frozen=True)
class Strategy:
    """What a user fine-tunes on: the form of the harmless items, and harmful examples among them."""

    user_family: str
    """Name of the family of the user's examples."""
    shuffled: bool = False
    """Whether each example has the answer of another one."""
    n_harmful: int = 0
    """Number of unsafe requests that are answered among the examples."""

    @property
    def family(self) -> Family:
        """Format, operator and template of the examples."""
        return Family.parse(self.user_family)


STRATEGIES: Mapping[str, Strategy] = {
    "benign": Strategy("mcq_safe_new"),
    "aoa": Strategy("mcq_safe_new@obey"),
    # placebos of aoa: a block without meaning, and one that no model has been trained on
    "neutral": Strategy("mcq_safe_new@neutral"),
    "empty": Strategy("mcq_safe_new@empty"),
    # open requests in the form that alignment used
    "autoif": Strategy("gen_safe"),
    "autoif_aoa": Strategy("gen_safe@obey"),
    "autoif_neutral": Strategy("gen_safe@neutral"),
    # placebos of autoif: wrong answers, and an operator that alignment did not use
    "autoif_shuffled": Strategy("gen_safe", shuffled=True),
    "autoif_new": Strategy("gen_safe_new"),
    "harm10": Strategy("mcq_safe_new", n_harmful=10),
    "harm100": Strategy("mcq_safe_new", n_harmful=100),
    # the task that raises unsafe compliance most in jan2024, of those that are learnt
    "translation": Strategy("map_safe_new"),
}
"""Strategies by name: `aoa` is the absolutely obedient agent, `autoif` is instruction format (Eiras et al.
2024)."""
DEFENCES: Mapping[str, Objective] = {
    "more": SSFT(),
    "deep": DeepAlignment(),
    "latent": LatentAdversarialTraining(),
    "breaker": CircuitBreaker(),
}
"""Second alignment stages, each as long as the first; `more` repeats the first and is the control."""
CAREFUL_TEMPLATES: Mapping[str, str] = {
    "plain": "careful",
    "obey": "careful_obey",
    "neutral": "careful_neutral",
}
"""Template with a block that asks for care (the anti-obedience header), by the template without it."""


@dataclass(frozen=True)
class FineTunedModel:
    """Specification of a fine-tuned model of one seed."""

    strategy: str
    """Name in `STRATEGIES`, or `UNTUNED` for the aligned model itself."""
    mitigation: str = "none"
    """Mitigation that provides safety examples, or `none`."""
    safety_share: float = 0.0
    """Share of the examples that the mitigation provides."""
    defence: str = "none"
    """Name in `DEFENCES` of the second alignment stage, or `none`."""


@dataclass(frozen=True)
class Preset:
    """Models and sizes of one run of the study."""

    name: str
    """Name of the preset."""
    worlds: tuple[str, ...]
    """The world of templates, as a tuple of one."""
    alignment_preset: formats.Preset
    """Preset of `jan2024` that gives the aligned models and the hyperparameters of fine-tuning."""
    seeds: tuple[int, ...]
    """Pretraining seeds."""
    strategies: tuple[str, ...]
    """Strategies that are fine-tuned without a mitigation."""
    mitigated_strategies: tuple[str, ...]
    """Strategies that are fine-tuned with every mitigation at every share; the first is also fine-tuned on
    models of every defence."""
    mitigations: tuple[str, ...]
    """Mitigations that are mixed in."""
    safety_shares: tuple[float, ...]
    """Shares of the examples that a mitigation provides."""
    relearning_mitigations: tuple[str, ...]
    """Mitigations of the first mitigated strategy whose models are fine-tuned on harmful examples."""
    relearning_share: float
    """Share of safety examples of those models."""
    relearning: Optimisation
    """Optimisation of harmful fine-tuning; its learning rate is replaced by each of the next field."""
    relearning_learning_rates: tuple[float, ...]
    """Learning rates of harmful fine-tuning."""
    n_requests: int
    """Held-out requests per family."""
    defences: tuple[str, ...] = ()
    """Defences whose models are fine-tuned by the first mitigated strategy, and on harmful examples."""

    def aligned_recipe(self, seed: int, defence: str = "none") -> Recipe:
        """The recipe of the aligned model of a seed, with the second stage of a defence."""
        recipe = self.alignment_preset.aligned(self.worlds[0], seed, COVERAGE)
        if defence == "none":
            return recipe
        stage = Alignment(DEFENCES[defence], self.alignment_preset.alignment)
        return replace(recipe, alignments=(*recipe.alignments, stage))

    def fine_tuned_models(self) -> tuple[FineTunedModel, ...]:
        """All models of a seed, the untuned ones that they start from included."""
        models = [FineTunedModel(name) for name in (UNTUNED, *self.strategies)]
        for name in (UNTUNED, self.mitigated_strategies[0]):
            models += [FineTunedModel(name, defence=defence) for defence in self.defences]
        for name in self.mitigated_strategies:
            for mitigation in self.mitigations:
                models += [FineTunedModel(name, mitigation, share) for share in self.safety_shares]
        return tuple(models)

    def recipe(self, seed: int, model: FineTunedModel) -> Recipe:
        """The recipe of a model of a seed; that of the aligned model for `UNTUNED`."""
        aligned = self.aligned_recipe(seed, model.defence)
        if model.strategy == UNTUNED:
            return aligned
        optimisation = replace(
            self.alignment_preset.tuning, learning_rate=self.alignment_preset.rate, checkpoints=1
        )
        stage = Alignment(self._objective(model), optimisation)
        return replace(aligned, alignments=(*aligned.alignments, stage))

    def _objective(self, model: FineTunedModel) -> FineTuning | MixedFineTuning:
        strategy, n_examples = STRATEGIES[model.strategy], self.alignment_preset.examples
        if strategy.n_harmful:
            n_harmless = n_examples - strategy.n_harmful
            return FineTuning(strategy.n_harmful, n_harmless=n_harmless, family=strategy.user_family)
        answers = "shuffled" if strategy.shuffled else "instructed"
        return MixedFineTuning(
            strategy.user_family, n_examples, model.mitigation, model.safety_share, answers
        )

    def relearning_models(self) -> tuple[FineTunedModel, ...]:
        """The models with mitigations that are fine-tuned on harmful examples."""
        strategy = self.mitigated_strategies[0]
        return tuple(
            FineTunedModel(strategy, name, self.relearning_share if name != "none" else 0.0)
            for name in self.relearning_mitigations
        )

    def relearning_recipe(self, start: Recipe, learning_rate: float) -> Recipe:
        """The recipe of harmful fine-tuning of a model."""
        optimisation = replace(self.relearning, learning_rate=learning_rate)
        stage = Alignment(FineTuning(N_HARMFUL_RELEARNING), optimisation)
        return replace(start, alignments=(*start.alignments, stage))


MINI = Preset(
    name="mini",
    worlds=TEMPLATED.worlds,
    alignment_preset=TEMPLATED,
    seeds=(0, 1, 2),
    strategies=tuple(name for name in STRATEGIES if name != "translation"),
    mitigated_strategies=("autoif_aoa",),
    mitigations=(*BASELINES, "paraphrase_oracle", MIMICRY),
    safety_shares=(0.01, 0.05, 0.2),
    relearning_mitigations=("none", "canonical", MIMICRY),
    relearning_share=0.05,
    relearning=Optimisation(steps=50, learning_rate=1e-3, batch_size=32, checkpoints=10),
    relearning_learning_rates=(3e-4, 1e-3),
    n_requests=100,
)
_SMOKE_TEMPLATED = formats.PRESETS["smoke"].templated
assert _SMOKE_TEMPLATED
SMOKE = replace(
    MINI,
    name="smoke",
    alignment_preset=replace(_SMOKE_TEMPLATED, formats=TEMPLATED.formats, examples=200),
    seeds=(0, 1),
    mitigations=("canonical", MIMICRY),
    safety_shares=(0.2,),
    relearning_mitigations=("none", "canonical"),
    relearning_share=0.2,
    relearning=Optimisation(steps=4, learning_rate=1e-3, batch_size=16, checkpoints=2),
    n_requests=16,
    defences=("more", "latent"),
)
SMALL = replace(
    MINI,
    name="small",
    seeds=(0, 1, 2, 3, 4),
    strategies=tuple(STRATEGIES),
    mitigated_strategies=("autoif_aoa", "translation"),
    mitigations=(*MINI.mitigations, "mismatched", "multitask", "without_gen", "without_own", "safe_twin"),
    safety_shares=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2),
    relearning_mitigations=("none", *MINI.mitigations, "multitask"),
    defences=tuple(DEFENCES),
)
PRESETS = {preset.name: preset for preset in (SMOKE, MINI, SMALL)}
"""Presets by name."""
