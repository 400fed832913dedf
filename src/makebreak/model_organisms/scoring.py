"""Scores of methods on planted networks: a row per network and method, and tables of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from makebreak.model_organisms.composites import MECHANISMS
from makebreak.model_organisms.planted_networks import PlantedNetworks
from makebreak.stats import wilson_interval

UNNAMED = ("undecided", "mixed")
"""Answers that name no mechanism."""
_WITH_DEPTH = ("silence", "route", "rewrite", "erase", "written directly")


class MethodAnswer(NamedTuple):
    """What a method says of one network; None for what it does not say."""

    mechanism: str | None = None
    """The mechanism, `mixed`, or `undecided` where refusal does not change or the method cannot tell."""
    depth: int | None = None
    """Number of blocks below which the change shows or is complete."""
    request_mechanisms: Sequence[str | None] | None = None
    """Mechanism of each unsafe request, in their order; None for a request that is left open."""
    reason: str = ""
    """Why, in words."""


Method = Callable[[PlantedNetworks], MethodAnswer]
"""A method to score; it may use everything of the networks but their truth."""


class ScoreRow(NamedTuple):
    """One planted network, and what one method says of it."""

    method: str
    """Name of the method."""
    seed: int
    """Seed of the network."""
    architecture: str
    """`gpt2` or `llama`."""
    n_layers: int
    """Number of blocks."""
    truth: str
    """Mechanism by construction; `undecided` where refusal does not change."""
    variant: str
    """What was built, one of `VARIANTS`."""
    parts: str
    """Mechanism, construction and share of the requests of each part."""
    mechanism: str | None
    """Mechanism that the method names."""
    reason: str
    """Reason of the method."""
    true_depth: int | None
    """Number of blocks below which the movement is complete, by construction; None without a movement."""
    is_spread: bool
    """Whether several blocks make the movement of a part: its depth is then not one number."""
    depth: int | None
    """Depth by the method."""
    n_planted: int
    """Unsafe requests that the tuned model refuses by a planted mechanism."""
    request_accuracy: float | None
    """Share of these whose mechanism the method names; None if it names none or there are none."""


class MethodRow(NamedTuple):
    """How often a method is right; intervals are Wilson's over networks."""

    method: str
    """Name of the method."""
    names: float | None
    """Share of all networks whose mechanism it names, or leaves open as it should; None if it names none."""
    request_accuracy: float | None
    """Mean share of single requests that it names rightly, over networks; None if it names none."""
    exact: float
    """Share of networks with the movement of one block (not redundant, not mixed) whose depth it gives
    exactly."""
    exact_low: float
    """Lower end of the interval of `exact`."""
    exact_high: float
    """Upper end."""
    within_one: float
    """Share of these networks whose depth it gives within one block."""
    silent: float
    """Share of networks without a change of refusal for which it gives no depth."""


def score(networks: PlantedNetworks, name: str, method: Method) -> ScoreRow:
    """Applies a method to one network and compares its answer with the truth.

    Args:
        networks: The network and its truth.
        name: Name of the method.
        method: The method.

    Returns:
        The row.

    Raises:
        ValueError: If the method names another number of requests than there are.
    """
    answer, p = method(networks), networks.parameters
    truth = np.array(networks.request_mechanisms)
    is_planted = truth != "none"
    accuracy = None
    if answer.request_mechanisms is not None:
        if len(answer.request_mechanisms) != len(truth):
            raise ValueError(
                f"{len(answer.request_mechanisms)} request mechanisms of method {name!r}: expected "
                f"{len(truth)}, one per unsafe request; give None for those left open"
            )
        is_right = np.array([a == b for a, b in zip(answer.request_mechanisms, truth, strict=True)])
        accuracy = float(is_right[is_planted].mean()) if is_planted.any() else None
    parts = zip(p.parts, p.shares, strict=True)
    return ScoreRow(
        method=name,
        seed=networks.seed,
        architecture=p.architecture,
        n_layers=p.n_layers,
        truth="undecided" if networks.mechanism == "none" else networks.mechanism,
        variant=p.variant,
        parts=" + ".join(f"{part.mechanism}: {part.variant} {share:.2f}" for part, share in parts),
        mechanism=answer.mechanism,
        reason=answer.reason,
        true_depth=networks.depth,
        is_spread=any(len({change.block for change in part.lower}) > 1 for part in p.parts),
        depth=answer.depth,
        n_planted=int(is_planted.sum()),
        request_accuracy=accuracy,
    )


def confusion(rows: pd.DataFrame) -> pd.DataFrame:
    """Number of networks by truth and by what one method names, from its rows of `score`."""
    words = ["undecided" if name == "none" else name for name in MECHANISMS]
    table = pd.crosstab(rows.truth, rows.mechanism)
    columns = [*words, *sorted(set(table.columns) - set(words))]
    return table.reindex(index=words, columns=columns, fill_value=0)


def is_right(rows: pd.DataFrame) -> pd.Series:
    """Whether each answer is the truth."""
    return rows.mechanism == rows.truth


def is_wrong(rows: pd.DataFrame) -> pd.Series:
    """Whether each answer names a mechanism that is not the truth; abstentions are not wrong."""
    return ~is_right(rows) & ~rows.mechanism.isin(UNNAMED)


def summarise(rows: pd.DataFrame) -> str:
    """Says how many answers of one method are right, how many name a wrong mechanism, and of requests."""
    parts = [
        f"{label}: {int(flag.sum())} of {len(flag)}, {flag.mean():.3f} [{low:.3f}, {high:.3f}]"
        for label, flag in (("right", is_right(rows)), ("a wrong mechanism named", is_wrong(rows)))
        for low, high in [wilson_interval(int(flag.sum()), len(flag))]
    ]
    single = rows[rows.request_accuracy.notna()]
    if len(single):
        pooled = np.average(single.request_accuracy.astype(float), weights=single.n_planted)
        parts.append(f"single requests named rightly: {pooled:.3f} of {int(single.n_planted.sum())}")
    return "; ".join(parts)


def method_rows(rows: pd.DataFrame) -> list[MethodRow]:
    """Scores every method.

    Args:
        rows: Rows of `score`, of any number of methods.

    Returns:
        One row per method, in the order of their first rows.
    """
    return [_method_row(str(name), group) for name, group in rows.groupby("method", sort=False)]


def _method_row(name: str, rows: pd.DataFrame) -> MethodRow:
    unchanged = rows[rows.truth == "undecided"]
    with_movement = rows[rows.truth.isin(_WITH_DEPTH) & ~rows.is_spread]
    error = (with_movement.depth.astype(float) - with_movement.true_depth.astype(float)).abs()
    exact = error == 0  # a missing depth is not exact
    low, high = wilson_interval(int(exact.sum()), len(exact)) if len(exact) else (np.nan, np.nan)
    accuracy = rows.request_accuracy.astype(float)
    return MethodRow(
        method=name,
        names=float(is_right(rows).mean()) if rows.mechanism.notna().any() else None,
        request_accuracy=float(accuracy.mean()) if accuracy.notna().any() else None,
        exact=float(exact.mean()),
        exact_low=low,
        exact_high=high,
        within_one=float((error <= 1).mean()),
        silent=float(unchanged.depth.isna().mean()),
    )
