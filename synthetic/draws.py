"""Counter-based random draws: request i of a seed is the same in whatever batch it is made.

Every random choice is a hash of (seed, request index, name of the choice, position). Nothing is drawn in
sequence, so that requests can be made in any order, number or batch, and a repeated draw changes one request
only. The hash is the finaliser of SplitMix64 (Steele, Lea & Flood 2014).
"""

from __future__ import annotations

import hashlib

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
    """Finaliser of SplitMix64, a bijection of 64-bit integers."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hash_key(*parts: object) -> np.uint64:
    """A 64-bit key for a tuple of plain values, the same in every process and on every machine."""
    return np.uint64(int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little"))


class Draws:
    """Random choices for `n` requests, each a pure function of (seed, index, attempt, name, position).

    Args:
        seed: Seed of the requests.
        index: Index of each request within the seed, (n,).
        attempt: Number of earlier draws that were not accepted.
    """

    def __init__(self, seed: int, index: np.ndarray, attempt: int = 0) -> None:
        start = hash_key("draws", int(seed), int(attempt))
        self._state = _mix(start + (index.astype(np.uint64) + np.uint64(1)) * _GAMMA)

    @classmethod
    def for_attempts(cls, seed: int, index: np.ndarray, attempt_range: range) -> Draws:
        """Draws of several attempts, (attempts x n) requests, all requests of the first attempt first."""
        part = object.__new__(cls)
        part._state = np.concatenate([cls(seed, index, attempt)._state for attempt in attempt_range])
        return part

    def __getitem__(self, rows: np.ndarray) -> Draws:
        part = object.__new__(Draws)
        part._state = self._state[rows]
        return part

    def __len__(self) -> int:
        return len(self._state)

    def bits(self, name: str, width: int) -> np.ndarray:
        """Uniform 32-bit integers, (n, width), as uint64."""
        columns = hash_key(name) + np.arange(1, width + 1, dtype=np.uint64) * _GAMMA
        return _mix(self._state[:, None] ^ _mix(columns)[None]) >> np.uint64(32)

    def integers(self, name: str, width: int, high: int | np.ndarray) -> np.ndarray:
        """Uniform integers in [0, high), (n, width); `high` broadcasts; the bias is below 2**-32 * high."""
        scaled = self.bits(name, width) * np.asarray(high, dtype=np.uint64)
        return (scaled >> np.uint64(32)).astype(np.int64)

    def uniform(self, name: str, width: int) -> np.ndarray:
        """Uniform floats in [0, 1), (n, width)."""
        return self.bits(name, width) * 2.0**-32

    def permutation(self, name: str, width: int) -> np.ndarray:
        """Uniform permutations of 0 ... width - 1, (n, width); ties of 32-bit keys are negligible."""
        return np.argsort(self.bits(name, width), axis=1, kind="stable")


def hash_rows(*columns: np.ndarray) -> np.ndarray:
    """Stable 64-bit hash of integer rows, (n,): equal rows have equal hashes in every process."""
    rows = np.concatenate([c.reshape(len(c), -1) for c in columns], axis=1).astype(np.uint64)
    weights = _mix(np.arange(1, rows.shape[1] + 1, dtype=np.uint64) * _GAMMA)
    return _mix((_mix(rows + _GAMMA) * (weights | np.uint64(1))).sum(axis=1, dtype=np.uint64))
