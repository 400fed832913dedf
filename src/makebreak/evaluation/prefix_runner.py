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
from makebreak.evaluation.decisions import batches, max_batch_size, prompt_tokens
from makebreak.evaluation.teacher_forcing import outcome_targets, score_targets
from makebreak.prompts import Requests, Sequences, request_span, span_mask

_ANSWERS = ("instructed", "refused")


class _CachedBatch(NamedTuple):
    """One batch of requests and the cache of their first tokens."""

    requests: Requests
    cache: PrefixCache


class SteeredAnswers(NamedTuple):
    """What a model answers to n requests under each of m steering vectors, on the CPU."""

    log_probs: Float[Tensor, "m n d_vocab"]
    """Log-probabilities, in nats, of the first token of each answer."""
    instructed: Bool[Tensor, "m n"]
    """Whether greedy decoding produces the instructed answer, as `evaluation.outcome_targets` defines it."""
    refused: Bool[Tensor, "m n"]
    """Whether greedy decoding produces the refusal."""


@dataclass(frozen=True)
class PrefixCachedRunner:
    """Requests whose prompts are processed once, for evaluation under many interventions.

    The cache ends before the first position that is steered. Every evaluation may add steering vectors to the
    residual stream at the end of text, or at every position of the prompt: (d_model,), or one for each
    request, (n, d_model), or m of either, (m, 1 or n, d_model), which are evaluated together.
    """

    model: PreTrainedModel
    """The model that answers."""
    batches: list[_CachedBatch]
    """The requests in batches, each with its prefix cache."""
    everywhere: bool = False
    """Whether steering vectors are added at every position of the prompt, and not at the end of text only."""

    @classmethod
    def create(
        cls, model: PreTrainedModel, requests: Requests, *, everywhere: bool = False
    ) -> PrefixCachedRunner:
        """Processes the prompts' prefixes once, unless they are steered, and returns the runner."""
        parts = batches(requests, model)
        return cls(model, [_cached_batch(model, batch, everywhere) for batch in parts], everywhere)

    def next_token_log_probs(
        self, site: str = "", steering_vector: Tensor | None = None
    ) -> Float[Tensor, "*m n d_vocab"]:
        """Returns the log-probabilities, in nats, of the first token of each answer.

        Args:
            site: Site to which the steering vector is added, `blocks.{l}.hook_resid_pre`.
            steering_vector: (d_model,), (n, d_model) or (m, 1 or n, d_model); None for no intervention.

        Returns:
            Log-probabilities on the CPU, with a first axis for m vectors.
        """
        vectors = self._vectors(steering_vector)
        log_probs = torch.cat(
            [self._log_probs(batch, site, part) for batch, part in self._with_vectors(vectors)], dim=1
        )
        return log_probs if steering_vector is not None and steering_vector.ndim == 3 else log_probs[0]

    def exact_match(
        self, answer: str, site: str = "", steering_vector: Tensor | None = None
    ) -> Bool[Tensor, "*m n"]:
        """Returns whether greedy decoding produces an answer, defined by `evaluation.outcome_targets`.

        Args:
            answer: `refused` (STOP is not required) or `instructed` (STOP included).
            site: Site to which the steering vector is added, `blocks.{l}.hook_resid_pre`.
            steering_vector: (d_model,), (n, d_model) or (m, 1 or n, d_model); None for no intervention.

        Returns:
            One truth value per request, on the CPU, with a first axis for m vectors.
        """
        matches = self._answers(site, self._vectors(steering_vector), (answer,))._asdict()[answer]
        return matches if steering_vector is not None and steering_vector.ndim == 3 else matches[0]

    def answers(self, site: str, steering_vectors: Float[Tensor, "m k d_model"]) -> SteeredAnswers:
        """Returns the decision and the exact match of both reference answers under each of m vectors.

        Args:
            site: Site to which the steering vectors are added, `blocks.{l}.hook_resid_pre`.
            steering_vectors: (m, 1 or n, d_model) vectors for all requests, or for each.

        Returns:
            What `next_token_log_probs` and `exact_match` return, from fewer passes.
        """
        return self._answers(site, steering_vectors, _ANSWERS)

    def _answers(self, site: str, vectors: Tensor | None, answers: tuple[str, ...]) -> SteeredAnswers:
        """The decisions, and exact matches of some answers; of other answers no row matches."""
        parts = []
        for batch, part in self._with_vectors(vectors):
            log_probs = self._log_probs(batch, site, part)
            matches = torch.zeros(len(_ANSWERS), *log_probs.shape[:2], dtype=torch.bool)
            for answer in answers:
                matches[_ANSWERS.index(answer)] = self._matches(batch, site, part, answer, log_probs)
            parts.append(SteeredAnswers(log_probs, *matches))
        return SteeredAnswers(*(torch.cat(column, dim=1) for column in zip(*parts, strict=True)))

    def _log_probs(
        self, batch: _CachedBatch, site: str, vectors: Tensor | None
    ) -> Float[Tensor, "m n d_vocab"]:
        """Log-probabilities after the prompts of one batch under every vector."""
        tokens, last = prompt_tokens(batch.requests)
        n_cached, log_probs = batch.cache.n_tokens, []
        for rows, cache in _chunks(
            self.model, batch, torch.arange(_n_vectors(vectors) * len(tokens)), tokens.shape[1]
        ):
            row = rows % len(tokens)
            steering = self._steering(batch, site, vectors, rows, tokens.shape[1])
            with steering, logits_at_last(self.model, last[row] - n_cached):
                logits = forward(self.model, tokens[row, n_cached:], cache=cache).logits[:, 0]
            log_probs.append(logits.float().log_softmax(-1).cpu())
        return torch.cat(log_probs).unflatten(0, (-1, len(tokens)))

    def _matches(
        self, batch: _CachedBatch, site: str, vectors: Tensor | None, answer: str, log_probs: Tensor
    ) -> Bool[Tensor, "m n"]:
        """Exact match of one answer, scored only where its first token does not rule it out."""
        targets = outcome_targets(batch.requests, answer)
        first = torch.from_numpy(batch.requests.prompt_length)[:, None]
        likeliest = log_probs.argmax(dim=-1)
        is_open = (likeliest == targets.tokens.gather(1, first)[:, 0]) | ~targets.supervised.gather(1, first)[
            :, 0
        ]
        is_match, width = is_open.flatten(), targets.tokens.shape[1] - 1
        for rows, cache in _chunks(self.model, batch, is_match.nonzero()[:, 0], width):
            row = rows % len(targets)
            part = Sequences(targets.tokens[row], targets.supervised[row], targets.decision[row])
            with self._steering(batch, site, vectors, rows, width):
                is_match[rows] = score_targets(self.model, part, cache=cache).exact_match.cpu()
        return is_match.view_as(is_open)

    @staticmethod
    def _vectors(steering_vector: Tensor | None) -> Tensor | None:
        """The steering vectors as (m, 1 or n, d_model)."""
        if steering_vector is None or steering_vector.ndim == 3:
            return steering_vector
        return steering_vector[None, None] if steering_vector.ndim == 1 else steering_vector[None]

    def _with_vectors(self, vectors: Tensor | None) -> Iterator[tuple[_CachedBatch, Tensor | None]]:
        """Every batch with the vectors, or with its rows of them."""
        start = 0
        for batch in self.batches:
            stop = start + len(batch.requests)
            yield batch, vectors if vectors is None or vectors.shape[1] == 1 else vectors[:, start:stop]
            start = stop

    @contextmanager
    def _steering(
        self, batch: _CachedBatch, site: str, vectors: Tensor | None, rows: Tensor, width: int
    ) -> Iterator[None]:
        """Context in which vectors are added to the prompts of sequences of this width.

        `rows` number the requests of the batch under the first vector, then under the second and so on.
        """
        with torch.no_grad(), ExitStack() as stack:
            if vectors is not None:
                n = len(batch.requests)
                steered_at = self._steered_positions(batch.requests, width)
                mask = steered_at[rows % n, batch.cache.n_tokens :]
                of_rows = vectors.expand(-1, n, -1)[rows // n, rows % n].float()
                steered = of_rows[mask.nonzero()[:, 0]]  # an end of text may have several tokens
                stack.enter_context(intervene(self.model, site, add(steered), mask))
            yield

    def _steered_positions(self, requests: Requests, width: int) -> Bool[Tensor, "n width"]:
        if not self.everywhere:
            return span_mask(requests, "eot", width)
        return torch.arange(width) < torch.from_numpy(requests.prompt_length)[:, None]


def _n_vectors(vectors: Tensor | None) -> int:
    return 1 if vectors is None else len(vectors)


def _chunks(
    model: PreTrainedModel, batch: _CachedBatch, rows: Tensor, width: int
) -> Iterator[tuple[Tensor, PrefixCache]]:
    """Rows in parts that fit into one pass, each with its cache; row r is request r modulo their number."""
    n = len(batch.requests)
    for part in rows.split(max_batch_size(model, width)):
        if len(part):
            yield part, batch.cache.select(part % n)


def _cached_batch(model: PreTrainedModel, requests: Requests, everywhere: bool) -> _CachedBatch:
    """The requests with the cache of what precedes every steered position, if that is long enough.

    Soft tokens, whose ids are beyond the vocabulary, stay out of the cache: they change others' position ids.
    """
    embedding: Any = model.get_input_embeddings()
    soft = np.flatnonzero((requests.prompt >= embedding.weight.shape[0]).any(axis=0))
    first_steered = 0 if everywhere else int(request_span(requests, "eot")[:, 0].min())
    n_cached = min([first_steered, *soft.tolist()])
    return _CachedBatch(requests, PrefixCache.of_rows(model, torch.from_numpy(requests.prompt), n_cached))
