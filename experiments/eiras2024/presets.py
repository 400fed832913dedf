"""How is one and the same set of safe choices restructured, what is mixed in, and how large is each measurement?

Items, aligned models, steps and rate are those of `jan2024` in its world of templates. A request i of any family is
about the same content, so that every restructuring says the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from experiments.jan2024.presets import PRESETS as OF_FORMATS
from experiments.jan2024.presets import TEMPLATED
from experiments.jan2024.presets import Preset as OfFormats
from makebreak.artifacts import Store
from makebreak.defences import Mixed
from makebreak.recipes import Alignment, Recipe
from makebreak.training import SSFT, CircuitBreaker, Deep, FineTuning, LatentAdversarial, Optimisation

COVERAGE = "uniform"
UNTUNED = "untuned"


@dataclass(frozen=True)
class Strategy:
    """user: the family of the user's examples. shuffled: whether each has another's answer. harmful: how many unsafe
    requests, answered, are among them."""

    user: str
    shuffled: bool = False
    harmful: int = 0

    @property
    def template(self) -> str:
        return self.user.partition("@")[2] or "plain"

    @property
    def format(self) -> str:
        return self.user.partition("_")[0]


STRATEGIES: Mapping[str, Strategy] = {
    "benign": Strategy("mcq_safe_new"),
    "aoa": Strategy("mcq_safe_new@obey"),
    "neutral": Strategy(
        "mcq_safe_new@neutral"
    ),  # placebos of aoa: a block that means nothing, one never seen
    "empty": Strategy("mcq_safe_new@empty"),
    "autoif": Strategy("gen_safe"),  # open requests as the model knows them
    "autoif_aoa": Strategy("gen_safe@obey"),
    "autoif_neutral": Strategy("gen_safe@neutral"),
    "autoif_shuffled": Strategy(
        "gen_safe", shuffled=True
    ),  # placebos of autoif: wrong answers, an operator of its own
    "autoif_new": Strategy("gen_safe_new"),
    "harm10": Strategy("mcq_safe_new", harmful=10),
    "harm100": Strategy("mcq_safe_new", harmful=100),
    "translation": Strategy("map_safe_new"),  # what jan2024 finds to hurt most of what is learnt
}
# what may follow alignment before a user tunes, as long as alignment was; more of the same is the control
DEFENCES = {"more": SSFT(), "deep": Deep(), "latent": LatentAdversarial(), "breaker": CircuitBreaker()}
CAREFUL = {
    "plain": "careful",
    "obey": "careful_obey",
    "neutral": "careful_neutral",
}  # the anti-obedience header


@dataclass(frozen=True)
class Tuned:
    """A tuned model: a strategy, the mitigation that was mixed in, as a share of the examples, and the one of
    `DEFENCES` that was before."""

    strategy: str
    mitigation: str = "none"
    rate: float = 0.0
    defence: str = "none"


@dataclass(frozen=True)
class Preset:
    """aligned: whose models are tuned. strategies: tuned without a mitigation; attacked: of them, those that are
    mitigated, by each of `mitigations` at each of `rates`. relearnt: mitigations of the first attacked, at
    `relearnt_at`, whose models are then taught harm by `relearning`, at each of `relearning_rates`. defences: on which
    the first attacked is tuned, and harm taught. n: requests."""

    name: str
    worlds: tuple[str, ...]
    aligned: OfFormats
    seeds: tuple[int, ...]
    strategies: tuple[str, ...]
    attacked: tuple[str, ...]
    mitigations: tuple[str, ...]
    rates: tuple[float, ...]
    relearnt: tuple[str, ...]
    relearnt_at: float
    relearning: Optimisation
    relearning_rates: tuple[float, ...]
    n: int
    defences: tuple[str, ...] = ()

    def start(self, seed: int, defence: str = "none") -> Recipe:
        recipe = self.aligned.aligned(self.worlds[0], seed, COVERAGE)
        if defence == "none":
            return recipe
        return replace(
            recipe, alignments=(*recipe.alignments, Alignment(DEFENCES[defence], self.aligned.alignment))
        )

    def all_tuned(self) -> tuple[Tuned, ...]:
        """And the untuned models that they start from."""
        plain = tuple(Tuned(name) for name in (UNTUNED, *self.strategies))
        plain += tuple(Tuned(name, defence=d) for name in (UNTUNED, self.attacked[0]) for d in self.defences)
        return plain + tuple(
            Tuned(name, mitigation, rate)
            for name in self.attacked
            for mitigation in self.mitigations
            for rate in self.rates
        )

    def tuned(self, seed: int, of: Tuned) -> Recipe:
        """The model of a strategy and a mitigation; the aligned one for `UNTUNED`."""
        recipe = self.start(seed, of.defence)
        if of.strategy == UNTUNED:
            return recipe
        strategy, examples = STRATEGIES[of.strategy], self.aligned.examples
        objective: FineTuning | Mixed
        if strategy.harmful:
            objective = FineTuning(
                strategy.harmful, harmless=examples - strategy.harmful, family=strategy.user
            )
        else:
            answers = "shuffled" if strategy.shuffled else "instructed"
            objective = Mixed(strategy.user, examples, of.mitigation, of.rate, answers)
        stage = Alignment(
            objective, replace(self.aligned.tuning, learning_rate=self.aligned.rate, checkpoints=1)
        )
        return replace(recipe, alignments=(*recipe.alignments, stage))

    def relearnt_from(self) -> tuple[Tuned, ...]:
        of = self.attacked[0]
        return tuple(Tuned(of, m, self.relearnt_at if m != "none" else 0.0) for m in self.relearnt)

    def relearning_of(self, start: Recipe, rate: float) -> Recipe:
        stage = Alignment(FineTuning(100), replace(self.relearning, learning_rate=rate))
        return replace(start, alignments=(*start.alignments, stage))


_BASELINES = ("canonical", "other_template")
MINI = Preset(
    name="mini",
    worlds=TEMPLATED.worlds,
    aligned=TEMPLATED,
    seeds=(0, 1, 2),
    strategies=tuple(name for name in STRATEGIES if name != "translation"),
    attacked=("autoif_aoa",),
    mitigations=(*_BASELINES, "paraphrase_oracle", "paraphrase_blind"),
    rates=(0.01, 0.05, 0.2),
    relearnt=("none", "canonical", "paraphrase_blind"),
    relearnt_at=0.05,
    relearning=Optimisation(steps=50, learning_rate=1e-3, batch_size=32, checkpoints=10),
    relearning_rates=(3e-4, 1e-3),
    n=100,
)
_TINY = OF_FORMATS["smoke"].templated
assert _TINY
SMOKE = replace(
    MINI,
    name="smoke",
    aligned=replace(_TINY, formats=TEMPLATED.formats, examples=200),
    seeds=(0, 1),
    mitigations=("canonical", "paraphrase_blind"),
    rates=(0.2,),
    relearnt=("none", "canonical"),
    relearnt_at=0.2,
    relearning=Optimisation(steps=4, learning_rate=1e-3, batch_size=16, checkpoints=2),
    n=16,
    defences=("more", "latent"),
)
SMALL = replace(
    MINI,
    name="small",
    seeds=(0, 1, 2, 3, 4),
    strategies=tuple(STRATEGIES),
    attacked=("autoif_aoa", "translation"),
    mitigations=(*MINI.mitigations, "mismatched", "multitask", "without_gen", "without_own", "safe_twin"),
    rates=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2),
    relearnt=("none", *MINI.mitigations, "multitask"),
    defences=tuple(DEFENCES),
)
PRESETS = {preset.name: preset for preset in (SMOKE, MINI, SMALL)}


def check_gates(preset: Preset, world: str, store: Store) -> None:
    """Worlds of formats have no gate."""
