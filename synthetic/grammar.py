"""How does a probabilistic context-free grammar yield text, for thousands of requests at once?

A grammar is levelled: every alternative of a symbol consists of symbols of the next level, the last level
being letters. Expansion is a table look-up per level. Only the part of a derivation that the window of text
shows is expanded below the lowest level at which all symbols yield equally many letters.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from synthetic.draws import Draws

Rules = dict[str, tuple[tuple[str, ...], ...]]


def parse(text: str) -> Rules:
    """Rules from lines `S -> A1 A2 | A2 A3`; alternatives are equally likely, repeats count.

    Several rules may share a line, separated by `;`. A letter string is written with commas, `0,1,2`.
    """
    rules: Rules = {}
    for rule in text.replace(";", "\n").split("\n"):
        if rule.strip():
            head, arrow, body = rule.partition("->")
            alternatives = tuple(tuple(a.replace(",", " ").split()) for a in body.split("|"))
            if not head.strip() or not arrow or not all(alternatives):
                raise ValueError(f"grammar rule {rule.strip()!r}: expected 'HEAD -> a b | c d'")
            if head.strip() in rules:
                raise ValueError(
                    f"grammar rule {rule.strip()!r}: {head.strip()!r} has a rule already; use '|'"
                )
            rules[head.strip()] = alternatives
    return rules


@dataclass(frozen=True)
class _Level:
    children: np.ndarray  # (symbols of this level, alternatives, children), -1 where absent
    n_alternatives: np.ndarray  # (symbols of this level,)
    fixed: int  # letters that every symbol of this level yields, 0 if they differ


@dataclass(frozen=True)
class Grammar:
    """A levelled PCFG over letters 0 … n-1, started at `start`."""

    rules: Rules
    start: str = "S"

    @cached_property
    def symbols_by_level(self) -> list[list[str]]:
        found, level = [], [self.start]
        while not all(s.isdigit() for s in level):
            unknown = [s for s in level if s not in self.rules]
            if unknown:
                raise ValueError(f"grammar: {unknown} have no rule, or letters and symbols share a level")
            found.append(level)
            if len(found) > len(self.rules):
                raise ValueError(
                    f"grammar: a rule comes back to itself; level {len(found)} still has {level}"
                )
            level = sorted({child for s in level for alternative in self.rules[s] for child in alternative})
        return found

    @cached_property
    def yields(self) -> dict[str, tuple[int, int]]:
        """Fewest and most letters of every reachable symbol."""
        spans: dict[str, tuple[int, int]] = {}
        for level in reversed(self.symbols_by_level):
            for symbol in level:
                low, high = zip(
                    *[
                        np.sum([spans.get(child, (1, 1)) for child in alternative], axis=0)
                        for alternative in self.rules[symbol]
                    ],
                    strict=True,
                )
                spans[symbol] = (int(min(low)), int(max(high)))
        return spans

    @cached_property
    def _levels(self) -> list[_Level]:
        by_level, levels = self.symbols_by_level, []
        for depth, symbols in enumerate(by_level):
            last = depth + 1 == len(by_level)
            ids = {s: i for i, s in enumerate(by_level[depth + 1])} if not last else {}
            alternatives = [self.rules[s] for s in symbols]
            n_alternatives = np.array([len(a) for a in alternatives])
            width = max(len(c) for a in alternatives for c in a)
            children = np.full((len(symbols), n_alternatives.max(), width), -1, dtype=np.int16)
            for i, options in enumerate(alternatives):
                for j, option in enumerate(options):
                    children[i, j, : len(option)] = [int(c) if last else ids[c] for c in option]
            spans = {self.yields[s] for s in symbols}
            low, high = next(iter(spans))
            levels.append(_Level(children, n_alternatives, low if len(spans) == 1 and low == high else 0))
        return levels

    def _expand(self, draws: Draws, depth: int, symbols: np.ndarray) -> np.ndarray:
        """(n, m) symbols of a level, -1 where absent → (n, m × children) of the next, gaps kept."""
        level = self._levels[depth]
        safe = np.maximum(symbols, 0)
        choice = draws.integers(f"level{depth}", symbols.shape[1], level.n_alternatives[safe])
        children = level.children[safe, choice]
        children[symbols < 0] = -1
        return children.reshape(len(symbols), -1)

    def sample(self, draws: Draws, lengths: np.ndarray) -> np.ndarray:
        """Windows of text, each uniformly placed in its own derivation.

        lengths: (n,) letters wanted. Returns (n, max(lengths)) letters, -1 beyond each length.
        Raises ValueError where the grammar's shortest string is shorter than the longest window.
        """
        longest = int(lengths.max(initial=0))
        if longest > self.yields[self.start][0]:
            raise ValueError(
                f"text of {longest} letters from a grammar whose shortest string has {self.yields[self.start][0]}"
            )
        symbols, depth = np.zeros((len(draws), 1), dtype=np.int16), 0
        while not self._levels[depth].fixed:
            symbols = _close_gaps(self._expand(draws, depth, symbols))
            depth += 1
        unit = self._levels[depth].fixed
        total = (symbols >= 0).sum(axis=1) * unit
        start = draws.integers("window", 1, (total - lengths + 1)[:, None])[:, 0]
        shown = np.arange((longest + 2 * unit - 2) // unit)
        first = np.minimum((start // unit)[:, None] + shown, symbols.shape[1] - 1)
        symbols = np.take_along_axis(symbols, first, axis=1)
        for below in range(depth, len(self._levels)):
            symbols = _close_gaps(self._expand(draws, below, symbols))
        column = np.arange(longest)
        place = np.minimum((start % unit)[:, None] + column, symbols.shape[1] - 1)
        return np.where(column < lengths[:, None], np.take_along_axis(symbols, place, axis=1), -1)


def _close_gaps(symbols: np.ndarray) -> np.ndarray:
    """Move the entries that are present to the left of each row and cut the unused columns."""
    present = symbols >= 0
    if present.all():
        return symbols
    counts = present.sum(axis=1)
    packed = np.full((len(symbols), int(counts.max())), -1, dtype=symbols.dtype)
    packed[np.arange(packed.shape[1]) < counts[:, None]] = symbols[present]
    return packed
