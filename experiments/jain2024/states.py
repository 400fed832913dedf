"""One number per seed for each claim about activations: clusters and null shares."""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

import numpy as np
import pandas as pd

from experiments.jain2024.presets import METHODS
from experiments.jain2024.values import Values, beyond, by_claim, mean


def clusters(table: pd.DataFrame) -> Values:
    last, methods = table.layer.max(), list(METHODS)
    first_half = table.layer + 1 <= (last + 1) / 2
    rows = []
    matched = table[table.requests == "token-matched"].set_index(["seed", "arm", "layer"])
    for seed in sorted(table.seed.unique()):
        gap, normalised = matched.gap[seed], matched.normalised[seed]
        raw = {m: gap[m, last] - gap["base", last] for m in methods}
        norm = {m: normalised[m, last] - normalised["base", last] for m in methods}
        first = {m: normalised[m, 0] - normalised["base", 0] for m in methods}
        sham = {m: normalised[m, last] - normalised[f"sham_{m}", last] for m in methods}
        early = table[
            (table.seed == seed) & first_half & (table.requests == "standard") & table.arm.isin(methods)
        ]
        row = {
            "C2": mean(norm),
            **{f"C2.{m}": norm[m] for m in methods},
            "C2.sham": mean(sham),
            "C2.depth": mean(norm) - mean(first),
            "C2.early": 0.3 - early.groupby("arm").gap.max().mean(),
            "C2.order": np.min([raw["dpo"], raw["unlearning"]]) - raw["ssft"],
            "C2.order_normalised": np.min([norm["dpo"], norm["unlearning"]]) - norm["ssft"],
        }
        rows.append(row)
    at_end = matched.normalised.xs(last, level="layer")
    return by_claim(rows) | {"C2.remap": beyond(at_end, "remap")}


def null_shares(table: pd.DataFrame) -> Values:
    chosen = table[(table.rule == "exact") & (table.quantity == "pre") & (table.outcome == "all")]
    shares = chosen.groupby(["seed", "arm", "family"])["share"].mean()
    rows = []
    for seed in sorted(table.seed.unique()):
        raw = {m: shares[seed, m, "unsafe"] - shares[seed, m, "safe"] for m in METHODS}
        sham = {
            m: shares[seed, f"sham_{m}", "sham_unsafe"] - shares[seed, f"sham_{m}", "sham_safe"]
            for m in METHODS
        }
        over = {m: raw[m] - sham[m] for m in METHODS}
        lesser = {m: np.min([raw[m], over[m]]) for m in METHODS}
        matched = {m: shares[seed, m, "context_unsafe"] - shares[seed, m, "context_safe"] for m in METHODS}
        row = {
            "M1": mean(lesser),
            "M1.raw": mean(raw),
            "M1.sham": mean(over),
            "M1.matched": mean(matched),
            **{f"M1.{m}": lesser[m] for m in METHODS},
        }
        rows.append(row)
    by_family = shares.unstack()
    return by_claim(rows) | {"M1.remap": beyond(by_family.unsafe - by_family.safe, "remap")}
