"""How can request i of a seed be the same whatever the batch it is made in?

Every random choice is a hash of (seed, request index, name of the choice, position): nothing is drawn in
sequence, so requests can be made in any order, number or batch, and a redraw touches one request only.
The mixer is the finaliser of SplitMix64 (Steele, Lea & Flood 2014).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def key(*parts: object) -> np.uint64:
    """A 64-bit key for a tuple of plain values (stable across processes and machines)."""
    return np.uint64(int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little"))


class Draws:
    """Random choices for `n` requests, each a pure function of (seed, index, attempt, name, position)."""

    def __init__(self, seed: int, index: np.ndarray, attempt: int = 0) -> None:
        start = key("draws", int(seed), int(attempt))
        self._state = _mix(start + (index.astype(np.uint64) + np.uint64(1)) * _GAMMA)

    @classmethod
    def of_attempts(cls, seed: int, index: np.ndarray, attempts: range) -> Draws:
        """The draws of several attempts behind one another: (attempts × n) requests, the first attempt first."""
        part = object.__new__(cls)
        part._state = np.concatenate([cls(seed, index, attempt)._state for attempt in attempts])
        return part

    def __getitem__(self, rows: np.ndarray) -> Draws:
        part = object.__new__(Draws)
        part._state = self._state[rows]
        return part

    def __len__(self) -> int:
        return len(self._state)

    def bits(self, name: str, width: int) -> np.ndarray:
        """(n, width) uniform 32-bit integers, as uint64."""
        columns = key(name) + np.arange(1, width + 1, dtype=np.uint64) * _GAMMA
        return _mix(self._state[:, None] ^ _mix(columns)[None]) >> np.uint64(32)

    def integers(self, name: str, width: int, high: int | np.ndarray) -> np.ndarray:
        """(n, width) uniform integers in [0, high); `high` broadcasts (bias below 2**-32 * high)."""
        return ((self.bits(name, width) * np.asarray(high, dtype=np.uint64)) >> np.uint64(32)).astype(
            np.int64
        )

    def uniform(self, name: str, width: int) -> np.ndarray:
        """(n, width) uniform floats in [0, 1)."""
        return self.bits(name, width) * 2.0**-32

    def permutation(self, name: str, width: int) -> np.ndarray:
        """(n, width) uniform permutations of 0 … width-1 (ties of 32-bit keys are negligible)."""
        return np.argsort(self.bits(name, width), axis=1, kind="stable")


def first_accepted(
    n: int,
    draw: Callable[[np.ndarray, range], tuple[dict[str, np.ndarray], np.ndarray]],
    *,
    attempts: int,
    at_once: int,
) -> tuple[dict[str, np.ndarray], int]:
    """Columns of `n` requests, each of the first of its attempts that is accepted, and how many have none.

    draw: rows and a range of attempts → columns, and whether each is accepted; attempts × rows, the first attempt
    first. at_once: attempts of a draw; what is found does not depend on it.
    """
    columns: dict[str, np.ndarray] = {}
    missing = np.arange(n)
    for first in range(0, attempts, at_once):
        drawn, ok = draw(missing, range(first, first + at_once))
        ok = ok.reshape(at_once, len(missing))
        found = ok.any(axis=0)
        rows = (ok.argmax(axis=0) * len(missing) + np.arange(len(missing)))[found]
        for name, column in drawn.items():
            columns.setdefault(name, np.zeros((n, *column.shape[1:]), column.dtype))[missing[found]] = column[
                rows
            ]
        missing = missing[~found]
        if not len(missing):
            break
    return columns, len(missing)


def text_hash(*columns: np.ndarray) -> np.ndarray:
    """(n,) stable 64-bit hash of integer rows: equal rows have equal hashes in every process."""
    rows = np.concatenate([c.reshape(len(c), -1) for c in columns], axis=1).astype(np.uint64)
    weights = _mix(np.arange(1, rows.shape[1] + 1, dtype=np.uint64) * _GAMMA)
    return _mix((_mix(rows + _GAMMA) * (weights | np.uint64(1))).sum(axis=1, dtype=np.uint64))
