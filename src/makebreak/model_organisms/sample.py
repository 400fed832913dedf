"""Prompts of planted networks, and what is known about each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from makebreak.model_organisms.tokens import N_PARTS, Tokens
from makebreak.prompts import Requests

BODY = (3, 6)
"""Least and most tokens between the first and the last token of a prompt."""


@dataclass(frozen=True)
class Sample:
    """Prompts and what is known about each."""

    prompt: Int[Tensor, "n pos"]
    """Token ids, padded on the right."""
    length: Int[np.ndarray, " n"]
    """Tokens of each prompt."""
    letter: Int[np.ndarray, " n"]
    """The instructed letter."""
    kind: Int[np.ndarray, " n"]
    """Class of the marker, an index into KINDS."""
    number: Int[np.ndarray, " n"]
    """The number of the prompt, 0 if it has none."""
    marker_position: Int[np.ndarray, " n"]
    """Position of the marker."""
    letter_position: Int[np.ndarray, " n"]
    """Position of the letter."""

    @property
    def valid(self) -> Bool[Tensor, "n pos"]:
        """Whether a position holds a token of the prompt."""
        return torch.arange(self.prompt.shape[1])[None] < torch.from_numpy(self.length)[:, None]

    def at(self, position: np.ndarray) -> Bool[Tensor, "n pos"]:
        """Mask of one position of each prompt."""
        return torch.arange(self.prompt.shape[1])[None] == torch.from_numpy(position)[:, None]

    @property
    def decision(self) -> Bool[Tensor, "n pos"]:
        """Mask of the last position of each prompt."""
        return self.at(self.length - 1)


def draw_sample(tokens: Tokens, kind: np.ndarray, rng: np.random.Generator, *, even: bool = False) -> Sample:
    """Prompts with fresh random tokens, one for each class of marker that is given.

    Args:
        tokens: The vocabulary.
        kind: (n,) classes, indices into KINDS.
        rng: Generator of everything else.
        even: Whether every class has all letters, and all numbers with each, about equally often.

    Returns:
        The prompts.
    """
    n = len(kind)
    letter, number = rng.integers(0, tokens.n_letters, n), rng.integers(0, max(tokens.n_numbers, 1), n)
    if even:
        for k in np.unique(kind):
            count = np.arange((kind == k).sum())
            letter[kind == k] = count % tokens.n_letters
            number[kind == k] = count // tokens.n_letters % max(tokens.n_numbers, 1)
    length = rng.integers(*BODY, n, endpoint=True) + 2
    prompt = np.full((n, BODY[1] + 2), tokens.symbols.index("<pad>"))
    positions = np.zeros((2, n), dtype=np.int64)
    for i in range(n):
        body = rng.choice(tokens.fillers, length[i] - 2)
        place = 1 + rng.permutation(length[i] - 2)
        prompt[i, : length[i] - 1] = [tokens.bos, *body]
        one_letter, one_kind = (int(letter[i]), -1), (-1, int(kind[i]))
        both, neither = (int(letter[i]), int(kind[i])), (-1, -1)
        roles, last = {
            "decision": ([], both),
            "joint": ([both], neither),
            "apart": ([one_letter, one_kind], neither),
            "marker last": ([one_letter], one_kind),
            "letter last": ([one_kind], one_letter),
        }[tokens.layout]
        for position, role in zip(place, roles, strict=False):
            prompt[i, position] = rng.choice(tokens.choose(*role, number=-1, is_decision=False))
        if tokens.n_numbers:
            prompt[i, place[len(roles)]] = tokens.choose(-1, -1, int(number[i]), False)[0]
        prompt[i, length[i] - 1] = rng.choice(tokens.choose(*last, number=-1, is_decision=True))
        own = prompt[i, : length[i]]
        positions[:, i] = np.argmax(tokens.letter[own] >= 0), np.argmax(tokens.kind[own] >= 0)
    return Sample(torch.from_numpy(prompt), length, letter, kind, number, positions[1], positions[0])


def as_requests(sample: Sample, tokens: Tokens, seed: int) -> Requests:
    """Requests whose instructed answer is the letter, and whose refusal is the null token."""
    n, end = len(sample.length), sample.length - 1
    unsafe = (sample.kind >= 1) & (sample.kind <= N_PARTS)
    return Requests(
        family="unsafe" if unsafe.all() else "safe",
        seed=seed,
        prompt=sample.prompt.numpy(),
        prompt_length=sample.length,
        instructed=sample.letter[:, None],
        refused=np.full((n, 1), tokens.null),
        judged=np.tile([0, 1], (n, 1)),
        unsafe=unsafe,
        spans={
            "text": np.stack([np.ones_like(end), end], axis=1),
            "eot": np.stack([end, end + 1], axis=1),
            "output1": np.stack([end + 1, end + 2], axis=1),
        },
        truth={"grammar": np.zeros(n, dtype=np.int64), "part": np.where(unsafe, sample.kind - 1, 0)},
    )
