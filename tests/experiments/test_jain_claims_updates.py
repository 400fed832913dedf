"""Claims about updates and localisation: each value is the one that the statement names, on planted
tables."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pandas as pd
import pytest

from experiments.jain2024 import STUDY
from experiments.jain2024.mechanisms import mechanism_means
from experiments.recipes.composition import METHODS
from makebreak.claims import ClaimRow, evaluate_claims

CONTROLS = ["remap", "ssft_without_null", "new_operator", "continued", "ssft_no_decay"]
ARMS = [*METHODS, *(f"sham_{m}" for m in METHODS), *CONTROLS]
FAMILIES = ["safe", "unsafe", "context_safe", "context_unsafe", "sham_safe", "sham_unsafe"]


def rows(columns: dict[str, float], **keys: list[object]) -> pd.DataFrame:
    return pd.DataFrame([dict(zip(keys, v, strict=True)) | columns for v in product(*keys.values())])


def tables(seeds: list[object]) -> dict[str, pd.DataFrame]:
    """All arms alike, so that every difference is 0 and every ratio 1."""
    common = {"seed": seeds, "arm": ARMS}
    of_w_in = common | {"matrix": ["mlp.W_in"]}
    references = ["update", "haar", "permuted", "other_seed"]
    cuts = {"lower_share": 0.3, "upper_share": 0.2, "random_share": 0.05, "n_layers": 4}
    return {
        "updates": rows(
            {"sine": 0.9, "null": 0.75, "chance": 0.75},
            **common,
            layer=[0, 1],
            matrix=["mlp.W_in", "x"],
            against=references,
        ),
        "energy": rows(
            {"energy": 0.25}, **of_w_in, layer=[0, 1], family=["safe", "unsafe"], chance=[0.25, 0.5]
        ),
        "weighted_energy": rows(
            {"energy": 0.25, "chance": 0.25},
            **of_w_in,
            layer=[0, 1],
            family=["safe", "unsafe"],
            base_share=[0.5, 0.9],
        ),
        "update_projection": rows(
            {"share_of_margin": 0.6},
            **common,
            matrices=["mlp.W_in", "all"],
            rule=["exact", "energy90"],
            space=["left null", "random as left null", "column", "random as column"],
        ),
        "null_share": rows(
            {"share": 0.02},
            **of_w_in,
            layer=[0, 1],
            family=FAMILIES,
            rule=["exact"],
            quantity=["pre", "delta"],
            outcome=["all"],
        ),
        "mechanisms": rows({"share": 0.25}, **common, mechanism=["rewrite", "route", "silence", "erase"]),
        "extrapolation": rows(
            {"refuse": 0.5, "comply": 0.9},
            seed=seeds,
            arm=["ssft_small", "ssft_weak"],
            alpha=[1.0, 1.5],
            family=["safe", "unsafe"],
        ),
        "read_gain": rows(
            {name: 0.4 for name in ("gain", "gain_1", "gain_2", "gain_8")},
            **of_w_in,
            layer=[0, 1],
            family=FAMILIES,
        ),
        "sensitivity": rows({"ratio_median": 1.0}, **common, family=FAMILIES, output=["max_logit", "log_p"]),
        "stitching": rows(cuts, **common, layer=[0, 1, 2, 3, 4]),
        "preactivations": rows({"input_share": 0.5}, **of_w_in, layer=[0, 1], family=FAMILIES),
        "refusal_rank": rows(
            {"difference_refusal_rate": 0.5, "random_refusal_rate": 0.5}, **common, n_directions=[0, 1, 2]
        ),
        "localisation": rows(
            {"shapley": 0.25},
            **common,
            part=["embed", "blocks.0.attn", "blocks.0.mlp_in", "blocks.0.mlp_out"],
        ),
        "probes": rows(
            {
                **{"harm_auroc": 0.6, "shuffled_harm_p95": 0.6, "cosine": 0.5},
                **{"refusal_auroc": 0.7, "shuffled_refusal_p95": 0.7},
            },
            **common,
            network=["aligned", "base"],
            position=["text", "eot"],
            layer=[0, 1, 2],
        ),
        "matched_steering": rows(
            {"unsafe_baseline": 4.0, "unsafe_margin": 3.0, "safe_baseline": -8.0, "safe_margin": -6.0},
            **common,
            kind=["difference", "shuffled", "other_label", "covariance", "random"],
        ),
        "constrained": rows(
            {"loss": 0.5},
            seed=seeds,
            arm=["ssft"],
            space=["left null", "random as left null", "column", "random as column", "all"],
        ),
    }


def values_of(planted: dict[str, pd.DataFrame]) -> dict[str, ClaimRow]:
    return {row.id: row for row in evaluate_claims(STUDY.claims, planted)}


@cache
def baseline() -> dict[str, ClaimRow]:
    """Claims on the tables in which nothing is planted."""
    return values_of(tables([0, 1]))


def plant(table: pd.DataFrame, column: str, value: float, **where: object) -> None:
    chosen = pd.Series(True, index=table.index)
    for name, wanted in where.items():
        chosen &= table[name].isin(wanted) if isinstance(wanted, list) else table[name] == wanted
    assert chosen.any(), where
    table.loc[chosen, column] = value


METHOD = list(METHODS)
LOG_2 = float(np.log(2))
NULL_PART = {"matrices": "mlp.W_in", "rule": "exact", "space": "left null"}
PRIMARY_IDS = ["C2", "M1", "C3", "C3.causal", "C4", "C5", "C6.base", "A2"]
SHAM = [f"sham_{m}" for m in METHODS]


@pytest.mark.parametrize(
    ("claim", "name", "column", "value", "where", "expected"),
    [
        ("C3", "updates", "sine", 0.96, {"against": "update", "matrix": "mlp.W_in", "arm": METHOD}, 0.06),
        ("C3.sham", "updates", "sine", 0.5, {"against": "update", "matrix": "mlp.W_in", "arm": SHAM}, 0.4),
        (
            "C3.remap",
            "updates",
            "sine",
            0.7,
            {"against": "update", "matrix": "mlp.W_in", "arm": "remap"},
            0.2,
        ),
        ("C3.new_operator", "updates", "sine", 0.7, {"matrix": "mlp.W_in", "arm": "new_operator"}, 0.2),
        ("C3.continued", "updates", "sine", 0.7, {"matrix": "mlp.W_in", "arm": "continued"}, 0.2),
        ("C3.other_seed", "updates", "sine", 0.8, {"against": "other_seed", "arm": METHOD}, 0.1),
        ("C3.energy", "updates", "null", 0.65, {"against": "update", "arm": METHOD}, -0.1),
        (
            "C3.weighted",
            "weighted_energy",
            "energy",
            0.05,
            {"family": "unsafe", "base_share": 0.9, "arm": METHOD},
            -0.2,
        ),
        ("C3.causal", "update_projection", "share_of_margin", 0.5, NULL_PART | {"arm": METHOD}, -0.1),
        ("C3.causal_share", "update_projection", "share_of_margin", 0.7, NULL_PART | {"arm": METHOD}, 0.7),
        ("M1", "null_share", "share", 0.04, {"family": "unsafe", "layer": 1, "arm": METHOD}, LOG_2),
        ("M1", "null_share", "share", 0.04, {"family": "unsafe", "layer": 1, "arm": "remap"}, -LOG_2),
        ("M1", "null_share", "share", 0.04, {"family": "unsafe", "layer": 0}, 0.0),
        ("M1.block_1", "null_share", "share", 0.04, {"family": "unsafe", "layer": 0, "arm": METHOD}, LOG_2),
        ("C4.direction_1", "read_gain", "gain_1", 0.8, {"family": "unsafe", "arm": METHOD}, 2.0),
        ("M4", "mechanisms", "share", 0.65, {"mechanism": "rewrite", "arm": METHOD}, 0.4),
        ("M3", "mechanisms", "share", 0.65, {"mechanism": "rewrite", "arm": METHOD}, -0.4),
        ("M4.erase_dpo", "mechanisms", "share", 0.05, {"mechanism": "erase", "arm": "dpo"}, 0.05),
        ("C8.gain", "extrapolation", "refuse", 0.8, {"alpha": 1.5, "family": "unsafe"}, 0.3),
        ("C8.cost", "extrapolation", "comply", 0.8, {"alpha": 1.5, "family": "safe"}, 0.1),
        ("C8.weak", "extrapolation", "comply", 0.97, {"alpha": 1.0, "arm": "ssft_weak"}, 0.97),
        ("C4", "read_gain", "gain", 1.0, {"family": "unsafe", "layer": 1, "arm": METHOD}, 2.5),
        ("C4", "read_gain", "gain", 9.0, {"family": "unsafe", "layer": 0}, 1.0),  # not of the deeper half
        ("C4.matched", "read_gain", "gain", 0.8, {"family": "context_unsafe", "arm": METHOD}, 2.0),
        ("C4.sham", "read_gain", "gain", 0.8, {"family": "sham_unsafe", "arm": SHAM}, -1.0),
        ("C4.remap", "read_gain", "gain", 0.8, {"family": "unsafe", "arm": "remap"}, -1.0),
        ("C5.remap", "sensitivity", "ratio_median", 0.4, {"family": "unsafe", "arm": "remap"}, 0.6),
        ("C5.unsafe", "sensitivity", "ratio_median", 0.7, {"family": "unsafe", "output": "max_logit"}, 0.7),
        ("C5.safe", "sensitivity", "ratio_median", 1.2, {"family": "safe", "output": "max_logit"}, 1.2),
        ("C5.log_p", "sensitivity", "ratio_median", 0.5, {"family": "unsafe", "output": "log_p"}, -LOG_2),
        ("C5.sham", "sensitivity", "ratio_median", 0.4, {"family": "sham_unsafe", "arm": SHAM}, 0.6),
        ("M3.random", "stitching", "random_share", 0.25, {"layer": 2}, 0.05),
        ("M3.last", "stitching", "lower_share", 0.7, {"layer": 3, "arm": METHOD}, 0.7),
        ("M4.needed", "stitching", "upper_share", 0.9, {"layer": 2, "arm": METHOD}, 0.9),
        ("M6", "refusal_rank", "difference_refusal_rate", 0.1, {"n_directions": 1, "arm": METHOD}, 0.1),
        ("M6.random", "refusal_rank", "random_refusal_rate", 0.9, {"n_directions": 1, "arm": METHOD}, 0.4),
        ("M7", "localisation", "shapley", 0.45, {"part": "blocks.0.mlp_in", "arm": METHOD}, 0.2),
        (
            "M8",
            "probes",
            "harm_auroc",
            0.9,
            {"network": "aligned", "layer": 0, "arm": METHOD},
            0.3,
        ),
        ("M8.base", "probes", "harm_auroc", 0.5, {"network": "base", "layer": 0, "arm": METHOD}, 0.1),
        (
            "M8.refused",
            "probes",
            "refusal_auroc",
            0.9,
            {"network": "aligned", "position": "eot", "arm": METHOD},
            0.2,
        ),
        (
            "M8.cosine",
            "probes",
            "cosine",
            -0.8,
            {"network": "aligned", "position": "eot", "arm": METHOD},
            -0.8,
        ),
        ("M9", "matched_steering", "unsafe_margin", 1.0, {"kind": "difference", "arm": METHOD}, 0.5),
        ("M9", "matched_steering", "unsafe_margin", 1.0, {"kind": ["difference", "covariance"]}, 0.0),
        ("M9.induce", "matched_steering", "safe_margin", -2.0, {"kind": "difference", "arm": METHOD}, 1.0),
        ("M10", "constrained", "loss", 0.4, {"space": "left null"}, 0.1),
        ("M10.column", "constrained", "loss", 0.4, {"space": "random as column"}, -0.1),
        ("M5", "preactivations", "input_share", 0.9, {"layer": 1, "family": "unsafe", "arm": METHOD}, 0.9),
    ],
)
def test_planted_difference_moves_one_claim(
    claim: str, name: str, column: str, value: float, where: dict[str, object], expected: float
) -> None:
    planted = tables([0, 1])
    plant(planted[name], column, value, **where)
    after, before = values_of(planted), baseline()
    assert after[claim].estimate == pytest.approx(expected), claim
    tables_of_family = {"updates": "C3", "read_gain": "C4", "sensitivity": "C5", "refusal_rank": "M6"}
    tables_of_family |= {"localisation": "M7", "probes": "M8", "matched_steering": "M9", "constrained": "M10"}
    family = tables_of_family.get(name, claim.split(".")[0])
    for other, row in after.items():
        if other.split(".")[0] != family and name not in ("mechanisms", "stitching"):
            assert row.estimate == before[other].estimate, other


def test_missing_arms_leave_no_values() -> None:
    without = {name: table[~table.arm.isin(CONTROLS)] for name, table in tables([0, 1]).items()}
    claims = values_of(without)
    assert {claims[name].verdict for name in ("C3.remap", "M3.null", "M1")} == {"not run"}
    assert claims["C3"].n_seeds == 2


def test_mechanisms_are_averaged_over_seeds() -> None:
    """A mechanism that does not occur in a seed counts as 0 there; one share in all seeds has no interval."""
    shares = pd.DataFrame(
        [
            *({"seed": seed, "arm": "ssft", "mechanism": "rewrite", "share": 0.9} for seed in (0, 1)),
            {"seed": 2, "arm": "ssft", "mechanism": "rewrite", "share": 0.6},
            {"seed": 2, "arm": "ssft", "mechanism": "route", "share": 0.4},
            *({"seed": seed, "arm": "dpo", "mechanism": "route", "share": 1.0} for seed in (0, 1, 2)),
        ]
    )
    means = mechanism_means(shares).set_index(["arm", "mechanism"])
    rewrite, route = means.loc[("ssft", "rewrite")], means.loc[("ssft", "route")]
    assert (rewrite.share, route.share) == (pytest.approx(0.8), pytest.approx(0.4 / 3))
    assert (rewrite.n_seeds, rewrite.n_named, route.n_named) == (3, 2, 0)
    assert np.isnan(means.loc[("dpo", "route")].low)


def test_claim_ids_are_unique() -> None:
    ids = [claim.id for claim in STUDY.claims]
    assert len(set(ids)) == len(ids)
    assert [claim.id for claim in STUDY.claims if claim.role == "primary"] == PRIMARY_IDS
