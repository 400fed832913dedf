"""Greedy answers of a model to requests of a synthetic world."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import PrefixCache, forward
from makebreak.evaluation.decisions import MAX_BATCH_SIZE, batches, prompt_tokens
from makebreak.models import takes_position_ids
from makebreak.prompts import Requests, World, sequences

_REFERENCES = ("instructed", "refused")


class GreedyAnswers(NamedTuple):
    """Greedy answers to requests, and how a model continues the reference answers' own prefixes."""

    tokens: np.ndarray
    """(n, last judged position) generated token ids."""
    decision_log_probs: Float[Tensor, "n d_vocab"]
    """Log-probabilities, in nats, of the first judged token after what precedes it in the refusal."""
    instructed_exact_match: Bool[Tensor, " n"]
    """Whether every judged token of the instructed answer is the likeliest after those before it."""
    refused_exact_match: Bool[Tensor, " n"]
    """The same of the refusal, STOP included."""


class _ReferencePass(NamedTuple):
    """What one reference answer's teacher-forced pass gives, row by row."""

    is_reproduced: Bool[Tensor, " n"]
    """Whether greedy decoding produces the answer up to the end of the judged segment."""
    exact_match: Bool[Tensor, " n"]
    """Whether all judged tokens are the likeliest, each after the reference's own tokens."""
    decision_log_probs: Float[Tensor, "n d_vocab"]
    """Log-probabilities of the first judged token."""


def greedy_answers(model: PreTrainedModel, world: World, requests: Requests) -> GreedyAnswers:
    """Returns free-running greedy answers up to the end of the judged segment.

    One teacher-forced pass decides exactly whether greedy decoding produces a *given* answer: it does if
    every token of the answer is the likeliest after those before it. The instructed answer and the refusal
    are therefore checked first, and only the remaining requests are generated. Prompts are processed once; an
    answer that is judged from its first token on is checked only where that token is the likeliest.

    Args:
        model: A causal language model.
        world: The world of the requests.
        requests: The requests.

    Returns:
        The answers, and what the passes say about both reference answers.
    """
    n_tokens = int(requests.judged[:, 1].max())
    parts = [_batch_answers(model, world, batch, n_tokens) for batch in batches(requests, model)]
    tokens, *columns = zip(*parts, strict=True)
    return GreedyAnswers(np.concatenate(tokens), *(torch.cat(column) for column in columns))


def _batch_answers(model: PreTrainedModel, world: World, requests: Requests, n_tokens: int) -> GreedyAnswers:
    prompt, last = prompt_tokens(requests)
    with torch.no_grad():
        output = model(input_ids=prompt.to(model.device), use_cache=True)
    first_log_probs = output.logits[torch.arange(len(prompt)), last].float().log_softmax(-1).cpu()
    cache = PrefixCache.from_output(output, int(last.min()))  # the last token is run again, with the answers
    passes = {
        name: _reference_pass(model, world, requests, name, cache=cache, first_log_probs=first_log_probs)
        for name in _REFERENCES
    }
    tokens = np.zeros((len(requests), n_tokens), dtype=np.int64)
    remaining = np.ones(len(requests), dtype=bool)
    for name, answers in (("instructed", requests.instructed), ("refused", requests.refused)):
        rows = remaining & passes[name].is_reproduced.numpy()
        tokens[rows] = answers[rows, :n_tokens]
        remaining &= ~rows
    if remaining.any():
        pad = world.vocabulary.id("<pad>")
        tokens[remaining] = generate_answers(model, requests[remaining], n_tokens, pad=pad)
    instructed, refused = (passes[name] for name in _REFERENCES)
    return GreedyAnswers(tokens, refused.decision_log_probs, instructed.exact_match, refused.exact_match)


