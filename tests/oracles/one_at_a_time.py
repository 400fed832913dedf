"""The naive way to attack: one request at a time, as Jain et al. 2024 search soft tokens and as Zou et al. 2023 tokens.

Nothing is batched over requests, the logits of every position are computed, and no prefix is kept. It is the oracle for
the speed of attacks, and for their losses.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel


def soft_attack(
    model: PreTrainedModel,
    prompt: Tensor,
    target: Tensor,
    *,
    at: int,
    start: Tensor,
    radius: float,
    steps: int,
    held: bool,
    width: int = 0,
) -> tuple[Tensor, float]:
    """(k, d) soft tokens before position `at` of one (pos,) prompt, and the least loss met; from `start`, (k, d).

    width: tokens of prompt, answer and padding, as the reference pads every sequence before the vectors are put in.
    """
    table: Any = model.get_input_embeddings()
    vectors, best, least = start.clone(), start, float("inf")
    last = len(prompt) + len(start) + len(target) - 1
    padding = torch.zeros(max(width - len(prompt) - len(target), 0), dtype=torch.long)
    for step in range(steps + 1):
        vectors.requires_grad_()
        before, behind = table(prompt[:at]), table(torch.cat([prompt[at:], target, padding]))
        embedded = torch.cat([before, vectors, behind])[None]
        places = torch.arange(embedded.shape[1])
        if held:
            places = torch.cat(
                [places[:at], torch.full((len(start),), at), places[at : len(places) - len(start)]]
            )
        mask = torch.ones(1, embedded.shape[1], dtype=torch.long)
        logits = model(inputs_embeds=embedded, position_ids=places[None], attention_mask=mask).logits[0]
        loss = F.cross_entropy(logits[last - len(target) : last], target)
        if loss.item() < least:
            best, least = vectors.detach().clone(), loss.item()
        if step == steps:
            break
        model.zero_grad()
        loss.backward()
        assert vectors.grad is not None
        unit = vectors.grad / vectors.grad.norm(dim=1, keepdim=True).clamp(min=1e-30)
        moved = vectors.detach() - 2 * radius / steps * unit
        vectors = moved * (radius / moved.norm(dim=1, keepdim=True)).clamp(max=1.0)
    return best, least


def gcg_attack(
    model: PreTrainedModel,
    prompt: Tensor,
    target: Tensor,
    *,
    at: int,
    ids: Tensor,
    steps: int,
    candidates: int,
    top: int,
    seed: int,
) -> tuple[Tensor, float]:
    """(k,) tokens before position `at` of one (pos,) prompt, and the least loss met; from `ids`, (k,)."""
    table: Any = model.get_input_embeddings()
    weight, k, random = table.weight.detach(), len(ids), torch.Generator().manual_seed(seed)
    best, least = ids, float("inf")
    behind = torch.cat([prompt[at:], target])
    for _ in range(steps):
        one_hot = F.one_hot(ids, len(weight)).float().requires_grad_()
        embedded = torch.cat([weight[prompt[:at]], one_hot @ weight, weight[behind]])[None]
        logits = model(inputs_embeds=embedded).logits[0]
        loss = F.cross_entropy(logits[-len(target) - 1 : -1], target)
        [gradient] = torch.autograd.grad(loss, one_hot)
        offered = (-gradient).topk(top, dim=1).indices
        place = torch.randint(k, (candidates,), generator=random)
        made = ids.repeat(candidates, 1)
        drawn = torch.randint(top, (candidates,), generator=random)
        made[torch.arange(candidates), place] = offered[place, drawn]
        rows = [prompt[:at].expand(candidates, -1), made, behind.expand(candidates, -1)]
        with torch.no_grad():
            logits = model(input_ids=torch.cat(rows, dim=1)).logits[:, -len(target) - 1 : -1]
        wanted = target.expand(candidates, -1).flatten()
        losses = (
            F.cross_entropy(logits.flatten(0, 1), wanted, reduction="none").view(candidates, -1).mean(dim=1)
        )
        which = int(losses.argmin())
        ids = made[which]
        if float(losses[which]) < least:
            best, least = ids, float(losses[which])
    return best, least
