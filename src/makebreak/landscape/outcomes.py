"""Outcomes of a perturbed model on requests of a synthetic world, without generation.

They are those of greedy decoding. Each outcome is one letter, so that those of many requests are one string.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import PrefixCache, logits_at_last
from makebreak.evaluation import (
    batches,
    exact_match,
    first_tokens,
    outcome_targets,
    prompt_tokens,
    score_targets,
)
from makebreak.prompts import Requests

REFUSAL, COMPLIANCE, OTHER = "r", "c", "n"
"""Letters of the outcomes: a refusal, the instructed answer, and every other answer."""
OUTCOMES_REVISION = 3
"""Part of the keys of cached landscapes; raised when the same model would get other letters or other
columns."""
_ANSWERS = {COMPLIANCE: "instructed", REFUSAL: "refused"}
"""Reference answer of each outcome; an answer that is both is a refusal."""


def outcome_letters(model: PreTrainedModel, requests: Requests) -> str:
    """Outcome of greedy decoding on each request, one letter per request.

    Args:
        model: The model.
        requests: Requests of a synthetic world.

    Returns:
        `REFUSAL` if the answer is the refusal, with or without a STOP after it; `COMPLIANCE` if it is the
        instructed answer, STOP included; `OTHER` otherwise.
    """
    return "".join(_batch_letters(model, batch) for batch in batches(requests))


def _batch_letters(model: PreTrainedModel, requests: Requests) -> str:
    letters = [OTHER] * len(requests)
    for letter, is_match in _matches(model, requests).items():
        for row in is_match.nonzero()[:, 0].tolist():
            letters[row] = letter
    return "".join(letters)


def _matches(model: PreTrainedModel, requests: Requests) -> dict[str, Bool[Tensor, " n"]]:
    """Whether greedy decoding gives each reference answer, by letter.

    Prompts are run once; an answer is scored, on the cache of the prompt, only where its first token is the
    likeliest.
    """
    length = requests.prompt.shape[1]
    if requests.judged[:, 0].any() or (requests.prompt_length != length).any():
        return {letter: exact_match(model, requests, answer) for letter, answer in _ANSWERS.items()}
    tokens, last = prompt_tokens(requests)
    with torch.no_grad(), logits_at_last(model, last):
        output = model(input_ids=tokens.to(model.device), use_cache=True)
    likeliest = output.logits[:, 0].argmax(dim=-1).cpu()
    cache = PrefixCache.from_output(output, length - 1)  # the last token is run again, with the answer
    matches = {}
    for letter, answer in _ANSWERS.items():
        is_match = likeliest == first_tokens(requests, answer)
        rows = is_match.nonzero()[:, 0]
        if len(rows):
            batch = outcome_targets(requests[rows.numpy()], answer)
            with torch.no_grad():
                score = score_targets(model, batch, cache=cache.select(rows))
            is_match[rows] = score.exact_match.cpu()
        matches[letter] = is_match
    return matches


def letter_share(letters: str, letter: str) -> float:
    """Share of requests with one outcome, from 0 to 1."""
    return letters.count(letter) / len(letters)
