"""Claims about activations: clusters of safe and unsafe requests (C2) and null shares (M1)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from experiments.earlier_claims import Claim
from experiments.jain2024.claim_values import Values, control_difference, mean_of_methods, values_by_claim
from experiments.recipes.composition import METHODS

PAPER = "Jain et al. 2024"


def cluster_values(clusters: pd.DataFrame) -> Values:
    """Values of C2 and its parts, except those of matched comparisons.

    Args:
        clusters: The table `clusters`: one row per seed, arm, pair of families and layer.

    Returns:
        One value per seed for each claim.
    """
    last = int(clusters["layer"].max())
    token_matched = clusters[clusters["requests"] == "token-matched"].set_index(["seed", "arm", "layer"])
    gap, normalised = token_matched["gap"], token_matched["normalised"]
    first_half = clusters["layer"] + 1 <= (last + 1) / 2
    early = clusters[first_half & (clusters["requests"] == "standard") & clusters["arm"].isin(METHODS)]
    rows = []
    for seed in sorted(clusters["seed"].unique()):
        gaps = _method_minus_base(gap.to_dict(), seed, last)
        normalised_gaps = _method_minus_base(normalised.to_dict(), seed, last)
        first_gaps = _method_minus_base(normalised.to_dict(), seed, 0)
        above_sham = {
            method: normalised[seed, method, last] - normalised[seed, f"sham_{method}", last]
            for method in METHODS
        }
        row = {
            "C2": mean_of_methods(normalised_gaps),
            "C2.sham": mean_of_methods(above_sham),
            "C2.depth": mean_of_methods(normalised_gaps) - mean_of_methods(first_gaps),
            "C2.early": 0.3 - early[early["seed"] == seed].groupby("arm")["gap"].max().mean(),
            "C2.order": order_of_methods(gaps),
            "C2.order_normalised": order_of_methods(normalised_gaps),
        }
        rows.append(row | {f"C2.{method}": value for method, value in normalised_gaps.items()})
    last_layer = normalised.xs(last, level="layer")
    return values_by_claim(rows) | {"C2.remap": control_difference(last_layer, "remap")}


def order_of_methods(values: dict[str, float]) -> float:
    """Smaller value of DPO and unlearning minus the value of SSFT; NaN where one is undefined."""
    return float(np.min([values["dpo"], values["unlearning"]]) - values["ssft"])


def _method_minus_base(values: dict, seed: int, layer: int) -> dict[str, float]:
    """Difference of each method to its base; values: by (seed, arm, layer)."""
    return {method: values[seed, method, layer] - values[seed, "base", layer] for method in METHODS}


def null_share_values(null_shares: pd.DataFrame) -> Values:
    """Values of M1 and its parts, except those of matched comparisons.

    Args:
        null_shares: The table `null_share`: one row per seed, arm, family, outcome, rule, quantity,
            matrix and layer.

    Returns:
        One value per seed for each claim.
    """
    chosen = null_shares[
        (null_shares["rule"] == "exact")
        & (null_shares["quantity"] == "pre")
        & (null_shares["outcome"] == "all")
        & (null_shares["matrix"] == "mlp.W_in")
    ]
    by_family = chosen.groupby(["seed", "arm", "family"])["share"].mean()
    shares = by_family.to_dict()
    rows = []
    for seed in sorted(null_shares["seed"].unique()):
        raw, above_sham, matched = {}, {}, {}
        for method in METHODS:
            sham = f"sham_{method}"
            raw[method] = shares[seed, method, "unsafe"] - shares[seed, method, "safe"]
            sham_difference = shares[seed, sham, "sham_unsafe"] - shares[seed, sham, "sham_safe"]
            above_sham[method] = raw[method] - sham_difference
            matched[method] = shares[seed, method, "context_unsafe"] - shares[seed, method, "context_safe"]
        smaller = {method: float(np.min([raw[method], above_sham[method]])) for method in METHODS}
        row = {
            "M1": mean_of_methods(smaller),
            "M1.raw": mean_of_methods(raw),
            "M1.sham": mean_of_methods(above_sham),
            "M1.matched": mean_of_methods(matched),
        }
        rows.append(row | {f"M1.{method}": value for method, value in smaller.items()})
    unsafe, safe = (by_family.xs(family, level="family") for family in ("unsafe", "safe"))
    return values_by_claim(rows) | {"M1.remap": control_difference(unsafe - safe, "remap")}


CLUSTER_CLAIMS = [
    Claim(
        "C2", "claim", PAPER,
        "Safety fine-tuning separates unsafe from safe activations",
        "normalised gap of τ, last layer, aligned - base, mean of methods",
        "distance of means", 0.2, equivalence=0.1,
    ),
    Claim(
        "C2.ssft", "claim", PAPER,
        "SSFT separates unsafe from safe activations",
        "normalised gap of τ, last layer, ssft - base",
        "distance of means", 0.2, equivalence=0.1,
    ),
    Claim(
        "C2.dpo", "claim", PAPER,
        "DPO + NLL separates unsafe from safe activations",
        "normalised gap of τ, last layer, dpo - base",
        "distance of means", 0.2, equivalence=0.1,
    ),
    Claim(
        "C2.unlearning", "claim", PAPER,
        "Unlearning separates unsafe from safe activations",
        "normalised gap of τ, last layer, unlearning - base",
        "distance of means", 0.2, equivalence=0.1,
    ),
    Claim(
        "C2.sham", "claim", "ours",
        "The separation exceeds that of sham controls",
        "normalised gap of τ, last layer, aligned - sham, mean of methods",
        "distance of means", 0.2, equivalence=0.1,
    ),
    Claim(
        "C2.remap", "claim", "ours",
        "The separation exceeds that of the remap control",
        "normalised gap of τ, last layer, ssft - remap",
        "distance of means", 0.2, equivalence=0.1,
    ),
    Claim(
        "C2.depth", "claim", PAPER,
        "The separation grows with depth",
        "normalised gap of τ, aligned - base, last layer - first layer, mean of methods",
        "distance of means", 0.0, equivalence=0.1,
    ),
    Claim(
        "C2.early", "claim", PAPER,
        "Separation is small in the first half of the layers",
        "0.3 - largest gap of τ, first half of the layers, standard requests, mean of methods",
        "activation", 0.0,
    ),
    Claim(
        "C2.order", "claim", PAPER,
        "DPO + NLL and unlearning separate more than SSFT",
        "gap of τ, last layer, aligned - base: smaller one of dpo and unlearning, minus ssft",
        "activation", 0.0,
    ),
    Claim(
        "C2.order_normalised", "claim", "ours",
        "DPO + NLL and unlearning separate more than SSFT, in units of the distance of the class means",
        "normalised gap of τ, last layer, aligned - base: smaller one of dpo and unlearning, minus ssft",
        "distance of means", 0.0, equivalence=0.1,
    ),
    Claim(
        "C2.order_margin", "claim", "ours",
        "DPO + NLL and unlearning separate more than SSFT at equal refusal margin",
        "normalised gap of τ, last layer, at equal margin: smaller one of dpo and unlearning, minus ssft",
        "distance of means", 0.0, equivalence=0.1,
    ),
    Claim(
        "C2.order_kl", "claim", "ours",
        "DPO + NLL and unlearning separate more than SSFT at equal KL to the base on safe requests "
        "(withdrawn: erratum W4)",
        "normalised gap of τ, last layer, where that KL is first reached: smaller one of dpo and "
        "unlearning, minus ssft",
        "distance of means", 0.0, equivalence=0.1,
    ),
]  # fmt: skip
"""Claims C2, in the order of claims.json."""
NULL_SHARE_CLAIMS = [
    Claim(
        "M1", "claim", "ours",
        "Alignment raises the null share of unsafe requests above that of safe ones, more than sham "
        "controls do (erratum audit-M1)",
        "smaller one of M1.raw and M1.sham, mean of methods",
        "share of energy", 0.0, equivalence=0.01,
    ),
    Claim(
        "M1.raw", "claim", "ours",
        "Null share of pre-activations: unsafe minus safe",
        "difference of shares in the left null space, mean of layers and methods, exact rank",
        "share of energy", 0.0, equivalence=0.01,
    ),
    Claim(
        "M1.sham", "claim", "ours",
        "M1.raw exceeds the sham controls' (sham_unsafe minus sham_safe; erratum audit-M1)",
        "difference of differences, method - sham",
        "share of energy", 0.0, equivalence=0.01,
    ),
    Claim(
        "M1.remap", "claim", "ours",
        "M1.raw exceeds the remap control's",
        "difference of differences, ssft - remap",
        "share of energy", 0.0, equivalence=0.01,
    ),
    Claim(
        "M1.ssft", "claim", "ours",
        "M1 for SSFT",
        "smaller one of M1.raw and M1.sham, ssft",
        "share of energy", 0.0, equivalence=0.01,
    ),
    Claim(
        "M1.dpo", "claim", "ours",
        "M1 for DPO + NLL",
        "smaller one of M1.raw and M1.sham, dpo",
        "share of energy", 0.0, equivalence=0.01,
    ),
    Claim(
        "M1.unlearning", "claim", "ours",
        "M1 for unlearning",
        "smaller one of M1.raw and M1.sham, unlearning",
        "share of energy", 0.0, equivalence=0.01,
    ),
    Claim(
        "M1.matched", "claim", "ours",
        "M1.raw on token-matched requests",
        "difference of shares, context tasks, mean of layers and methods",
        "share of energy", 0.0, equivalence=0.01,
    ),
    Claim(
        "M1.margin", "claim", "ours",
        "M1.raw at equal refusal margin of the methods",
        "difference of shares, mean of layers and methods, at equal margin",
        "share of energy", 0.0, equivalence=0.01,
    ),
]  # fmt: skip
"""Claims M1, in the order of claims.json."""
