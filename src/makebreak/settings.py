"""Settings of the jobs on language models, which are also the options of the command line.

The docstring of a field is the help text of its option, which keeps its line breaks. Nothing heavy is
imported, so that help is fast; a name in a registry is checked where it is looked up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import tyro

from makebreak.configs import check_not_negative, check_positive

Flag = tyro.conf.FlagCreatePairsOff
"""Marks an option that is set by its name alone."""


@dataclass(frozen=True)
class GenerationSettings:
    """Prompt template and answers."""

    tag: ClassVar[str] = "Settings"
    n_new: int = 48
    """Maximum number of tokens generated per answer."""
    template: str | None = "chat"
    """Prompt template: `chat` for the tokenizer's own, a text with `{}`, or None for the bare prompt."""
    system: str | None = None
    """System prompt. The prompt template must have a place for one."""
    seed: int = 0
    """Seed of random controls; answers are greedy."""

    def __post_init__(self) -> None:
        check_positive(n_new=self.n_new)
        check_not_negative(seed=self.seed)


@dataclass(frozen=True)
class AttackSettings:
    """Sizes of the attacks."""

    tag: ClassVar[str] = "Attacking"
    attack_tokens: int = 16
    """Number of adversarial tokens that are added to each request."""
    soft_tokens: int = 10
    """Number of embeddings in the soft prompt."""
    soft_radius: float = 0.3
    """Maximum norm of the soft prompt's embeddings, in units of the mean norm of token embeddings.
    The step size is proportional to it: at 1, the steps are too large for pretrained language models."""
    steps: int = 50
    """Optimisation steps per request. A search stops early once the model produces the target."""
    candidates: int = 64
    """Candidates evaluated per request and step, by GCG and by its random controls alike."""
    where: Literal["suffix", "prefix"] = "suffix"
    """Whether adversarial tokens follow the request (suffix) or precede it (prefix)."""
    universal: Annotated[bool, Flag] = False
    """Optimise one attack for all requests instead of one for each.
    It is fitted on half of the refused requests; all attacks are evaluated on the other half."""
    prefill: int = 5
    """Maximum number of target tokens that are forced as the beginning of the answer."""
    jailbreak_templates: Annotated[
        tuple[str, ...] | None, tyro.conf.arg(metavar="[NAME ...]", help_behavior_hint="(default: all)")
    ] = field(default=None, metadata={"key": "phrasings"})
    """Jailbreak templates to evaluate: base64, cipher,
    'prefix injection', 'refusal suppression', 'role play', and the
    control 'same length, no jailbreak'.
    The option without a name evaluates none."""

    def __post_init__(self) -> None:
        check_positive(
            attack_tokens=self.attack_tokens,
            soft_tokens=self.soft_tokens,
            steps=self.steps,
            candidates=self.candidates,
        )
        check_positive(prefill=self.prefill, soft_radius=self.soft_radius)
        if self.where not in ("suffix", "prefix"):
            raise ValueError(f"where = {self.where!r}: expected 'suffix' or 'prefix'")


@dataclass(frozen=True)
class LandscapeSettings:
    """Directions and points of a landscape."""

    tag: ClassVar[str] = "Walking"
    directions: int = 3
    """Number of random directions, identical for all models of the same architecture and size."""
    points: int = 21
    """Number of points per direction, an odd number: the point in the middle is the model itself."""
    window: float = 0.5
    """Largest perturbation to either side, relative to the norm of the weights."""
    normalisation: Literal["tensor", "row"] = field(default="tensor", metadata={"key": "per"})
    """Norm of a random direction: that of each weight tensor (as published), or of each row."""

    def __post_init__(self) -> None:
        check_positive(directions=self.directions, points=self.points, window=self.window)
        if self.points < 3 or self.points % 2 == 0:
            raise ValueError(
                f"points = {self.points}: expected an odd number from 3 on, so that the model itself is one "
                "of them"
            )

    @property
    def axis(self) -> list[float]:
        """Coordinates of the points of a direction."""
        half = self.points // 2
        return [round(self.window * i / half, 9) for i in range(-half, half + 1)]


@dataclass(frozen=True)
class FineTuneSettings:
    """Hyperparameters of a fine-tuning run; the defaults were tuned for SSFT on a 135M model."""

    tag: ClassVar[str] = "Teaching"
    steps: int = 160
    """Number of training steps."""
    learning_rate: float = 1e-4
    """Peak learning rate, reached after a tenth of the steps.
    The default was tuned on a model of 135 M parameters; larger models need less."""
    batch_size: int = 16
    """Number of examples per training step."""
    lora_rank: int = field(default=0, metadata={"key": "lora"})
    """Rank of low-rank adapters, merged into the saved weights; 0 trains all weights."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Precision of the forward pass in training; the weights stay in float32."""
    seed: int = 0
    """Seed of the order of examples and of the adapters."""

    def __post_init__(self) -> None:
        check_positive(steps=self.steps, learning_rate=self.learning_rate, batch_size=self.batch_size)
        check_not_negative(lora_rank=self.lora_rank, seed=self.seed)
