"""Reference attacks on one request at a time, soft prompts of Jain et al. 2024 and GCG of Zou et al. 2023.

Nothing is batched over requests, the logits of every position are computed, and no prefix is cached. The
loops are the oracle for the speed of attacks and for their losses.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel


class SingleRequest(NamedTuple):
    """One request without padding."""

    prompt: Tensor
    """(pos,) ids of the prompt without the attack."""
    target: Tensor
    """(n_target,) ids of the target."""
    position: int
    """Position in the prompt before which the attack is inserted."""
    width: int = 0
    """Padded length before vectors are inserted, as in the reference; 0 for no padding."""


class SearchBudget(NamedTuple):
    """Budget of a GCG search."""

    steps: int
    """Steps of the search."""
    candidates: int
    """Candidates per step."""
    topk: int
    """Tokens per slot that the gradient proposes."""


def soft_attack(
    model: PreTrainedModel,
    request: SingleRequest,
    start: Tensor,
    *,
    radius: float,
    steps: int,
    share_position: bool,
) -> tuple[Tensor, float]:
    """Optimises a soft prompt by projected gradient descent.

    Args:
        model: The model that is attacked.
        request: The request.
        start: (k, d_model) initial vectors.
        radius: Radius of the ball that each vector stays in, in units of the embeddings.
        steps: Steps of projected gradient descent.
        share_position: Whether the vectors share the position id of the token after them.

    Returns:
        (k, d_model) vectors of the least loss met, and that loss.
    """
    prompt, target, position, width = request
    table: Any = model.get_input_embeddings()
    vectors, best, least = start.clone(), start, float("inf")
    last = len(prompt) + len(start) + len(target) - 1
    padding = torch.zeros(max(width - len(prompt) - len(target), 0), dtype=torch.long)
    for step in range(steps + 1):
        vectors.requires_grad_()
        prefix, suffix = table(prompt[:position]), table(torch.cat([prompt[position:], target, padding]))
        embedded = torch.cat([prefix, vectors, suffix])[None]
        ids = torch.arange(embedded.shape[1])
        if share_position:
            shared = torch.full((len(start),), position)
            ids = torch.cat([ids[:position], shared, ids[position : len(ids) - len(start)]])
        mask = torch.ones(1, embedded.shape[1], dtype=torch.long)
        logits = model(inputs_embeds=embedded, position_ids=ids[None], attention_mask=mask).logits[0]
        loss = F.cross_entropy(logits[last - len(target) : last], target)
        if loss.item() < least:
            best, least = vectors.detach().clone(), loss.item()
        if step == steps:
            break
        model.zero_grad()
        loss.backward()
        assert vectors.grad is not None
        unit = vectors.grad / vectors.grad.norm(dim=1, keepdim=True).clamp(min=1e-30)
        descended = vectors.detach() - 2 * radius / steps * unit
        vectors = descended * (radius / descended.norm(dim=1, keepdim=True)).clamp(max=1.0)
    return best, least


def gcg_attack(
    model: PreTrainedModel, request: SingleRequest, ids: Tensor, budget: SearchBudget, *, seed: int
) -> tuple[Tensor, float]:
    """Searches tokens by greedy coordinate gradient.

    Args:
        model: The model that is attacked.
        request: The request.
        ids: (k,) initial tokens.
        budget: Budget of the search.
        seed: Seed of the candidates.

    Returns:
        (k,) tokens of the least loss met, and that loss.
    """
    prompt, target, position, _ = request
    table: Any = model.get_input_embeddings()
    weight, k, random = table.weight.detach(), len(ids), torch.Generator().manual_seed(seed)
    n = budget.candidates
    best, least = ids, float("inf")
    suffix = torch.cat([prompt[position:], target])
    for _ in range(budget.steps):
        one_hot = F.one_hot(ids, len(weight)).float().requires_grad_()
        embedded = torch.cat([weight[prompt[:position]], one_hot @ weight, weight[suffix]])[None]
        logits = model(inputs_embeds=embedded).logits[0]
        loss = F.cross_entropy(logits[-len(target) - 1 : -1], target)
        [gradient] = torch.autograd.grad(loss, one_hot)
        proposals = (-gradient).topk(budget.topk, dim=1).indices
        slot = torch.randint(k, (n,), generator=random)
        candidates = ids.repeat(n, 1)
        rank = torch.randint(budget.topk, (n,), generator=random)
        candidates[torch.arange(n), slot] = proposals[slot, rank]
        rows = [prompt[:position].expand(n, -1), candidates, suffix.expand(n, -1)]
        with torch.no_grad():
            logits = model(input_ids=torch.cat(rows, dim=1)).logits[:, -len(target) - 1 : -1]
        targets = target.expand(n, -1).flatten()
        losses = F.cross_entropy(logits.flatten(0, 1), targets, reduction="none").view(n, -1).mean(dim=1)
        which = int(losses.argmin())
        ids = candidates[which]
        if float(losses[which]) < least:
            best, least = ids, float(losses[which])
    return best, least
