"""Random search: a control of GCG at the same number of candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from makebreak.attacks.candidates import CandidateSearch
from makebreak.attacks.token_search import TokenSearch, swap_tokens


@dataclass(frozen=True)
class RandomSearch(TokenSearch):
    """Random search: one token is swapped at random, and only a better candidate is continued from."""

    tag: ClassVar[str] = "RandomSearch"
    method: ClassVar[str] = "search"
    title: ClassVar[str] = "random search"
    is_control: ClassVar[bool] = True

    def propose(
        self, search: CandidateSearch, current: Tensor, rows: Tensor, random: torch.Generator
    ) -> Int[Tensor, "requests n k"]:
        """Swaps one token of each candidate at random."""
        tokens = current[search.first(rows)]
        (n_requests, k), n = tokens.shape, self.candidates
        slot = torch.randint(k, (n_requests, n), generator=random)
        new = search.choice[torch.randint(len(search.choice), (n_requests, n), generator=random)]
        return swap_tokens(tokens, slot, new)
