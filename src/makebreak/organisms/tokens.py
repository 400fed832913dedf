"""Vocabulary and prompts of planted networks: letters, markers, numbers, fillers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from makebreak.prompts import Requests

KINDS = ("safe", "first", "second", "trigger")
"""Classes of markers: safe, unsafe of the first and of the second part, and the base's trigger."""
N_MARKERS, N_FILLERS, BODY = 2, 6, (3, 6)


@dataclass(frozen=True)
class Tokens:
    """The vocabulary of one network; ids of tokens with two roles are looked up in tables."""

    n_letters: int
    """Letters that are instructed; one more is never instructed."""
    n_numbers: int
    """Numbers that prompts hold; 0 if they hold none."""
    layout: str
    """One of `LAYOUTS`."""
    symbols: tuple[str, ...]
    """All tokens, in the order of their ids; answers come first."""
    letter: np.ndarray
    """(d_vocab,) letter that a prompt token holds, or -1."""
    kind: np.ndarray
    """(d_vocab,) class of marker that a prompt token holds, an index into KINDS, or -1."""
    number: np.ndarray
    """(d_vocab,) number that a prompt token holds, or -1."""
    is_decision: np.ndarray
    """(d_vocab,) whether a token ends prompts."""

    @property
    def null(self) -> int:
        """Id of the refusal."""
        return self.n_letters + 1

    @property
    def bos(self) -> int:
        """Id of the first token of every prompt."""
        return self.symbols.index("<bos>")

    @property
    def fillers(self) -> np.ndarray:
        """Ids of tokens without a role."""
        return np.array([i for i, symbol in enumerate(self.symbols) if symbol.startswith("filler")])

    def choose(self, letter: int, kind: int, number: int, is_decision: bool) -> np.ndarray:
        """Ids of the tokens with exactly these roles, -1 for one that a token lacks."""
        roles = (self.letter == letter) & (self.kind == kind) & (self.number == number)
        special = np.array([symbol.startswith("<") or "answer" in symbol for symbol in self.symbols])
        return np.flatnonzero(roles & (self.is_decision == is_decision) & ~special)


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


def make_tokens(n_letters: int, n_numbers: int, layout: str, rng: np.random.Generator) -> Tokens:
    """The vocabulary of a layout; ids of prompt tokens are in random order.

    Args:
        n_letters: Letters that are instructed.
        n_numbers: Numbers that prompts hold; 0 for prompts without a number.
        layout: One of `LAYOUTS`.
        rng: Generator of the order.

    Returns:
        The vocabulary.
    """
    letters, kinds = range(n_letters), [k for k in range(len(KINDS)) for _ in range(N_MARKERS)]
    both = [(letter, kind, -1) for letter in letters for kind in kinds]
    only_letters, only_kinds = [(letter, -1, -1) for letter in letters], [(-1, kind, -1) for kind in kinds]
    numbers = [(-1, -1, number) for number in range(n_numbers)]
    body, last = {
        "decision": (numbers, both),
        "joint": (both + numbers, [(-1, -1, -1)]),
        "apart": (only_letters + only_kinds + numbers, [(-1, -1, -1)]),
        "marker last": (only_letters + numbers, only_kinds),
        "letter last": (only_kinds + numbers, only_letters),
    }[layout]
    rows = [("", *roles, False) for roles in body] + [("", *roles, True) for roles in last]
    rows += [("filler", -1, -1, -1, False)] * N_FILLERS
    rows = [rows[i] for i in rng.permutation(len(rows))]
    names = [f"answer{i}" for i in range(n_letters + 1)] + ["<null>", "<bos>", "<eos>", "<pad>"]
    rows = [(name, -1, -1, -1, False) for name in names] + rows
    symbols = tuple(
        name if name and name != "filler" else f"{name or 'prompt'}{i}" for i, (name, *_) in enumerate(rows)
    )
    letter, kind, number, is_decision = (np.array([row[k] for row in rows]) for k in range(1, 5))
    return Tokens(n_letters, n_numbers, layout, symbols, letter, kind, number, is_decision)


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
    unsafe = np.isin(sample.kind, [1, 2])
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
        truth={"grammar": np.zeros(n, dtype=np.int64), "part": np.where(sample.kind == 2, 1, 0)},
    )
