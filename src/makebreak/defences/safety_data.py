"""What a mitigation is given, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from makebreak.prompts import Family, Requests, World

N_USER_EXAMPLES = 20
"""Number of the user's examples that a mitigation is given."""

AnsweredRequests = tuple[Requests, Literal["refused", "instructed"]]
"""Requests and which of their two reference answers is trained."""


@dataclass(frozen=True)
class SafetyData:
    """Requests that a provider can write: the first n of a seed, in any family of the world."""

    world: World
    """World of the requests."""
    n: int
    """Number of safety examples that are mixed in."""
    seed: int
    """Seed of the requests."""

    def sample(self, family: Family | str) -> Requests:
        """All n requests in one family."""
        return self.world.sample(str(family), self.n, seed=self.seed)

    def round_robin(self, families: Sequence[Family | str]) -> list[Requests]:
        """The n requests spread over several families: request i is in family i modulo their number."""
        parts = [self.sample(family)[i :: len(families)] for i, family in enumerate(families)]
        return [part for part in parts if len(part)]

    @property
    def formats(self) -> list[str]:
        """Formats of the world, open text (`gen`) first."""
        families = [Family.parse(name) for name in self.world.families]
        return list(dict.fromkeys(f.format for f in families if f.format and f.kind == "unsafe"))


Mitigation = Callable[[SafetyData, Requests], list[AnsweredRequests]]
"""A function of what the provider can write and of a few of the user's examples; returns the safety
examples."""
