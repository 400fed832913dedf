"""One number per seed for each claim about where safety lives: parts, directions, subspaces to learn it in."""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from experiments.jain2024.presets import METHODS
from experiments.jain2024.values import Values, by_claim, mean

_SPACES = ["left null", "random as left null", "column", "random as column"]
_SHIFTS = ("shuffled", "other_label", "covariance", "random")


def of_places(tables: Mapping[str, pd.DataFrame]) -> Values:
    """Values of M6 to M10 from the tables of `measure`: `Where`, `Apart` and `Confined`."""
    seeds = sorted(tables["ranks"].seed.unique())
    found: Values = {}
    for name, part in {"ranks": _ranks, "parts": _parts, "labels": _labels, "shifts": _shifts}.items():
        found |= by_claim([part(tables[name][tables[name].seed == seed]) for seed in seeds])
    return found | _confined(tables.get("confined"))


def _ranks(table: pd.DataFrame) -> dict[str, float]:
    """A run without a row for one direction refused fewer than half before any was ablated: that row counts."""
    ranks = table[table.directions <= 1].sort_values("directions").groupby("arm").tail(1).set_index("arm")
    return {
        "M6": mean({m: 0.5 - ranks.refused[m] for m in METHODS}),
        "M6.random": mean({m: ranks.random_refused[m] - ranks.refused[m] for m in METHODS}),
    }


def _parts(table: pd.DataFrame) -> dict[str, float]:
    of_input = table.part.str.endswith("mlp_in")
    carried = table[of_input].groupby("arm").shapley.sum()
    return {"M7": mean({m: carried[m] - of_input.sum() / len(table) for m in METHODS})}


def _labels(table: pd.DataFrame) -> dict[str, float]:
    """Unsafe at the end of the text, refused at the end of the request; after the first half of the layers."""
    half = (table.layer.max() + 1) // 2 - 1
    at = table[table.layer == max(half, 0)].set_index("arm")
    unsafe = {name: at[(at.network == name) & (at.position == "text")] for name in ("aligned", "base")}
    refused = at[(at.network == "aligned") & (at.position == "eot")]
    return {
        "M8": mean(
            {
                m: unsafe["aligned"].unsafe_auroc[m] - unsafe["aligned"].shuffled_unsafe_high[m]
                for m in METHODS
            }
        ),
        "M8.base": mean(
            {m: unsafe["aligned"].unsafe_auroc[m] - unsafe["base"].unsafe_auroc[m] for m in METHODS}
        ),
        "M8.refused": mean({m: refused.refused_auroc[m] - refused.shuffled_refused_high[m] for m in METHODS}),
        "M8.cosine": mean({m: 0.5 - abs(refused.cosine[m]) for m in METHODS}),
    }


def _shifts(table: pd.DataFrame) -> dict[str, float]:
    """What a shift does to the margin, in shares of the margin that there is on unsafe requests."""
    at = table.assign(
        off=(table.unsafe_before - table.unsafe_margin) / table.unsafe_before,
        on=(table.safe_margin - table.safe_before) / table.unsafe_before,
    ).set_index(["arm", "kind"])

    def beyond_controls(m: str, column: str) -> float:
        return at[column][m, "difference"] - max(at[column][m, kind] for kind in _SHIFTS)

    return {
        "M9": mean({m: beyond_controls(m, "off") for m in METHODS}),
        "M9.induce": mean({m: beyond_controls(m, "on") for m in METHODS}),
    }


def _confined(table: pd.DataFrame | None) -> Values:
    """Of SSFT. A base whose matrices have full row rank has no null space: undefined."""
    if table is None:
        return {"M10": [], "M10.column": []}
    loss = table.set_index(["seed", "space"]).loss.unstack().reindex(columns=_SPACES)
    rows = [
        {
            "M10": row["random as left null"] - row["left null"],
            "M10.column": row["random as column"] - row["column"],
        }
        for _, row in loss.iterrows()
    ]
    return by_claim(rows)
