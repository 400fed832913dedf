"""Claims M6 to M10: directions, components, probes, steering and constrained fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from experiments.earlier_claims import Claim
from experiments.jain2024.claim_values import Values, mean_of_methods, values_by_claim
from experiments.recipes.composition import METHODS

_SPACES = ["left null", "random as left null", "column", "random as column"]
_STEERING_CONTROLS = ("shuffled", "other_label", "covariance", "random")


def localisation_values(tables: Mapping[str, pd.DataFrame]) -> Values:
    """Values of M6 to M10.

    Args:
        tables: Tables of `LocalisationMeasure`, `ProbeMeasure` and `ConstrainedMeasure`; `constrained` may be
            missing.

    Returns:
        One value per seed for each claim; an empty list where the arm was not run.
    """
    parts = {
        "refusal_rank": _rank_values,
        "localisation": _part_values,
        "probes": _probe_values,
        "matched_steering": _steering_values,
    }
    values: Values = {}
    for name, values_of_seed in parts.items():
        table = tables[name]
        rows = [
            values_of_seed(table[table["seed"] == seed])
            for seed in sorted(tables["refusal_rank"]["seed"].unique())
        ]
        values |= values_by_claim(rows)
    return values | _constrained_values(tables.get("constrained"))


def _rank_values(ranks: pd.DataFrame) -> dict[str, float]:
    """M6 for one seed, from the rows of at most one ablated difference of means.

    A run without a row for one direction refused fewer than half before any was ablated: that row counts.
    """
    few_first = ranks[ranks["n_directions"] <= 1].sort_values("n_directions")
    defined = few_first[few_first["difference_refusal_rate"].notna()]
    final = defined.groupby("arm").tail(1).set_index("arm")
    refusal = final["difference_refusal_rate"].to_dict()
    random_refusal = final["random_refusal_rate"].to_dict()
    return {
        "M6": mean_of_methods({m: 0.5 - refusal[m] for m in METHODS}),
        "M6.random": mean_of_methods({m: random_refusal[m] - refusal[m] for m in METHODS}),
    }


def _part_values(parts: pd.DataFrame) -> dict[str, float]:
    mlp_in = parts["part"].str.endswith("mlp_in")
    share = parts[mlp_in].groupby("arm")["shapley"].sum().to_dict()
    return {"M7": mean_of_methods({m: share[m] - mlp_in.sum() / len(parts) for m in METHODS})}


def _probe_values(probes: pd.DataFrame) -> dict[str, float]:
    """M8 for one seed, after block n // 2: unsafe at the end of the text, refused at that of the request."""
    middle = max((int(probes["layer"].max()) + 1) // 2 - 1, 0)
    by_position = probes[probes["layer"] == middle].set_index(["network", "position", "arm"]).to_dict("index")
    aligned = {m: by_position["aligned", "text", m] for m in METHODS}
    base = {m: by_position["base", "text", m] for m in METHODS}
    refusal = {m: by_position["aligned", "eot", m] for m in METHODS}
    unsafe_auroc = {m: aligned[m]["harm_auroc"] for m in METHODS}
    refused_auroc = {m: refusal[m]["refusal_auroc"] for m in METHODS}
    return {
        "M8": mean_of_methods({m: unsafe_auroc[m] - aligned[m]["shuffled_harm_p95"] for m in METHODS}),
        "M8.base": mean_of_methods({m: unsafe_auroc[m] - base[m]["harm_auroc"] for m in METHODS}),
        "M8.refused": mean_of_methods(
            {m: refused_auroc[m] - refusal[m]["shuffled_refusal_p95"] for m in METHODS}
        ),
        "M8.cosine": mean_of_methods({m: 0.5 - abs(refusal[m]["cosine"]) for m in METHODS}),
    }


def _steering_values(shifts: pd.DataFrame) -> dict[str, float]:
    """M9 for one seed: effects of a shift on the margin, as shares of the margin on unsafe requests."""
    removal = (shifts["unsafe_baseline"] - shifts["unsafe_margin"]) / shifts["unsafe_baseline"]
    induction = (shifts["safe_margin"] - shifts["safe_baseline"]) / shifts["unsafe_baseline"]
    effects = shifts.assign(removal=removal, induction=induction).set_index(["arm", "kind"])

    def above_controls(column: str) -> float:
        effect = effects[column].to_dict()
        return mean_of_methods(
            {
                m: effect[m, "difference"] - max(effect[m, kind] for kind in _STEERING_CONTROLS)
                for m in METHODS
            }
        )

    return {"M9": above_controls("removal"), "M9.induce": above_controls("induction")}


def _constrained_values(table: pd.DataFrame | None) -> Values:
    """M10 for SSFT; undefined for a base whose matrices have full row rank, and so no left null space."""
    if table is None:
        return {"M10": [], "M10.column": []}
    loss = table.set_index(["seed", "space"])["loss"].unstack().reindex(columns=_SPACES)
    rows = [
        {
            "M10": row["random as left null"] - row["left null"],
            "M10.column": row["random as column"] - row["column"],
        }
        for row in loss.to_dict("records")
    ]
    return values_by_claim(rows)


LOCALISATION_CLAIMS = [
    Claim(
        "M6", "claim", "Arditi et al. 2024",
        "One direction: ablating the difference of means leaves fewer than half of the unsafe requests "
        "refused",
        "1/2 - refusal rate on unsafe requests, difference of means ablated, mean of methods",
        "rate", 0.0,
    ),
    Claim(
        "M6.random", "claim", "ours",
        "Ablating the difference of means lowers refusal more than ablating a random direction",
        "refusal rate, random direction ablated - difference of means ablated, mean of methods",
        "rate", 0.0, equivalence=0.05,
    ),
    Claim(
        "M7", "claim", "ours",
        "MLP input matrices, which the paper looks at, carry more than their share of parts",
        "Shapley share of the margin of mlp_in, all layers, - their share of the parts, mean of methods",
        "share of margin", 0.0, equivalence=0.05,
    ),
    Claim(
        "M8", "claim", "Zhao et al. 2025",
        "Unsafe is represented where nothing is refused",
        "AUROC of unsafe among requests that are not refused, end of the text, after block n // 2 of n, - "
        "95th percentile of shuffled labels, mean of methods",
        "AUROC", 0.0,
    ),
    Claim(
        "M8.base", "claim", "ours",
        "Unsafe is represented better than in the base, on the same requests and labels",
        "AUROC of M8 - the base's, mean of methods",
        "AUROC", 0.0, equivalence=0.05,
    ),
    Claim(
        "M8.refused", "claim", "Zhao et al. 2025",
        "Refused is represented where all requests are unsafe",
        "AUROC of refused among unsafe requests, end of the request, after block n // 2 of n, - 95th "
        "percentile of shuffled labels, mean of methods",
        "AUROC", 0.0,
    ),
    Claim(
        "M8.cosine", "claim", "ours",
        "The directions of unsafe and of refused differ",
        "1/2 - |cosine|, end of the request, after block n // 2 of n, mean of methods",
        "cosine", 0.0,
    ),
    Claim(
        "M9", "claim", "ours",
        "Subtracting the difference of means from unsafe requests lowers the margin more than shifts that "
        "disturb safe ones equally",
        "share of the margin lost, difference of means - largest of shuffled, other label, covariance, "
        "random, after block n // 2 of n, mean of methods",
        "share of margin", 0.0, equivalence=0.1,
    ),
    Claim(
        "M9.induce", "claim", "ours",
        "Adding the difference of means to safe requests raises the margin more than shifts that disturb "
        "them equally",
        "share of the unsafe margin gained, difference of means - largest of the same four, after block n "
        "// 2 of n, mean of methods",
        "share of margin", 0.0, equivalence=0.1,
    ),
    Claim(
        "M10", "claim", "ours",
        "Safety is learnt more easily inside the left null space than in a random space of the same "
        "dimension",
        "loss at equal steps, random - left null space, SSFT of the MLP input matrices alone",
        "nats per token", 0.0, equivalence=0.02,
    ),
    Claim(
        "M10.column", "claim", "ours",
        "Safety is learnt more easily inside the column space than in a random space of the same dimension",
        "loss at equal steps, random - column space, SSFT of the MLP input matrices alone",
        "nats per token", 0.0, equivalence=0.02,
    ),
]  # fmt: skip
"""Claims M6 to M10, in the order of claims.json."""
