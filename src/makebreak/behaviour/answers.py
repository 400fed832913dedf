"""What does a model answer, running free and choosing the likeliest token each time?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.behaviour.decisions import BATCH
from makebreak.requests import Requests, Sequences, World, sequences


class Forced(NamedTuple):
    """A teacher-forced pass.

    likeliest: next token after each position. decision: log p where the judged segment begins.
    """

    likeliest: Int[Tensor, "batch pos"]
    decision: Float[Tensor, "batch d_vocab"]


def teacher_force(model: PreTrainedModel, batch: Sequences) -> Forced:
    likeliest, decision = [], []
    with torch.no_grad():
        for tokens, at in zip(batch.tokens.split(BATCH), batch.decision.split(BATCH), strict=True):
            logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
            likeliest.append(logits.argmax(-1))
            decision.append(logits[torch.arange(len(tokens)), at].log_softmax(-1))
    return Forced(torch.cat(likeliest), torch.cat(decision))


class Answers(NamedTuple):
    """tokens: (n, last judged position) greedy answers. instructed, refused: the teacher-forced passes behind them."""

    tokens: np.ndarray
    instructed: Forced
    refused: Forced


def greedy_answers(model: PreTrainedModel, world: World, requests: Requests) -> Answers:
    """Free-running greedy answers.

    One teacher-forced pass decides exactly whether greedy decoding gives a *given* answer: it does where every
    token of the answer is the likeliest after those before it. So the instructed and the refused answers are
    tried first, and only the other requests are generated.
    """
    need = int(requests.judged[:, 1].max())
    tokens = np.zeros((len(requests), need), dtype=np.int64)
    rest = np.ones(len(requests), dtype=bool)
    passes = {}
    for name, given in (("instructed", requests.instructed), ("refused", requests.refused)):
        batch = sequences(world, requests, name, whole=True)
        passes[name] = teacher_force(model, batch)
        hit = rest & _reproduced(passes[name].likeliest, batch, requests)
        tokens[hit] = given[hit, :need]
        rest &= ~hit
    if rest.any():
        tokens[rest] = generate(model, requests[rest], need, pad=world.vocabulary.id("<pad>"))
    return Answers(tokens, **passes)


def _reproduced(likeliest: Tensor, given: Sequences, requests: Requests) -> np.ndarray:
    """(n,) whether greedy decoding gives this answer, up to the end of the judged segment."""
    stop = torch.from_numpy(requests.prompt_length + requests.judged[:, 1])[:, None]
    counted = given.supervised[:, 1:] & (torch.arange(1, given.tokens.shape[1]) < stop)
    return ((likeliest == given.tokens[:, 1:]) | ~counted).all(dim=1).numpy()


def left_padded(
    prompt: np.ndarray, length: np.ndarray
) -> tuple[Int[Tensor, "n width"], Int[Tensor, "n width"]]:
    """Prompts that are padded on the right, (n, width), with their padding on the left, and the mask of real tokens."""
    column, missing = np.arange(prompt.shape[1]), (prompt.shape[1] - length)[:, None]
    left = np.take_along_axis(prompt, (column - missing) % prompt.shape[1], axis=1)
    return torch.from_numpy(left), torch.from_numpy((column >= missing).astype(np.int64))


def generate(model: PreTrainedModel, requests: Requests, n_new: int, *, pad: int) -> np.ndarray:
    """(n, n_new) greedy tokens behind each prompt, by transformers' own generation on left-padded prompts."""
    left, mask = left_padded(requests.prompt, requests.prompt_length)
    parts = [
        model.generate(  # type: ignore[operator]
            input_ids=ids,
            attention_mask=attended,
            max_new_tokens=n_new,
            min_new_tokens=n_new,
            do_sample=False,
            use_cache=True,
            pad_token_id=pad,
        )[:, left.shape[1] :]
        for ids, attended in zip(left.split(BATCH), mask.split(BATCH), strict=True)
    ]
    return torch.cat(parts).numpy()
