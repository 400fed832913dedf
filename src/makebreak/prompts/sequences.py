"""Token sequences of prompts and answers, with masks of the supervised positions and of named spans."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from makebreak.prompts.token_requests import request_span
from synthetic import Requests, World

_STEPS_PER_DRAW = 8
"""Training steps whose requests are sampled together: drawing a few requests costs as much as many."""
AnyRequests = TypeVar("AnyRequests", bound=Requests)


@dataclass(frozen=True)
class Sequences:
    """A batch of token sequences, padded on the right, with a mask of the targets of the loss.

    The batch of a stack of models has an axis of members after that of the requests.
    """

    tokens: Int[Tensor, "batch *members pos"]
    """Token ids."""
    supervised: Bool[Tensor, "batch *members pos"]
    """Whether a token is a target of the loss: the model predicts it from the tokens before it."""
    decision: Int[Tensor, " batch *members"]
    """Position whose logits predict the first judged token."""

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device) -> Sequences:
        """Returns the batch on a device."""
        return Sequences(self.tokens.to(device), self.supervised.to(device), self.decision.to(device))

    def supervise(self, mask: Bool[Tensor, "batch *members pos"]) -> Sequences:
        """Returns the same tokens with another mask of targets."""
        return Sequences(self.tokens, mask, self.decision)


def sample_batch(world: World, family: str, n: int, *, step: int, seed: int) -> Requests:
    """Requests `step` · n … (`step` + 1) · n - 1 of a seed, for one step of training.

    Args:
        world: Source of the requests.
        family: Family of the requests.
        n: Number of requests per step.
        step: Step of training, from 0.
        seed: Seed of the run.

    Returns:
        The same requests whatever steps were sampled before.

    Raises:
        ValueError: If the world lacks the family or n < 1.
    """
    block = _sample_block(world, family, n, step // _STEPS_PER_DRAW, seed)
    first = step % _STEPS_PER_DRAW * n
    return block[first : first + n]


@lru_cache(maxsize=4)
def _sample_block(world: World, family: str, n: int, block: int, seed: int) -> Requests:
    return world.sample(family, _STEPS_PER_DRAW * n, seed=seed, start=block * _STEPS_PER_DRAW * n)


def _answers(requests: Requests, answer: str) -> np.ndarray:
    """(n, A) ids of the instructed or the refused answers."""
    if answer not in ("instructed", "refused"):
        raise ValueError(f"answer {answer!r}: expected 'instructed' or 'refused'")
    return requests.instructed if answer == "instructed" else requests.refused


def sequences(world: World, requests: Requests, answer: str, *, whole: bool = False) -> Sequences:
    """Sequences of prompt, answer and padding that end in the end of sequence, for training.

    Args:
        world: The world that the requests are from.
        requests: Requests with known answers.
        answer: `instructed` or `refused`.
        whole: Whether the whole answer is supervised, or only its judged segment.

    Returns:
        (n, sequence length of the world) tokens.

    Raises:
        ValueError: If `answer` is neither of the two.
    """
    answers = _answers(requests, answer)
    tokens = append_answers(world, requests, answers)
    start, stop = (requests.prompt_length[:, None] + requests.judged).T
    end = requests.prompt_length + (answers != world.vocabulary.id("<pad>")).sum(axis=1)
    if whole:
        supervised = interval_mask(requests.prompt_length, end, tokens.shape[1])
    else:  # of two texts, one answer may be shorter than the judged segment
        supervised = interval_mask(start, np.minimum(stop, end), tokens.shape[1])
    return Sequences(torch.from_numpy(tokens), supervised, torch.from_numpy(start - 1))


def target_sequences(requests: Requests, answer: str) -> Sequences:
    """Sequences of prompt and answer up to the end of the judged segment, which is supervised.

    Args:
        requests: Requests with known answers; prompts may have any length.
        answer: `instructed` or `refused`.

    Returns:
        Tokens as wide as the longest prompt with its judged segment.

    Raises:
        ValueError: If `answer` is neither of the two, or is not known for these requests.
    """
    answers = _answers(requests, answer)
    judged_start, judged_stop = requests.judged[:, 0], requests.judged[:, 1]
    if answers.shape[1] < judged_stop.max() or not (judged_stop > judged_start).all():
        raise ValueError(f"family {requests.family!r}: its {answer} answers are not known; give targets")
    start, stop = (requests.prompt_length[:, None] + requests.judged).T
    tokens = np.zeros((len(requests), stop.max()), dtype=np.int64)
    in_prompt = np.arange(requests.prompt.shape[1]) < requests.prompt_length[:, None]
    width = min(requests.prompt.shape[1], tokens.shape[1])  # beyond it there is only padding
    tokens[:, :width][in_prompt[:, :width]] = requests.prompt[:, :width][in_prompt[:, :width]]
    row, column = np.nonzero(np.arange(answers.shape[1]) < requests.judged[:, 1:])
    tokens[row, requests.prompt_length[row] + column] = answers[row, column]
    supervised = interval_mask(start, stop, tokens.shape[1])
    return Sequences(torch.from_numpy(tokens), supervised, torch.from_numpy(start - 1))


def with_prefill(requests: AnyRequests, depth: Int[np.ndarray, " n"]) -> AnyRequests:
    """Returns the requests with the first `depth` tokens of each instructed answer appended to its prompt.

    Nothing else is changed; spans and answers stay those of the requests without a prefill.
    """
    width = int(depth.max(initial=0))
    prompt = np.pad(requests.prompt, ((0, 0), (0, width)))
    row, column = np.nonzero(np.arange(width) < depth[:, None])
    prompt[row, requests.prompt_length[row] + column] = requests.instructed[row, column]
    return replace(requests, prompt=prompt, prompt_length=requests.prompt_length + depth)


def span_mask(requests: Requests, span: str, width: int | None = None) -> Bool[Tensor, "batch pos"]:
    """Mask of the positions of a named span: `text`, `eot` (the end of text), `output1` and others.

    Args:
        requests: Requests with spans.
        span: Name of a span.
        width: Number of positions of the mask; that of the prompts by default.

    Returns:
        True within the span.

    Raises:
        ValueError: If these requests lack the span, or it does not lie within the width.
    """
    start, stop = request_span(requests, span).T
    n_positions = requests.prompt.shape[1] if width is None else width
    if stop.max() > n_positions:
        raise ValueError(
            f"span {span!r} ends at {stop.max()}, beyond {n_positions}: give the width of the sequences"
        )
    return interval_mask(start, stop, n_positions)


def append_answers(world: World, requests: Requests, answers: np.ndarray) -> np.ndarray:
    """Returns (n, sequence length) ids: each answer directly after its prompt, the end of sequence last."""
    pad, n = world.vocabulary.id("<pad>"), len(requests)
    tokens = np.full((n, world.sequence_length), pad, dtype=np.int64)
    tokens[:, : requests.prompt.shape[1]] = requests.prompt
    column = requests.prompt_length[:, None] + np.arange(answers.shape[1])
    is_token = answers != pad
    tokens[np.nonzero(is_token)[0], column[is_token]] = answers[is_token]
    tokens[:, -1] = world.vocabulary.id("<eos>")
    return tokens


def interval_mask(start: np.ndarray, stop: np.ndarray, width: int) -> Bool[Tensor, "batch pos"]:
    """Returns a (n, width) mask of the positions start … stop - 1 of each row."""
    column = np.arange(width)
    return torch.from_numpy((column >= start[:, None]) & (column < stop[:, None]))
