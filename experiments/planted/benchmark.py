"""Runs of the benchmark: one row per planted network, and tables of the methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from experiments.planted.methods import ablation_depth, patching_depth, probe_depth, verdict_depth
from makebreak.mechanism import mechanism_rows, mechanism_verdict, stitch
from makebreak.organisms import MECHANISMS, PlantedNetworks, plant
from makebreak.stats import wilson_interval

UNNAMED = ("undecided", "mixed")
"""Verdicts that name no mechanism."""
METHODS = ("verdict", "patching", "ablation", "probe")
"""Methods by the columns that hold their depth."""
_WITH_DEPTH = ("silence", "route", "rewrite", "erase", "written directly")


class NetworkRow(NamedTuple):
    """One planted network, and what each method says of it."""

    seed: int
    """Seed of the network."""
    architecture: str
    """`gpt2` or `llama`."""
    n_layers: int
    """Number of blocks."""
    truth: str
    """Mechanism by construction; `undecided` where refusal does not change."""
    variants: str
    """Constructions of its parts."""
    mechanism: str
    """Mechanism that the verdict names."""
    reason: str
    """Reason of the verdict."""
    depth: int | None
    """Number of blocks below which the change is complete, by construction; None without a movement."""
    verdict: int | None
    """Depth by the verdict, None without one."""
    patching: int | None
    """Depth by activation patching."""
    ablation: int | None
    """Depth by difference-in-means ablation."""
    probe: int | None
    """Depth by a linear probe."""


class MethodRow(NamedTuple):
    """How often a method is right; intervals are Wilson's over networks."""

    method: str
    """One of `METHODS`."""
    names: float | None
    """Share of all networks whose mechanism it names, or leaves open as it should; None if it names none."""
    exact: float
    """Share of networks with one movement whose depth it gives exactly."""
    exact_low: float
    """Lower end of the interval of `exact`."""
    exact_high: float
    """Upper end."""
    within_one: float
    """Share of these networks whose depth it gives within one block."""
    silent: float
    """Share of networks without a change of refusal for which it gives no depth."""


def network_row(networks: PlantedNetworks) -> NetworkRow:
    """Applies every method to one network.

    Args:
        networks: The network and its truth.

    Returns:
        The row.
    """
    base, tuned, unsafe = networks.base, networks.tuned, networks.unsafe
    stitching = stitch(base=base, tuned=tuned, requests=unsafe, seed=0)  # the Fisher measures decide nothing
    verdict = mechanism_verdict(mechanism_rows(stitching, base=base, tuned=tuned, seed=0), len(unsafe))
    parameters = networks.parameters
    return NetworkRow(
        seed=networks.seed,
        architecture=parameters.architecture,
        n_layers=parameters.n_layers,
        truth="undecided" if networks.mechanism == "none" else networks.mechanism,
        variants=" + ".join(part.variant for part in parameters.parts),
        mechanism=verdict.mechanism,
        reason=verdict.reason,
        depth=networks.depth,
        verdict=verdict_depth(verdict),
        patching=patching_depth(networks),
        ablation=ablation_depth(networks),
        probe=probe_depth(networks),
    )


def planted_row(job: tuple[int, int]) -> NetworkRow:
    """Plants one network of the benchmark and applies every method.

    Args:
        job: Its index in the order of `makebreak.organisms.draw_benchmark`, and its seed.

    Returns:
        The row.
    """
    index, seed = job
    return network_row(plant(MECHANISMS[(index // 2) % len(MECHANISMS)], seed, ("gpt2", "llama")[index % 2]))


def confusion(rows: pd.DataFrame) -> pd.DataFrame:
    """Number of networks by truth and verdict."""
    words = ["undecided" if name == "none" else name for name in MECHANISMS]
    table = pd.crosstab(rows.truth, rows.mechanism)
    columns = [*words, *sorted(set(table.columns) - set(words))]
    return table.reindex(index=words, columns=columns, fill_value=0)


def summarise(rows: pd.DataFrame) -> str:
    """Says how many verdicts are right, and how many name a wrong mechanism."""
    right, wrong = is_right(rows), is_wrong(rows)
    parts = [
        f"{label}: {int(flag.sum())} of {len(flag)}, {flag.mean():.3f} [{low:.3f}, {high:.3f}]"
        for label, flag in (("right", right), ("a wrong mechanism named", wrong))
        for low, high in [wilson_interval(int(flag.sum()), len(flag))]
    ]
    return "; ".join(parts)


def is_right(rows: pd.DataFrame) -> pd.Series:
    """Whether each verdict is the truth."""
    return rows.mechanism == rows.truth


def is_wrong(rows: pd.DataFrame) -> pd.Series:
    """Whether each verdict names a mechanism that is not the truth; abstentions are not wrong."""
    return ~is_right(rows) & ~rows.mechanism.isin(UNNAMED)


def method_rows(rows: pd.DataFrame, methods: Sequence[str] = METHODS) -> list[MethodRow]:
    """Scores every method.

    Args:
        rows: Rows of `network_row`.
        methods: The methods.

    Returns:
        One row per method.
    """
    with_movement, unchanged = rows[rows.truth.isin(_WITH_DEPTH)], rows[rows.truth == "undecided"]
    table = []
    for method in methods:
        error = (with_movement[method] - with_movement.depth).abs()
        exact = error == 0  # a missing depth is not exact
        low, high = wilson_interval(int(exact.sum()), len(exact))
        names = float(is_right(rows).mean()) if method == "verdict" else None
        silent = float(unchanged[method].isna().mean())
        table.append(
            MethodRow(method, names, float(exact.mean()), low, high, float((error <= 1).mean()), silent)
        )
    return table
