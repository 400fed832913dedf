"""How near is a model to one given answer, and would greedy decoding give it?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import Cache, PreTrainedModel

from makebreak.activations import at_positions, run
from makebreak.requests import Requests, Sequences, TextRequests, target_sequences

_TOKENS, _LOGITS = 16_384, 2**27


class Aim(NamedTuple):
    """nll: mean over the supervised tokens, nats, differentiable. right: at each of them in reading order, whether it
    is the likeliest. hit: whether it is at all of them, that is, whether greedy decoding gives the answer.
    """

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


class Near(NamedTuple):
    """nll, hit: (n,) as in `Aim`."""

    nll: Float[Tensor, " n"]
    hit: Bool[Tensor, " n"]


def near(model: PreTrainedModel, requests: Requests, answer: str) -> Near:
    """How near the model is to the judged segment of the `instructed` or `refused` answer, what stands before it being
    as instructed; so many requests at a time that a forward fits into memory.
    """
    rows = torch.arange(len(requests)).split(at_once(model, requests))
    with torch.no_grad():
        found = [aim(model, target_sequences(requests[part.numpy()], answer)) for part in rows]
    return Near(torch.cat([f.nll.float().cpu() for f in found]), torch.cat([f.hit.cpu() for f in found]))


def outcome_targets(requests: Requests, answer: str) -> Sequences:
    """Prompt and answer, with the tokens supervised that decide whether a request is refused or complied with.

    A request is refused if greedy decoding produces the `refused` answer's judged segment up to its STOP, and
    complied with if it produces the `instructed` answer's judged segment, STOP included. The exact judges of the
    worlds use the same definition. A refusal in text (`TextRequests`) counts as a whole.
    """
    batch = target_sequences(requests, answer)
    if answer != "refused" or isinstance(requests, TextRequests):
        return batch
    end = torch.from_numpy(requests.prompt_length + _refusal_end(requests))[:, None]
    return batch.supervise(batch.supervised & (torch.arange(batch.tokens.shape[1]) < end))


def _refusal_end(requests: Requests) -> np.ndarray:
    """(n,) where the refusal ends in the refused answer: before the STOPs that end its judged segment.

    STOP is the segment's last token, repeated where a world makes both answers equally long. A segment that is one
    token throughout has no STOP.
    """
    n, width = requests.refused.shape
    start, stop = requests.judged.T
    column = np.arange(width)
    inside = (column >= start[:, None]) & (column < stop[:, None])
    before_stop = inside & (requests.refused != requests.refused[np.arange(n), stop - 1][:, None])
    return np.where(before_stop.any(axis=1), width - before_stop[:, ::-1].argmax(axis=1), stop)


def gives(model: PreTrainedModel, requests: Requests, answer: str) -> Bool[Tensor, " n"]:
    """Whether greedy decoding gives that answer, as `outcome_targets` defines it: a refusal without its STOP, the
    instructed answer with it. Exact, in one pass.
    """
    rows = torch.arange(len(requests)).split(at_once(model, requests))
    with torch.no_grad():
        hits = [aim(model, outcome_targets(requests[part.numpy()], answer)).hit for part in rows]
    return torch.cat(hits).cpu()


def at_once(model: PreTrainedModel, requests: Requests) -> int:
    """Requests of a forward with targets: neither their tokens nor the logits of their targets may be too many."""
    lengths = requests.judged[:, 1] - requests.judged[:, 0]
    width = requests.prompt.shape[1] + int(requests.judged[:, 1].max())
    return max(min(_TOKENS // width, _LOGITS // (int(lengths.max()) * model.config.vocab_size)), 1)
