"""What does a model do where its state at the end of text is moved? What stands before it is read only once."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import Cache, PreTrainedModel

from makebreak.activations import add, at_last, intervene
from makebreak.behaviour.decisions import batches, prompts
from makebreak.behaviour.targets import aim, outcome_targets
from makebreak.requests import Requests, Sequences, span_mask

LEAST_PREFIX = 8  # tokens that are worth reading only once


def prefix(model: PreTrainedModel, requests: Requests, first: int) -> Cache:
    """Keys and values of the tokens before `first`, of which none is padding."""
    with torch.no_grad():
        tokens = torch.from_numpy(requests.prompt[:, :first]).to(model.device)
        return model.base_model(input_ids=tokens, use_cache=True).past_key_values


def behind(batch: Sequences, first: int) -> Sequences:
    """What is left to read after that prefix."""
    return Sequences(batch.tokens[:, first:], batch.supervised[:, first:], batch.decision - first)


class _Part(NamedTuple):
    """before: keys and values of the tokens before `first`, None where it is 0."""

    requests: Requests
    first: int
    before: Cache | None


@dataclass(frozen=True)
class Read:
    """Requests, read up to their ends of text. Every question may come with a move of the state there, before a site's
    block: (d,), or one for each request, (n, d).
    """

    model: PreTrainedModel
    parts: list[_Part]

    @classmethod
    def of(cls, model: PreTrainedModel, requests: Requests) -> Read:
        return cls(model, [_read(model, part) for part in batches(requests)])

    def decide(self, site: str = "", move: Tensor | None = None) -> Float[Tensor, "n d_vocab"]:
        """As `behaviour.decide`: log p of the token that begins the answer."""
        found = []
        for part, own in self._moves(move):
            tokens, last = prompts(part.requests)
            with self._moved(part, site, own, tokens.shape[1]), at_last(self.model, last - part.first):
                logits = self.model(
                    input_ids=tokens[:, part.first :].to(self.model.device),
                    past_key_values=copy.deepcopy(part.before),
                    use_cache=part.before is not None,
                ).logits[:, 0]
            found.append(logits.float().log_softmax(-1).cpu())
        return torch.cat(found)

    def gives(self, answer: str, site: str = "", move: Tensor | None = None) -> Bool[Tensor, " n"]:
        """As `behaviour.gives`: whether greedy decoding gives this answer."""
        hits = []
        for part, own in self._moves(move):
            batch = outcome_targets(part.requests, answer)
            with self._moved(part, site, own, batch.tokens.shape[1] - 1):
                found = aim(self.model, behind(batch, part.first), before=copy.deepcopy(part.before))
            hits.append(found.hit.cpu())
        return torch.cat(hits)

    def _moves(self, move: Tensor | None) -> Iterator[tuple[_Part, Tensor | None]]:
        start = 0
        for part in self.parts:
            stop = start + len(part.requests)
            yield part, move if move is None or move.ndim == 1 else move[start:stop]
            start = stop

    @contextmanager
    def _moved(self, part: _Part, site: str, move: Tensor | None, width: int) -> Iterator[None]:
        with torch.no_grad(), ExitStack() as stack:
            if move is not None:
                where = span_mask(part.requests, "eot", width)[:, part.first :]
                stack.enter_context(intervene(self.model, site, add(move.float()), where))
            yield


def _read(model: PreTrainedModel, requests: Requests) -> _Part:
    """Soft tokens, which have ids beyond the vocabulary, are never before `first`: they move others' positions."""
    embedding: Any = model.get_input_embeddings()
    soft = np.flatnonzero((requests.prompt >= embedding.weight.shape[0]).any(axis=0))
    ends = [int(requests.spans["eot"][:, 0].min()), *soft.tolist()]
    first = min(ends)
    return (
        _Part(requests, first, prefix(model, requests, first))
        if first >= LEAST_PREFIX
        else _Part(requests, 0, None)
    )
