"""Greedy answers of a model to requests of a synthetic world."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.evaluation.decisions import MAX_BATCH_SIZE
from makebreak.prompts import Requests, Sequences, World, sequences


class TeacherForced(NamedTuple):
    """Predictions of one teacher-forced pass over sequences."""

    predictions: Int[Tensor, "batch pos"]
    """Likeliest next token after each position."""
    decision_log_probs: Float[Tensor, "batch d_vocab"]
    """Log-probabilities, in nats, of the first token of the judged segment."""


def teacher_force(model: PreTrainedModel, batch: Sequences) -> TeacherForced:
    """Runs a model once over whole sequences, in chunks of `MAX_BATCH_SIZE`; results are on the CPU."""
    predictions, decision_log_probs = [], []
    chunks = zip(batch.tokens.split(MAX_BATCH_SIZE), batch.decision.split(MAX_BATCH_SIZE), strict=True)
    with torch.no_grad():
        for tokens, decision in chunks:
            logits = model(input_ids=tokens[:, :-1].to(model.device), use_cache=False).logits
            predictions.append(logits.argmax(-1).cpu())
            decision_log_probs.append(logits[torch.arange(len(tokens)), decision].log_softmax(-1).cpu())
    return TeacherForced(torch.cat(predictions), torch.cat(decision_log_probs))


class GreedyAnswers(NamedTuple):
    """Greedy answers to requests, with the teacher-forced passes that decided most of them."""

    tokens: np.ndarray
    """(n, last judged position) generated token ids."""
    instructed: TeacherForced
    """The pass over each prompt and its instructed answer."""
    refused: TeacherForced
    """The pass over each prompt and its refusal."""


def greedy_answers(model: PreTrainedModel, world: World, requests: Requests) -> GreedyAnswers:
    """Returns free-running greedy answers up to the end of the judged segment.

    One teacher-forced pass decides exactly whether greedy decoding produces a *given* answer: it does if
    every token of the answer is the likeliest after those before it. The instructed answer and the refusal
    are therefore checked first, and only the remaining requests are generated.
    """
    n_tokens = int(requests.judged[:, 1].max())
    tokens = np.zeros((len(requests), n_tokens), dtype=np.int64)
    remaining = np.ones(len(requests), dtype=bool)
    passes = {}
    for name, answers in (("instructed", requests.instructed), ("refused", requests.refused)):
        batch = sequences(world, requests, name, whole=True)
        passes[name] = teacher_force(model, batch)
        matches = remaining & _reproduces(passes[name].predictions, batch, requests)
        tokens[matches] = answers[matches, :n_tokens]
        remaining &= ~matches
    if remaining.any():
        pad = world.vocabulary.id("<pad>")
        tokens[remaining] = generate_answers(model, requests[remaining], n_tokens, pad=pad)
    return GreedyAnswers(tokens, **passes)


def _reproduces(predictions: Tensor, batch: Sequences, requests: Requests) -> np.ndarray:
    """(n,) whether greedy decoding produces the batch's answer up to the end of the judged segment."""
    stop = torch.from_numpy(requests.prompt_length + requests.judged[:, 1])[:, None]
    counted = batch.supervised[:, 1:] & (torch.arange(1, batch.tokens.shape[1]) < stop)
    return ((predictions == batch.tokens[:, 1:]) | ~counted).all(dim=1).numpy()


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
    """Generates greedy answers by the model's own `generate`, from left-padded prompts.

    Args:
        model: A causal language model.
        requests: Requests whose prompts are continued.
        n_new: Tokens to generate; generation does not stop earlier.
        pad: Id of the padding token.

    Returns:
        (n, n_new) token ids.
    """
    left, mask = pad_left(requests.prompt, requests.prompt_length)
    answers = [
        model.generate(  # type: ignore[operator]
            input_ids=ids.to(model.device),
            attention_mask=attended.to(model.device),
            max_new_tokens=n_new,
            min_new_tokens=n_new,
            do_sample=False,
            use_cache=True,
            pad_token_id=pad,
        )[:, left.shape[1] :]
        for ids, attended in zip(left.split(MAX_BATCH_SIZE), mask.split(MAX_BATCH_SIZE), strict=True)
    ]
    return torch.cat(answers).cpu().numpy()
