"""Controls of GCG: random tokens at the same number of candidates, and the initial tokens alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from makebreak.attacks.candidates import CandidateSearch
from makebreak.attacks.result import Progress
from makebreak.attacks.token_search import AdversarialTokens, TokenSearch
from makebreak.evaluation import Target
from makebreak.prompts import Requests


@dataclass(frozen=True)
class RandomTokens(TokenSearch):
    """Random tokens: all tokens of every candidate are drawn at random, and the best candidate is kept."""

    tag: ClassVar[str] = "RandomTokens"
    method: ClassVar[str] = "random"
    title: ClassVar[str] = "random tokens"
    is_control: ClassVar[bool] = True

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

    def optimise(
        self,
        target: Target,
        requests: Requests,
        *,
        seed: int,
        shared: bool = False,
        progress: Progress | None = None,
        folder: Path | None = None,
    ) -> AdversarialTokens:
        """Returns the tokens that the slots are filled with at first."""
        slots = self.insert(target, requests)
        ids = np.take_along_axis(slots.requests.prompt, slots.positions, axis=1)
        return AdversarialTokens(ids[:1] if shared else ids)
