"""Cells, rows and means of matrices with names of rows and columns."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd
from scipy.stats import spearmanr


def cell(matrix: pd.DataFrame, name: str, column: str) -> float:
    """One cell of a matrix."""
    return float(cast("float", matrix.at[name, column]))


def row(matrix: pd.DataFrame, name: str, columns: list[str]) -> pd.Series:
    """Some cells of one row of a matrix."""
    return cast("pd.Series", matrix.loc[name])[columns]


def mean_of_diagonal(matrix: pd.DataFrame, names: list[str]) -> float:
    """Mean of the cells of the same row and column."""
    return float(np.mean([cell(matrix, name, name) for name in names]))


def mean_elsewhere(matrix: pd.DataFrame, names: list[str]) -> list[float]:
    """Mean over the columns of other names, for each row."""
    return [float(row(matrix, name, [n for n in names if n != name]).mean()) for name in names]


def rank_correlation(x: pd.Series, y: pd.Series) -> float | None:
    """Spearman correlation; None if either is constant."""
    return None if min(x.nunique(), y.nunique()) < 2 else float(cast("Any", spearmanr(x, y)).statistic)
