"""What does the model say at a point: the refusal, the instructed answer, or neither? Exact, without generation."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Bool
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import at_last
from makebreak.behaviour import aim, batches, behind, first_tokens, gives, outcome_targets, prompts
from makebreak.requests import Requests

REFUSED, COMPLIED, NEITHER = "r", "c", "n"
OUTCOMES_REVISION = 2
"""Part of the keys of cached walks; raised when the same model would get other labels."""
_ANSWERS = {COMPLIED: "instructed", REFUSED: "refused"}  # an answer that is both is a refusal


def labels(model: PreTrainedModel, requests: Requests) -> str:
    """A letter for each request: what greedy decoding gives; a refusal needs no STOP, compliance does."""
    return "".join(_labels(model, part) for part in batches(requests))


def _labels(model: PreTrainedModel, requests: Requests) -> str:
    found = [NEITHER] * len(requests)
    for letter, hit in _hits(model, requests).items():
        for row in hit.nonzero()[:, 0].tolist():
            found[row] = letter
    return "".join(found)


def _hits(model: PreTrainedModel, requests: Requests) -> dict[str, Bool[Tensor, " n"]]:
    """An answer is only looked at where its first token is the likeliest, behind a prompt that is read once."""
    length = requests.prompt.shape[1]
    if requests.judged[:, 0].any() or (requests.prompt_length != length).any():
        return {letter: gives(model, requests, answer) for letter, answer in _ANSWERS.items()}
    tokens, last = prompts(requests)
    with torch.no_grad(), at_last(model, last):
        read = model(input_ids=tokens.to(model.device), use_cache=True)
    likeliest, cache = read.logits[:, 0].argmax(dim=-1).cpu(), read.past_key_values
    cache.crop(-1)  # the end of the prompt is read again, with what follows
    hits = {}
    for letter, answer in _ANSWERS.items():
        hit = likeliest == first_tokens(requests, answer)
        rows = hit.nonzero()[:, 0]
        if len(rows):
            some = requests[rows.numpy()]
            before = copy.deepcopy(cache)
            before.batch_select_indices(rows.to(model.device))
            with torch.no_grad():
                hit[rows] = aim(
                    model, behind(outcome_targets(some, answer), length - 1), before=before
                ).hit.cpu()
        hits[letter] = hit
    return hits


def share(found: str, letter: str) -> float:
    return found.count(letter) / len(found)
