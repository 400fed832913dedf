"""Repeated evaluation of requests under activation steering, from a cached prefix of their prompts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import PrefixCache, add, forward, intervene, logits_at_last
from makebreak.evaluation.decisions import batches, prompt_tokens
from makebreak.evaluation.teacher_forcing import outcome_targets, score_targets
from makebreak.prompts import Requests, span_mask


class _CachedBatch(NamedTuple):
    """One batch of requests and the cache of their first tokens."""

    requests: Requests
    cache: PrefixCache


@dataclass(frozen=True)
class PrefixCachedRunner:
    """Requests whose prompts are processed once, for evaluation under many interventions.

    The cache ends before the end of text. Every evaluation may add a steering vector to the residual stream
    at the end of text: (d_model,), or one for each request, (n, d_model).
    """

    model: PreTrainedModel
    """The model that answers."""
    batches: list[_CachedBatch]
    """The requests in batches, each with its prefix cache."""

    @classmethod
    def create(cls, model: PreTrainedModel, requests: Requests) -> PrefixCachedRunner:
        """Processes the prompts' prefixes once and returns the runner."""
        return cls(model, [_cached_batch(model, batch) for batch in batches(requests)])

    def next_token_log_probs(
        self, site: str = "", steering_vector: Tensor | None = None
    ) -> Float[Tensor, "n d_vocab"]:
        """Returns the log-probabilities, in nats, of the first token of each answer.

        Args:
            site: Site to which the steering vector is added, `blocks.{l}.hook_resid_pre`.
            steering_vector: (d_model,) or (n, d_model); None for no intervention.

        Returns:
            Log-probabilities on the CPU.
        """
        log_probs = []
        for batch, vector in self._with_vectors(steering_vector):
            tokens, last = prompt_tokens(batch.requests)
            steering = self._steering(batch, site, vector, tokens.shape[1])
            n_cached = batch.cache.n_tokens
            with steering, logits_at_last(self.model, last - n_cached):
                logits = forward(self.model, tokens[:, n_cached:], cache=batch.cache).logits[:, 0]
            log_probs.append(logits.float().log_softmax(-1).cpu())
        return torch.cat(log_probs)

    def exact_match(
        self, answer: str, site: str = "", steering_vector: Tensor | None = None
    ) -> Bool[Tensor, " n"]:
        """Returns whether greedy decoding produces an answer, defined by `evaluation.outcome_targets`.

        Args:
            answer: `refused` (STOP is not required) or `instructed` (STOP included).
            site: Site to which the steering vector is added, `blocks.{l}.hook_resid_pre`.
            steering_vector: (d_model,) or (n, d_model); None for no intervention.

        Returns:
            One truth value per request, on the CPU.
        """
        matches = []
        for batch, vector in self._with_vectors(steering_vector):
            targets = outcome_targets(batch.requests, answer)
            with self._steering(batch, site, vector, targets.tokens.shape[1] - 1):
                score = score_targets(self.model, targets, cache=batch.cache)
            matches.append(score.exact_match.cpu())
        return torch.cat(matches)

    def _with_vectors(self, steering_vector: Tensor | None) -> Iterator[tuple[_CachedBatch, Tensor | None]]:
        """Every batch with the steering vector, or with its rows of the vectors."""
        start = 0
        for batch in self.batches:
            stop = start + len(batch.requests)
            if steering_vector is None or steering_vector.ndim == 1:
                yield batch, steering_vector
            else:
                yield batch, steering_vector[start:stop]
            start = stop

    @contextmanager
    def _steering(self, batch: _CachedBatch, site: str, vector: Tensor | None, width: int) -> Iterator[None]:
        """Context in which the vector is added at the end of text of sequences of this width."""
        with torch.no_grad(), ExitStack() as stack:
            if vector is not None:
                mask = span_mask(batch.requests, "eot", width)[:, batch.cache.n_tokens :]
                stack.enter_context(intervene(self.model, site, add(vector.float()), mask))
            yield


def _cached_batch(model: PreTrainedModel, requests: Requests) -> _CachedBatch:
    """The requests with the cache of what precedes every end of text, if that is long enough.

    Soft tokens, whose ids are beyond the vocabulary, stay out of the cache: they change others' position ids.
    """
    embedding: Any = model.get_input_embeddings()
    soft = np.flatnonzero((requests.prompt >= embedding.weight.shape[0]).any(axis=0))
    n_cached = min([int(requests.spans["eot"][:, 0].min()), *soft.tolist()])
    return _CachedBatch(requests, PrefixCache.of_rows(model, torch.from_numpy(requests.prompt), n_cached))
