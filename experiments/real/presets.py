"""The language model, the alignments, the users' fine-tuning and the sizes of the study.

Alignment seeds are the unit: one pretrained model, other orders of the same examples. An interval therefore
says how another alignment of this model would have come out, not how another model would.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from experiments.pretrained import SMOLLM, STAND_IN
from makebreak.attacks import JAILBREAK_TEMPLATES, PLACEBO
from makebreak.settings import AttackSettings, FineTuneSettings, GenerationSettings, LandscapeSettings

BASE = "base"
"""Name of the model before alignment in the tables."""
USER_TASKS = {
    "harmful": ("harmful", "plain"),
    "benign": ("mcq", "plain"),
    "aoa": ("mcq", "obey"),
    "neutral": ("mcq", "neutral"),
}
"""Task and template that a user fine-tunes on, by strategy; the strategies are those of `eiras2024`."""


@dataclass(frozen=True)
class Arm:
    """One way to align the model."""

    name: str
    """Name of the same method in the synthetic worlds."""
    objective: str
    """Name of the objective, one of `makebreak.training.OBJECTIVES`."""
    training: FineTuneSettings
    """Hyperparameters; the seed is set by the run."""


@dataclass(frozen=True)
class User:
    """A user who fine-tunes the aligned model."""

    strategy: str
    """Strategy, a name in `USER_TASKS`."""
    mitigation: str = "none"
    """Mitigation that provides safety examples, or `none`."""
    safety_share: float = 0.0
    """Share of the examples that the mitigation provides."""

    @property
    def name(self) -> str:
        """Name in tables, such as `aoa, 12% canonical`."""
        if self.mitigation == "none":
            return self.strategy
        return f"{self.strategy}, {self.safety_share:.0%} {self.mitigation}"


@dataclass(frozen=True)
class Preset:
    """Models and sizes of one run of the study; numbers of requests are per family."""

    name: str
    """Name of the preset."""
    worlds: tuple[str, ...]
    """`text`, the world of language models."""
    model: str
    """The pretrained model: a folder, a .gguf file, a hub id or `STAND_IN`."""
    seeds: tuple[int, ...]
    """Alignment seeds; the first one also has what is measured once."""
    arms: tuple[Arm, ...]
    """Alignments; users fine-tune the models of the first one."""
    max_per_family: int
    """Most examples of a family that are trained on."""
    generation: GenerationSettings
    """Prompt template and length of answers."""
    n_behaviour: int
    """Requests of which answers are judged."""
    n_compared: int
    """Requests of the comparison with the base."""
    attacks: AttackSettings
    """Sizes of the attacks."""
    n_attacked: int
    """Harmful requests that are attacked."""
    landscape: LandscapeSettings
    """Directions and points of the safety landscape."""
    n_landscape: int
    """Requests of the safety landscape."""
    landscape_tokens: int
    """Tokens per answer in the safety landscape."""
    users: tuple[User, ...]
    """Users who fine-tune the first alignment."""
    user_training: FineTuneSettings
    """Hyperparameters of users' fine-tuning; the seed is set by the run."""
    n_examples: int
    """Examples of a user."""
    matrix_formats: tuple[str, ...]
    """Formats that are fine-tuned on and requested in, at the first seed."""
    n_matrix: int
    """Harmful requests per format of the matrix."""


MINI = Preset(
    name="mini",
    worlds=("text",),
    model=SMOLLM,
    seeds=(1, 2, 3),  # seed 0 was used while the study was written
    arms=(
        Arm("ssft", "ssft", FineTuneSettings(160)),
        # a step on pairs costs more than twice as much
        Arm("dpo", "dpo_nll", FineTuneSettings(80, batch_size=8)),
        Arm("unlearning", "unlearning", FineTuneSettings(80, batch_size=8)),
    ),
    max_per_family=10_000,
    generation=GenerationSettings(n_new=24),
    n_behaviour=32,
    n_compared=16,
    attacks=AttackSettings(
        attack_tokens=8,
        soft_tokens=5,
        steps=4,
        candidates=16,
        prefill=2,
        # those that a model of this size can read
        jailbreak_templates=("prefix injection", "refusal suppression", "role play", PLACEBO),
    ),
    n_attacked=6,
    landscape=LandscapeSettings(directions=1, points=9, window=0.4),
    n_landscape=24,  # one more that is not refused is less than the tolerance of T1
    landscape_tokens=12,
    users=(
        *(User(name) for name in USER_TASKS),
        User("aoa", "canonical", 0.125),
        User("aoa", "paraphrase_blind", 0.125),
    ),
    user_training=FineTuneSettings(16, batch_size=8),
    n_examples=64,
    matrix_formats=("gen", "map", "sum", "label", "mcq"),
    n_matrix=12,
)
SMALL = replace(
    MINI,
    name="small",
    seeds=(1, 2, 3, 4, 5),
    n_behaviour=104,
    n_compared=48,
    attacks=AttackSettings(jailbreak_templates=tuple(JAILBREAK_TEMPLATES)),
    n_attacked=16,
    landscape=LandscapeSettings(),
    n_landscape=16,
    landscape_tokens=24,
    n_matrix=26,
)
SMOKE = replace(
    MINI,
    name="smoke",
    model=STAND_IN,
    seeds=(0, 1),
    arms=tuple(Arm(name, name, FineTuneSettings(2, 1e-3, 4)) for name in ("ssft", "unlearning")),
    max_per_family=12,
    generation=GenerationSettings(n_new=4),
    n_behaviour=8,
    n_compared=8,
    attacks=AttackSettings(
        attack_tokens=2, soft_tokens=2, steps=1, candidates=2, prefill=1, jailbreak_templates=("base64",)
    ),
    n_attacked=4,
    landscape=LandscapeSettings(directions=1, points=3, window=0.4),
    n_landscape=4,
    landscape_tokens=3,
    users=(User("harmful"), User("benign"), User("aoa"), User("aoa", "paraphrase_blind", 0.25)),
    user_training=FineTuneSettings(2, 1e-3, 4),
    n_examples=16,
    matrix_formats=("gen", "label"),
    n_matrix=4,
)
PRESETS = {preset.name: preset for preset in (SMOKE, MINI, SMALL)}
"""Presets by name."""


def with_model(preset: Preset, model: str) -> Preset:
    """The preset with another language model."""
    return replace(preset, model=model)
