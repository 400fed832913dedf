"""Fixtures of the tests of synthetic worlds: three worlds, and distances of counts from chance.

There is no `__init__.py` here on purpose: it would make this folder shadow the package `synthetic`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import synthetic


def _wilson_hilferty(statistic: float, df: int) -> float:
    """A chi-square statistic as standard normal deviate (Wilson & Hilferty 1931)."""
    return float(((statistic / df) ** (1 / 3) - (1 - 2 / (9 * df))) / np.sqrt(2 / (9 * df)))


@pytest.fixture(scope="session")
def goodness_z() -> Callable[[np.ndarray, np.ndarray], float]:
    """(observed counts, expected counts) → standard errors from a perfect fit; negative is too good."""

    def z(observed: np.ndarray, expected: np.ndarray) -> float:
        assert np.isclose(observed.sum(), expected.sum())
        assert expected.min() >= 5
        return _wilson_hilferty(((observed - expected) ** 2 / expected).sum(), len(observed) - 1)

    return z


@pytest.fixture(scope="session")
def independence_z() -> Callable[[np.ndarray], float]:
    """Contingency table → standard errors from independence of rows and columns; rare columns are pooled."""

    def z(table: np.ndarray) -> float:
        share = table.sum(axis=1, keepdims=True) / table.sum()
        rare = (share * table.sum(axis=0)).min(axis=0) < 5
        pooled = np.concatenate([table[:, ~rare], table[:, rare].sum(axis=1, keepdims=True)], axis=1)
        pooled = pooled[:, (share * pooled.sum(axis=0)).min(axis=0) >= 5]
        expected = pooled.sum(axis=1, keepdims=True) * pooled.sum(axis=0) / pooled.sum()
        df = (pooled.shape[0] - 1) * (pooled.shape[1] - 1)
        return _wilson_hilferty(((pooled - expected) ** 2 / expected).sum(), df)

    return z


@pytest.fixture(scope="session", params=["mini", "hidden", "jain2024"])
def world(request: pytest.FixtureRequest) -> synthetic.CompositionWorld:
    return synthetic.load(request.param)


@pytest.fixture(scope="session")
def jain() -> synthetic.CompositionWorld:
    return synthetic.load("jain2024")


@pytest.fixture(scope="session")
def hidden() -> synthetic.CompositionWorld:
    return synthetic.load("hidden")


@pytest.fixture(scope="session")
def mini() -> synthetic.CompositionWorld:
    return synthetic.load("mini")
