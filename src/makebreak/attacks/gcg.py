"""Greedy coordinate gradient (GCG; Zou et al. 2023) over many requests at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.attacks.candidates import CandidateSearch
from makebreak.attacks.slots import AdversarialSlots, fill_slots
from makebreak.attacks.soft_embeddings import check_gradients, soft_prompt_embeddings
from makebreak.attacks.token_search import TokenSearch, swap_tokens
from makebreak.configs import check_positive
from makebreak.evaluation import score_targets
from makebreak.prompts import target_sequences

_TOKENS_WITH_GRADIENT = 4096
"""Most prompt tokens of one forward and backward pass."""
_TOPK = 32


@dataclass(frozen=True)
class GCG(TokenSearch):
    """Greedy coordinate gradient: one token is swapped for one of those that lower the loss most.

    The effect of a swap is estimated to first order. The search continues from the best candidate even if it
    is worse than the present tokens.
    """

    tag: ClassVar[str] = "GCG"
    topk: int | None = None
    """Tokens per slot that the gradient proposes, never more than a quarter of the allowed tokens (at least
    1): a gradient that proposes nearly all of them is a random search. None, the default, is 32 or that
    quarter, the smaller of the two. The search raises ValueError for a `topk` above 1 that is half of the
    allowed tokens or more."""
    method: ClassVar[str] = "gradient"
    title: ClassVar[str] = "GCG"
    accepts_worse: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.topk is not None:
            check_positive(topk=self.topk)

    def check_model(self, model: PreTrainedModel) -> None:
        """Raises ValueError if the model gives no gradients."""
        check_gradients(model)

    def n_proposals(self, n_allowed: int) -> int:
        """Returns how many tokens the gradient proposes per slot.

        Args:
            n_allowed: Number of allowed tokens.

        Returns:
            `topk` or its default, at most a quarter of the allowed tokens and at least 1.

        Raises:
            ValueError: If `topk` is above 1 and half of the allowed tokens or more.
        """
        if self.topk is not None and self.topk > 1 and 2 * self.topk >= n_allowed:
            raise ValueError(
                f"topk = {self.topk} of {n_allowed} allowed tokens makes GCG a random search: expected at "
                f"most {max(n_allowed // 4, 1)}, a quarter; lower topk or leave it out"
            )
        return max(min(_TOPK if self.topk is None else self.topk, n_allowed // 4), 1)

    def propose(
        self, search: CandidateSearch, current: Tensor, rows: Tensor, random: torch.Generator
    ) -> Int[Tensor, "requests n k"]:
        """Swaps one token of each candidate for one that the gradient proposes."""
        proposals, tokens = self.proposals(search, current, rows), current[search.first(rows)]
        (n_requests, k), n = tokens.shape, self.candidates
        slot = torch.randint(k, (n_requests, n), generator=random)
        rank = torch.randint(proposals.shape[-1], (n_requests, n), generator=random)
        return swap_tokens(tokens, slot, proposals[torch.arange(n_requests)[:, None], slot, rank])

    def proposals(
        self, search: CandidateSearch, current: Tensor, rows: Tensor
    ) -> Int[Tensor, "requests k topk"]:
        """Tokens with the steepest descent of the loss per slot, by the gradient of one-hot tokens."""
        model, n, k = search.model, len(rows), current.shape[1]
        embedding: Any = model.get_input_embeddings()
        with torch.no_grad():  # through the module, as some models scale their embeddings
            start = embedding(current[rows].to(model.device))
            table = embedding(search.choice.to(model.device))
        # every slot gets an id of its own, and thereby a gradient of its own
        slots = AdversarialSlots(search.slots.requests[rows.numpy()], search.slots.positions[rows.numpy()])
        requests = fill_slots(slots, len(embedding.weight) + np.arange(n * k).reshape(n, k))
        gradients = []
        for part in torch.arange(n).split(max(_TOKENS_WITH_GRADIENT // requests.prompt.shape[1], 1)):
            vectors = start.flatten(0, 1).requires_grad_()
            with soft_prompt_embeddings(model, vectors, share_position=False):
                batch = target_sequences(requests[part.numpy()], "instructed")
                loss = score_targets(model, batch).nll.sum()
            gradients.append(torch.autograd.grad(loss, vectors)[0].unflatten(0, (n, k))[part])
        gradient = torch.cat(gradients)
        if search.shared:
            gradient = gradient.mean(dim=0, keepdim=True)
        descent = -(gradient.float() @ table.float().T)
        topk = self.n_proposals(len(search.choice))
        return search.choice[descent.topk(topk, dim=-1).indices.cpu()]
