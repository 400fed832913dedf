"""Probabilistic context-free grammars that yield texts for thousands of requests at once.

A grammar is levelled: every alternative of a symbol consists of symbols of the next level, and the last level
consists of letters. Expansion is a table look-up per level. Below the lowest level at which all symbols yield
equally many letters, only the part of a derivation that the window of text shows is expanded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from synthetic.draws import Draws

Rules = dict[str, tuple[tuple[str, ...], ...]]
"""Alternatives of each symbol, each a tuple of symbols or letters."""


def parse_rules(text: str) -> Rules:
    """Rules from lines `S -> A1 A2 | A2 A3`; alternatives are equally likely, and repetitions count.

    Args:
        text: Rules on lines of their own or separated by `;`. Letters are separated by spaces or commas,
            `0,1,2`.

    Returns:
        Alternatives of each symbol.

    Raises:
        ValueError: If a rule is malformed, or a symbol has two rules.
    """
    rules: Rules = {}
    for rule in text.replace(";", "\n").split("\n"):
        if not rule.strip():
            continue
        head, arrow, body = rule.partition("->")
        alternatives = tuple(tuple(a.replace(",", " ").split()) for a in body.split("|"))
        if not head.strip() or not arrow or not all(alternatives):
            raise ValueError(f"grammar rule {rule.strip()!r}: expected 'HEAD -> a b | c d'")
        if head.strip() in rules:
            raise ValueError(f"grammar rule {rule.strip()!r}: {head.strip()!r} has a rule already; use '|'")
        rules[head.strip()] = alternatives
    return rules


@dataclass(frozen=True)
class _Level:
    """Rules of one level as tables."""

    children: np.ndarray
    """Symbols of the next level, (symbols of this level, alternatives, children), -1 where absent."""
    n_alternatives: np.ndarray
    """Alternatives of each symbol, (symbols of this level,)."""
    yield_length: int
    """Letters that every symbol of this level yields, 0 if they differ."""


@dataclass(frozen=True)
class Grammar:
    """A levelled probabilistic context-free grammar over letters 0 ... n - 1."""

    rules: Rules
    """Alternatives of each symbol."""
    start: str = "S"
    """Start symbol."""

    @cached_property
    def symbols_by_level(self) -> list[list[str]]:
        """Symbols of each level, from the start symbol on; raises ValueError if the grammar has no levels."""
        levels, level = [], [self.start]
        while not all(s.isdigit() for s in level):
            unknown = [s for s in level if s not in self.rules]
            if unknown:
                raise ValueError(f"grammar: {unknown} have no rule, or letters and symbols share a level")
            levels.append(level)
            if len(levels) > len(self.rules):
                raise ValueError(
                    f"grammar: a rule comes back to itself; level {len(levels)} still has {level}"
                )
            level = sorted({child for s in level for alternative in self.rules[s] for child in alternative})
        return levels

    @cached_property
    def yield_lengths(self) -> dict[str, tuple[int, int]]:
        """Fewest and most letters that each reachable symbol yields."""
        lengths: dict[str, tuple[int, int]] = {}
        for level in reversed(self.symbols_by_level):
            for symbol in level:
                totals = [
                    np.sum([lengths.get(child, (1, 1)) for child in alternative], axis=0)
                    for alternative in self.rules[symbol]
                ]
                fewest, most = min(total[0] for total in totals), max(total[1] for total in totals)
                lengths[symbol] = (int(fewest), int(most))
        return lengths

    @cached_property
    def _levels(self) -> list[_Level]:
        levels = self.symbols_by_level
        return [self._level(*pair) for pair in zip(levels, [*levels[1:], None], strict=True)]

    def _level(self, symbols: list[str], next_symbols: list[str] | None) -> _Level:
        """Tables of one level; `next_symbols` is None above the letters."""
        alternatives = [self.rules[symbol] for symbol in symbols]
        n_alternatives = np.array([len(options) for options in alternatives])
        width = max(len(children) for options in alternatives for children in options)
        table = np.full((len(symbols), n_alternatives.max(), width), -1, dtype=np.int16)
        ids = {} if next_symbols is None else {symbol: i for i, symbol in enumerate(next_symbols)}
        for i, options in enumerate(alternatives):
            for j, children in enumerate(options):
                table[i, j, : len(children)] = [int(c) if next_symbols is None else ids[c] for c in children]
        lengths = {self.yield_lengths[symbol] for symbol in symbols}
        fewest, most = next(iter(lengths))
        return _Level(table, n_alternatives, fewest if len(lengths) == 1 and fewest == most else 0)

    def _expand(self, draws: Draws, depth: int, symbols: np.ndarray) -> np.ndarray:
        """Symbols of a level, (n, m), -1 where absent -> those of the next, (n, m x children), gaps kept."""
        level = self._levels[depth]
        present = np.maximum(symbols, 0)
        choice = draws.integers(f"level{depth}", symbols.shape[1], level.n_alternatives[present])
        children = level.children[present, choice]
        children[symbols < 0] = -1
        return children.reshape(len(symbols), -1)

    def sample(self, draws: Draws, lengths: np.ndarray) -> np.ndarray:
        """Windows of text, each at a uniformly random position of a derivation of its own.

        Args:
            draws: Random draws of the n requests.
            lengths: Letters wanted, (n,).

        Returns:
            Letters, (n, max(lengths)), -1 beyond each length.

        Raises:
            ValueError: If the grammar's shortest string is shorter than the longest window.
        """
        longest, shortest_string = int(lengths.max(initial=0)), self.yield_lengths[self.start][0]
        if longest > shortest_string:
            raise ValueError(
                f"text of {longest} letters from a grammar whose shortest string has {shortest_string}"
            )
        symbols, depth = np.zeros((len(draws), 1), dtype=np.int16), 0
        while not self._levels[depth].yield_length:
            symbols = _close_gaps(self._expand(draws, depth, symbols))
            depth += 1
        unit = self._levels[depth].yield_length
        n_letters = (symbols >= 0).sum(axis=1) * unit
        start = draws.integers("window", 1, (n_letters - lengths + 1)[:, None])[:, 0]
        in_window = np.arange((longest + 2 * unit - 2) // unit)
        shown = np.minimum((start // unit)[:, None] + in_window, symbols.shape[1] - 1)
        symbols = np.take_along_axis(symbols, shown, axis=1)
        for lower in range(depth, len(self._levels)):
            symbols = _close_gaps(self._expand(draws, lower, symbols))
        column = np.arange(longest)
        position = np.minimum((start % unit)[:, None] + column, symbols.shape[1] - 1)
        return np.where(column < lengths[:, None], np.take_along_axis(symbols, position, axis=1), -1)


def _close_gaps(symbols: np.ndarray) -> np.ndarray:
    """Entries that are present moved to the left of each row, unused columns cut."""
    present = symbols >= 0
    if present.all():
        return symbols
    counts = present.sum(axis=1)
    packed = np.full((len(symbols), int(counts.max())), -1, dtype=symbols.dtype)
    packed[np.arange(packed.shape[1]) < counts[:, None]] = symbols[present]
    return packed
