"""Controls of GCG: random tokens at the same number of candidates, and the initial tokens alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from makebreak.attacks.candidates import CandidateSearch
from makebreak.attacks.result import AttackResult, Progress, score_attack
from makebreak.attacks.token_search import TokenSearch
from makebreak.evaluation import Target
from makebreak.prompts import Requests


@dataclass(frozen=True)
class RandomTokens(TokenSearch):
    """Random tokens: all tokens of every candidate are drawn at random, and the best candidate is kept."""

    tag: ClassVar[str] = "RandomTokens"
    method: ClassVar[str] = "random"
    title: ClassVar[str] = "random tokens"

    def propose(
        self, search: CandidateSearch, current: Tensor, rows: Tensor, random: torch.Generator
    ) -> Int[Tensor, "requests n k"]:
        """Draws all tokens of every candidate."""
        n_requests, k = current[search.first(rows)].shape
        shape = (n_requests, self.candidates, k)
        return search.choice[torch.randint(len(search.choice), shape, generator=random)]


@dataclass(frozen=True)
class InitialTokens(RandomTokens):
    """Control without a search: the slots keep the token that every search starts from."""

    tag: ClassVar[str] = "InitialTokens"
    title: ClassVar[str] = "initial tokens"

    def __call__(
        self, target: Target, requests: Requests, *, seed: int, progress: Progress | None = None, **_: object
    ) -> AttackResult:
        """Fills the slots and returns the requests with their outcomes."""
        slots = self.insert(target, requests)
        return score_attack(self.name, target, slots.requests, positions=slots.positions, progress=progress)
