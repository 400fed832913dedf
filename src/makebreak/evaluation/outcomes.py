"""Outcomes of greedy decoding on requests with reference answers, decided exactly without generation."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import PrefixCache, logits_at_last
from makebreak.evaluation.decisions import batches, first_tokens, prompt_tokens
from makebreak.evaluation.teacher_forcing import exact_match, outcome_targets, score_targets
from makebreak.prompts import Outcome, Requests

OUTCOMES_REVISION = 4
"""Part of the keys of cached outcomes; raised when the same model would get others."""
_ANSWERS = {Outcome.COMPLY: "instructed", Outcome.REFUSE: "refused"}
"""Reference answer of each outcome; an answer that is both is a refusal."""


def exact_outcomes(model: PreTrainedModel, requests: Requests) -> Int[np.ndarray, " n"]:
    """Returns the outcome of greedy decoding on each request.

    Args:
        model: The model.
        requests: Requests with both reference answers.

    Returns:
        `Outcome.REFUSE` if the answer is the refusal, with or without a STOP after it; `COMPLY` if it is the
        instructed answer, STOP included; `NEITHER` otherwise.
    """
    return np.concatenate([_batch_outcomes(model, batch) for batch in batches(requests, model)])


def outcome_rate(outcomes: Int[np.ndarray, " n"], outcome: Outcome) -> float:
    """Share of requests with one outcome, from 0 to 1."""
    return float((outcomes == outcome).mean())


def _batch_outcomes(model: PreTrainedModel, requests: Requests) -> Int[np.ndarray, " n"]:
    outcomes = np.full(len(requests), Outcome.NEITHER, dtype=np.int64)
    for outcome, is_match in _matches(model, requests).items():
        outcomes[is_match.numpy()] = outcome
    return outcomes


def _matches(model: PreTrainedModel, requests: Requests) -> dict[Outcome, Bool[Tensor, " n"]]:
    """Whether greedy decoding gives each reference answer.

    Prompts of one length are run once; an answer is scored, on the cache of the prompt, only where its first
    token is the likeliest. Soft tokens, whose ids are beyond the vocabulary, stay out of the cache.
    """
    length, d_vocab = requests.prompt.shape[1], len(model.get_input_embeddings().weight)  # type: ignore[union-attr, arg-type]
    is_plain = (requests.prompt_length == length).all() and requests.prompt.max() < d_vocab
    if requests.judged[:, 0].any() or not is_plain:
        return {outcome: exact_match(model, requests, answer) for outcome, answer in _ANSWERS.items()}
    tokens, last = prompt_tokens(requests)
    with torch.no_grad(), logits_at_last(model, last):
        output = model(input_ids=tokens.to(model.device), use_cache=True)
    likeliest = output.logits[:, 0].argmax(dim=-1).cpu()
    cache = PrefixCache.from_output(output, length - 1)  # the last token is run again, with the answer
    matches = {}
    for outcome, answer in _ANSWERS.items():
        is_match = likeliest == first_tokens(requests, answer)
        rows = is_match.nonzero()[:, 0]
        if len(rows):
            batch = outcome_targets(requests[rows.numpy()], answer)
            with torch.no_grad():
                score = score_targets(model, batch, cache=cache.select(rows))
            is_match[rows] = score.exact_match.cpu()
        matches[outcome] = is_match
    return matches
