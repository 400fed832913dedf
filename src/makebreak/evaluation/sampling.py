"""Sampling of answers: tokens of the softmax at a temperature, from a stream of its own for every answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LogitsProcessor

from makebreak.prompts import Requests, request_truth

RequestsT = TypeVar("RequestsT", bound=Requests)


class Sampling(NamedTuple):
    """How answers are sampled; neither top-p nor top-k cuts the distribution."""

    temperature: float
    """Temperature, above 0."""
    seed: int
    """Seed of the streams."""


def repeat_requests(requests: RequestsT, n: int) -> RequestsT:
    """Every request n times, one after the other, numbered from 0 in the column `sample` of `truth`.

    Args:
        requests: The requests.
        n: Number of samples per request.

    Returns:
        n times as many requests.
    """
    repeated = requests[np.repeat(np.arange(len(requests)), n)]
    numbers = np.tile(np.arange(n), len(requests))
    return replace(repeated, truth=repeated.truth | {"sample": numbers})  # type: ignore[return-value]


def sample_tokens(requests: Requests, sampling: Sampling, *, n_new: int, n_prompt: int) -> LogitsProcessor:
    """A processor of logits that leaves one token per sequence, which is drawn from the softmax.

    The draws of an answer depend on the seed, the text of its request and the number of its sample alone, so
    that they are the same in every batch, and common to models that are compared.

    Args:
        requests: Requests with the columns `request` and `sample` of `truth`, one per sequence.
        sampling: Temperature and seed.
        n_new: Most tokens of an answer.
        n_prompt: Tokens of a sequence before its answer, padding included.

    Returns:
        The processor.

    Raises:
        ValueError: If a column is missing; `repeat_requests` adds the numbers of the samples.
    """
    texts, numbers = request_truth(requests, "request").tolist(), request_truth(requests, "sample").tolist()
    return _SampleTokens(_uniforms(texts, numbers, sampling.seed, n_new), sampling.temperature, n_prompt)


def _uniforms(texts: Sequence[str], numbers: Sequence[int], seed: int, n_new: int) -> Float[Tensor, "n k"]:
    """Uniform draws of each answer, one per token."""
    draws = np.empty((len(texts), n_new))
    for row, text, number in zip(draws, texts, numbers, strict=True):
        digest = hashlib.sha256(f"{seed}/{number}/{text}".encode(errors="surrogatepass")).digest()
        row[:] = np.random.default_rng(int.from_bytes(digest[:16])).random(n_new)
    return torch.from_numpy(draws)


class _SampleTokens(LogitsProcessor):
    """Inverts the distribution function of the softmax at the draws of the step."""

    def __init__(self, uniforms: Tensor, temperature: float, n_prompt: int) -> None:
        self.uniforms, self.temperature, self.n_prompt = uniforms, temperature, n_prompt

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        logits = scores.double()
        # the largest logit is 0, so that no temperature overflows
        scaled = (logits - logits.amax(dim=-1, keepdim=True)) / self.temperature
        cumulative = scaled.softmax(dim=-1).cumsum(dim=-1)
        u = self.uniforms[:, input_ids.shape[1] - self.n_prompt].to(cumulative)[:, None]
        token = torch.searchsorted(cumulative, u * cumulative[:, -1:], right=True)
        token = token.clamp(max=scores.shape[-1] - 1)  # where rounding reaches the end
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)
