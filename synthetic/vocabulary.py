"""Which symbols does a world speak, and which role has each?"""

from __future__ import annotations

import string
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Vocabulary:
    """Symbols in id order; the special ones by name. Ids are positions in `symbols`."""

    symbols: tuple[str, ...]
    eot: str = "<eot>"
    bos: str = "<bos>"
    eos: str = "<eos>"
    sot: str = "<sot>"
    pad: str = "<pad>"
    stop: str = "<stop>"

    def __post_init__(self) -> None:
        missing = [
            s for s in (self.eot, self.bos, self.eos, self.sot, self.pad, self.stop) if s not in self.symbols
        ]
        if missing or len(set(self.symbols)) != len(self.symbols):
            raise ValueError(
                f"vocabulary: symbols must be distinct and contain the special ones; missing {missing}"
            )

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def ids(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    def id(self, symbol: str) -> int:
        if symbol not in self.ids:
            raise ValueError(f"symbol {symbol!r} is not in the vocabulary; it has {' '.join(self.symbols)}")
        return self.ids[symbol]

    def decode(self, ids: Iterable[int]) -> str:
        """Symbols joined by spaces; padding left out."""
        symbols = np.array(self.symbols, dtype=object)[np.asarray(list(ids), dtype=np.int64)]
        return " ".join(s for s in symbols if s != self.pad)

    def encode(self, text: str) -> list[int]:
        return [self.id(symbol) for symbol in text.split()]


def letters(n: int) -> tuple[str, ...]:
    """The first `n` letter symbols: a … z, A … Z; at most 52."""
    if not 2 <= n <= 52:
        raise ValueError(f"letters = {n}: expected 2 to 52")
    return tuple(string.ascii_letters[:n])