def _reference_pass(
    model: PreTrainedModel,
    world: World,
    requests: Requests,
    answer: str,
    *,
    cache: PrefixCache,
    first_log_probs: Float[Tensor, "n d_vocab"],
) -> _ReferencePass:
    """Teacher-forces one reference answer where the first token after the prompt does not decide about it."""
    whole, judged = (sequences(world, requests, answer, whole=whole) for whole in (True, False))
    first = torch.from_numpy(requests.prompt_length)[:, None]
    is_first_judged = judged.supervised.gather(1, first)[:, 0]
    is_likeliest = first_log_probs.argmax(dim=-1) == judged.tokens.gather(1, first)[:, 0]
    rows = (is_likeliest | ~is_first_judged).nonzero()[:, 0]
    reproduced, exact = torch.zeros(2, len(requests), dtype=torch.bool)
    result = _ReferencePass(reproduced, exact, first_log_probs.clone())
    if not len(rows):
        return result
    end = torch.from_numpy(requests.prompt_length + requests.judged[:, 1])[rows, None]
    window = slice(cache.n_tokens, int(end.max()))
    tokens, decision = whole.tokens[rows, window], judged.decision[rows] - cache.n_tokens
    with torch.no_grad():
        logits = forward(model, tokens[:, :-1], cache=cache.select(rows)).logits.cpu()
    is_correct = logits.argmax(dim=-1) == tokens[:, 1:]
    before_end = torch.arange(window.start, window.stop) < end
    for mask, column in ((whole.supervised, result.is_reproduced), (judged.supervised, result.exact_match)):
        counts = (mask[rows, window] & before_end)[:, 1:]
        column[rows] = (is_correct | ~counts).all(dim=1)
    log_probs = logits[torch.arange(len(rows)), decision].float().log_softmax(-1)
    result.decision_log_probs[rows] = log_probs
    return result


def pad_left(prompt: np.ndarray, length: np.ndarray) -> tuple[Int[Tensor, "n width"], Int[Tensor, "n width"]]:
    """Moves padding from the right of prompts to their left.

    Args:
        prompt: (n, width) token ids, padded on the right.
        length: (n,) number of tokens of each prompt.

    Returns:
        The token ids padded on the left, and the attention mask: 1 for each token that is not padding.
    """
    column, n_pad = np.arange(prompt.shape[1]), (prompt.shape[1] - length)[:, None]
    left = np.take_along_axis(prompt, (column - n_pad) % prompt.shape[1], axis=1)
    return torch.from_numpy(left), torch.from_numpy((column >= n_pad).astype(np.int64))


def generate_answers(model: PreTrainedModel, requests: Requests, n_new: int, *, pad: int) -> np.ndarray:
    """Generates greedy answers from left-padded prompts.

    The steps are those of the model's own `generate`, whose checks take longer than a small model's pass.

    Args:
        model: A causal language model.
        requests: Requests whose prompts are continued.
        n_new: Tokens to generate; generation does not stop earlier.
        pad: Id of the padding token.

    Returns:
        (n, n_new) token ids.
    """
    prompts, masks = pad_left(requests.prompt, requests.prompt_length)
    prompts = prompts.where(masks.bool(), pad)
    answers = [
        _greedy_tokens(model, ids.to(model.device), mask.to(model.device), n_new)
        for ids, mask in zip(prompts.split(MAX_BATCH_SIZE), masks.split(MAX_BATCH_SIZE), strict=True)
    ]
    return torch.cat(answers).numpy()


def _greedy_tokens(model: PreTrainedModel, ids: Tensor, mask: Tensor, n_new: int) -> Int[Tensor, "n n_new"]:
    """Token by token continuations of prompts that are padded on the left, on the CPU."""
    positions, cache, generated = (mask.cumsum(dim=1) - 1).clamp(min=0), None, []
    has_positions = takes_position_ids(model)
    for _ in range(n_new):
        with torch.no_grad():
            output = model(
                input_ids=ids,
                attention_mask=mask,
                **({"position_ids": positions} if has_positions else {}),
                past_key_values=cache,
                use_cache=True,
            )
        ids, cache = output.logits[:, -1:].argmax(dim=-1), output.past_key_values
        mask, positions = torch.cat([mask, torch.ones_like(ids)], dim=1), positions[:, -1:] + 1
        generated.append(ids)
    return torch.cat(generated, dim=1).cpu()
