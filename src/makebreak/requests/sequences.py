"""How does a request become tokens, and which of them count?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from makebreak.configs import nearest
from synthetic import Requests, World

_STEPS_AT_ONCE = 8
Some = TypeVar("Some", bound=Requests)


@dataclass(frozen=True)
class Sequences:
    """Right-padded token sequences.

    tokens: ids. supervised: marks each token that is a *target* (the model predicts it from those before it).
    decision: position whose logits decide the first judged token.
    """

    tokens: Int[Tensor, "batch pos"]
    supervised: Bool[Tensor, "batch pos"]
    decision: Int[Tensor, " batch"]

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device) -> Sequences:
        return Sequences(self.tokens.to(device), self.supervised.to(device), self.decision.to(device))

    def supervise(self, mask: Bool[Tensor, "batch pos"]) -> Sequences:
        return Sequences(self.tokens, mask, self.decision)


def sampled(world: World, family: str, n: int, *, step: int, seed: int) -> Requests:
    """The requests of a step of training, `step` · n …; drawn for several steps at once: a draw of few costs as much.

    Raises ValueError where `world.sample` does.
    """
    block = _block(world, family, n, step // _STEPS_AT_ONCE, seed)
    first = step % _STEPS_AT_ONCE * n
    return block[first : first + n]


@lru_cache(maxsize=4)
def _block(world: World, family: str, n: int, block: int, seed: int) -> Requests:
    return world.sample(family, _STEPS_AT_ONCE * n, seed=seed, start=block * _STEPS_AT_ONCE * n)


def sequences(world: World, requests: Requests, answer: str, *, whole: bool = False) -> Sequences:
    """Prompt + answer + padding, the end of sequence last; supervised is the judged segment.

    answer: `instructed` or `refused`. whole: supervise the whole answer, not only its judged segment.
    Raises ValueError for another answer.
    """
    if answer not in ("instructed", "refused"):
        raise ValueError(f"answer {answer!r}: expected 'instructed' or 'refused'")
    answers = requests.instructed if answer == "instructed" else requests.refused
    tokens = join(world, requests, answers)
    start, stop = (requests.prompt_length[:, None] + requests.judged).T
    end = requests.prompt_length + (answers != world.vocabulary.id("<pad>")).sum(axis=1)
    if whole:
        supervised = between(requests.prompt_length, end, tokens.shape[1])
    else:
        supervised = between(
            start, np.minimum(stop, end), tokens.shape[1]
        )  # of texts, one answer may be shorter
    return Sequences(torch.from_numpy(tokens), supervised, torch.from_numpy(start - 1))


def targeted(requests: Requests, answer: str) -> Sequences:
    """Prompt + answer as far as the judged segment, which is supervised; whatever the length of the prompt.

    answer: `instructed` or `refused`. Raises ValueError for another answer, or one that is not known.
    """
    if answer not in ("instructed", "refused"):
        raise ValueError(f"answer {answer!r}: expected 'instructed' or 'refused'")
    answers = requests.instructed if answer == "instructed" else requests.refused
    if (
        answers.shape[1] < requests.judged[:, 1].max()
        or not (requests.judged[:, 1] > requests.judged[:, 0]).all()
    ):
        raise ValueError(f"family {requests.family!r}: its {answer} answers are not known; give targets")
    start, stop = (requests.prompt_length[:, None] + requests.judged).T
    tokens = np.zeros((len(requests), stop.max()), dtype=np.int64)
    inside = np.arange(requests.prompt.shape[1]) < requests.prompt_length[:, None]
    width = min(requests.prompt.shape[1], tokens.shape[1])  # beyond it there is only padding
    tokens[:, :width][inside[:, :width]] = requests.prompt[:, :width][inside[:, :width]]
    row, column = np.nonzero(np.arange(answers.shape[1]) < requests.judged[:, 1:])
    tokens[row, requests.prompt_length[row] + column] = answers[row, column]
    supervised = between(start, stop, tokens.shape[1])
    return Sequences(torch.from_numpy(tokens), supervised, torch.from_numpy(start - 1))


def begun(requests: Some, depth: Int[np.ndarray, " n"]) -> Some:
    """Each prompt with the first `depth` tokens of its instructed answer behind it; nothing else is changed."""
    width = int(depth.max(initial=0))
    prompt = np.pad(requests.prompt, ((0, 0), (0, width)))
    row, column = np.nonzero(np.arange(width) < depth[:, None])
    prompt[row, requests.prompt_length[row] + column] = requests.instructed[row, column]
    return replace(requests, prompt=prompt, prompt_length=requests.prompt_length + depth)


def positions(requests: Requests, span: str, width: int | None = None) -> Bool[Tensor, "batch pos"]:
    """Where a span is: `text`, `eot` (the end of text), `output1` …, in sequences of `width`; by default, the prompt.

    Raises ValueError for a span these requests lack, or one that does not lie within the width.
    """
    if span not in requests.spans:
        raise ValueError(f"span {span!r} is not in these requests; {nearest(span, list(requests.spans))}")
    start, stop = requests.spans[span].T
    n_positions = requests.prompt.shape[1] if width is None else width
    if stop.max() > n_positions:
        raise ValueError(
            f"span {span!r} ends at {stop.max()}, beyond {n_positions}: give the width of the sequences"
        )
    return between(start, stop, n_positions)


def join(world: World, requests: Requests, answers: np.ndarray) -> np.ndarray:
    """(n, sequence_length) ids: each answer directly behind its prompt."""
    pad, n = world.vocabulary.id("<pad>"), len(requests)
    tokens = np.full((n, world.sequence_length), pad, dtype=np.int64)
    tokens[:, : requests.prompt.shape[1]] = requests.prompt
    column = requests.prompt_length[:, None] + np.arange(answers.shape[1])
    kept = answers != pad
    tokens[np.nonzero(kept)[0], column[kept]] = answers[kept]
    tokens[:, -1] = world.vocabulary.id("<eos>")
    return tokens


def between(start: np.ndarray, stop: np.ndarray, width: int) -> Bool[Tensor, "batch pos"]:
    """(n, width) mask of the positions start … stop - 1 of each row."""
    column = np.arange(width)
    return torch.from_numpy((column >= start[:, None]) & (column < stop[:, None]))
