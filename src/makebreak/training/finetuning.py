"""Fine-tuning after alignment on a small set of examples, harmful or benign (Qi et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

from makebreak.prompts import Sequences, World, sequences
from makebreak.training.data import concatenate, draw_batch
from makebreak.training.objective import Objective


@dataclass(frozen=True)
class FineTuning(Objective):
    """Cross-entropy on whole answers of a fixed set of examples, from which every batch is drawn uniformly.

    At least one of the three numbers must be above 0.
    """

    tag: ClassVar[str] = "FineTuning"
    n_harmful: int = field(default=100, metadata={"key": "harmful"})
    """Number of unsafe requests that are answered as instructed."""
    n_refused: int = field(default=0, metadata={"key": "refused"})
    """Number of further unsafe requests, which are refused."""
    n_harmless: int = field(default=0, metadata={"key": "harmless"})
    """Number of requests of `family` that are answered as instructed."""
    family: str = "safe"
    """Family of the harmless requests."""

    def __post_init__(self) -> None:
        numbers = (self.n_harmful, self.n_refused, self.n_harmless)
        if min(numbers) < 0 or not sum(numbers):
            raise ValueError(
                f"{self.n_harmful} harmful, {self.n_refused} refused and {self.n_harmless} other examples: "
                "expected one at least"
            )

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Sequences:
        """Returns the batch of a step, drawn from the examples of the seed."""
        return draw_batch(_examples(world, self, seed), size=size, step=step, seed=seed)

    def describe(self) -> str:
        """`finetuned`, with the number of harmful, refused and harmless examples."""
        refused = f"+{self.n_refused}:refused" if self.n_refused else ""
        harmless = f"+{self.n_harmless}:{self.family}" if self.n_harmless else ""
        return f"finetuned:{self.n_harmful}{refused}{harmless}"


@lru_cache(maxsize=8)
def _examples(world: World, objective: FineTuning, seed: int) -> Sequences:
    """All examples that an objective trains on with a seed."""
    n_unsafe, parts = objective.n_harmful + objective.n_refused, []
    if n_unsafe:
        unsafe = world.sample("unsafe", n_unsafe, seed=seed)
        parts += [(unsafe[: objective.n_harmful], "instructed"), (unsafe[objective.n_harmful :], "refused")]
    if objective.n_harmless:
        parts.append((world.sample(objective.family, objective.n_harmless, seed=seed), "instructed"))
    return concatenate(
        [sequences(world, requests, answer, whole=True) for requests, answer in parts if len(requests)]
    )
