"""How near is a model to one given answer, and would greedy decoding give it?"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import Cache, PreTrainedModel

from makebreak.activations import at_positions, run
from makebreak.behaviour.decisions import batches
from makebreak.requests import Requests, Sequences, targeted


class Aim(NamedTuple):
    """nll: mean over the supervised tokens, nats, differentiable. right: at each of them in reading order, whether it
    is the likeliest. hit: whether it is at all of them, that is, whether greedy decoding gives the answer."""

    nll: Float[Tensor, " batch"]
    right: Bool[Tensor, " targets"]
    hit: Bool[Tensor, " batch"]


def aim(model: PreTrainedModel, batch: Sequences, *, before: Cache | None = None) -> Aim:
    """Teacher-forced. before: keys and values of the tokens that stand before those of `batch`; it is consumed."""
    where = batch.supervised[:, 1:]
    row, targets = where.nonzero(as_tuple=True)[0], batch.tokens[:, 1:][where].to(model.device)
    with at_positions(model, where):
        if before is None:
            logits = run(model, batch.tokens[:, :-1]).logits[0]
        else:
            ids = batch.tokens[:, :-1].to(model.device)
            logits = model(input_ids=ids, past_key_values=before, use_cache=True).logits[0]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    right, row = logits.argmax(dim=-1) == targets, row.to(model.device)
    n, zeros = where.sum(dim=1).to(model.device), losses.new_zeros(len(where))
    nll = zeros.index_add(0, row, losses) / n
    return Aim(nll, right, zeros.index_add(0, row, right.to(zeros)) == n)


def gives(model: PreTrainedModel, requests: Requests, answer: str) -> Bool[Tensor, " n"]:
    """Whether greedy decoding gives the judged segment of the `instructed` or `refused` answer, what stands before it
    being as instructed. Exact, in one pass."""
    with torch.no_grad():
        return torch.cat([aim(model, targeted(part, answer)).hit.cpu() for part in batches(requests)])
