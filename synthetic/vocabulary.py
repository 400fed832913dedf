"""The vocabulary of a world: its symbols, their ids and the roles of the special ones."""

from __future__ import annotations

import string
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Vocabulary:
    """Symbols in id order, and the special ones by name; ids are positions in `symbols`."""

    symbols: tuple[str, ...]
    """All symbols in the order of their ids."""
    eot: str = "<eot>"
    """Symbol that ends the text of a request."""
    bos: str = "<bos>"
    """Symbol that begins a sequence."""
    eos: str = "<eos>"
    """Symbol that ends a sequence."""
    sot: str = "<sot>"
    """Symbol that begins the text of a request."""
    pad: str = "<pad>"
    """Padding."""
    stop: str = "<stop>"
    """Symbol that ends an output."""

    def __post_init__(self) -> None:
        special = (self.eot, self.bos, self.eos, self.sot, self.pad, self.stop)
        missing = [symbol for symbol in special if symbol not in self.symbols]
        if missing or len(set(self.symbols)) != len(self.symbols):
            raise ValueError(
                f"vocabulary: symbols must be distinct and contain the special ones; missing {missing}"
            )

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Id of each symbol."""
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    def id(self, symbol: str) -> int:
        """Id of a symbol; raises ValueError if the vocabulary lacks it."""
        if symbol not in self.ids:
            raise ValueError(f"symbol {symbol!r} is not in the vocabulary; it has {' '.join(self.symbols)}")
        return self.ids[symbol]

    def decode(self, ids: Iterable[int]) -> str:
        """Symbols joined by spaces, without padding."""
        symbols = np.array(self.symbols, dtype=object)[np.asarray(list(ids), dtype=np.int64)]
        return " ".join(s for s in symbols if s != self.pad)

    def encode(self, text: str) -> list[int]:
        """Ids of symbols that are separated by whitespace; raises ValueError for an unknown symbol."""
        return [self.id(symbol) for symbol in text.split()]


def letter_symbols(n: int) -> tuple[str, ...]:
    """The first `n` letter symbols, a ... z, A ... Z; raises ValueError unless 2 <= n <= 52."""
    if not 2 <= n <= 52:
        raise ValueError(f"letters = {n}: expected 2 to 52")
    return tuple(string.ascii_letters[:n])
