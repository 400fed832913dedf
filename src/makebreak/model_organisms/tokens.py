"""Vocabulary of planted networks: letters, markers, numbers, fillers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KINDS = ("safe", "first", "second", "third", "trigger")
"""Classes of markers: safe, unsafe of each part, and the base's trigger."""
N_PARTS = 3
"""Most parts of a mixture."""
N_MARKERS, N_FILLERS = 2, 6


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
