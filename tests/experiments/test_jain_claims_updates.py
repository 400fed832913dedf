"""Claims about updates and localisation: each value is the one that the statement names, on planted
tables."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from experiments.earlier_claims import Claim
from experiments.jain2024.claims import CLAIMS
from experiments.jain2024.claims_localisation import localisation_values
from experiments.jain2024.claims_updates import update_values
from experiments.jain2024.mechanisms import mechanism_means, mechanism_paragraph
from experiments.recipes.composition import METHODS

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
    cuts = {"lower_margin_share": 0.3, "upper_margin_share": 0.2, "random_margin_share": 0.05}
    cuts |= {"fisher_null_fraction": 0.6, "n_layers": 4}
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
        "read_gain": rows({"gain": 0.4}, **of_w_in, layer=[0, 1], family=FAMILIES),
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


def values_of(planted: dict[str, pd.DataFrame]) -> dict[str, list[float | None]]:
    return update_values(planted) | localisation_values(planted)


def plant(table: pd.DataFrame, column: str, value: float, **where: object) -> None:
    chosen = pd.Series(True, index=table.index)
    for name, wanted in where.items():
        chosen &= table[name].isin(wanted) if isinstance(wanted, list) else table[name] == wanted
    assert chosen.any(), where
    table.loc[chosen, column] = value


METHOD = list(METHODS)
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
        ("C3.no_decay", "updates", "sine", 0.7, {"matrix": "mlp.W_in", "arm": "ssft_no_decay"}, 0.2),
        ("C3.other_seed", "updates", "sine", 0.8, {"against": "other_seed", "arm": METHOD}, 0.1),
        ("C3.energy", "updates", "null", 0.65, {"against": "update", "arm": METHOD}, -0.1),
        ("C3.weighted", "energy", "energy", 0.05, {"family": "unsafe", "chance": 0.25, "arm": METHOD}, 0.2),
        ("C4", "read_gain", "gain", 1.0, {"family": "unsafe", "layer": 1, "arm": METHOD}, 2.5),
        ("C4", "read_gain", "gain", 9.0, {"family": "unsafe", "layer": 0}, 1.0),  # not of the deeper half
        ("C4.matched", "read_gain", "gain", 0.8, {"family": "context_unsafe", "arm": METHOD}, 2.0),
        ("C4.sham", "read_gain", "gain", 0.8, {"family": "sham_unsafe", "arm": SHAM}, -1.0),
        ("C4.remap", "read_gain", "gain", 0.8, {"family": "unsafe", "arm": "remap"}, -1.0),
        ("C5.remap", "sensitivity", "ratio_median", 0.4, {"family": "unsafe", "arm": "remap"}, -0.6),
        ("C5", "sensitivity", "ratio_median", 0.7, {"family": "unsafe", "arm": METHOD}, 0.0),
        ("C5.unsafe", "sensitivity", "ratio_median", 0.7, {"family": "unsafe", "output": "max_logit"}, 0.3),
        ("C5.safe", "sensitivity", "ratio_median", 1.2, {"family": "safe", "output": "max_logit"}, 0.2),
        ("C5.log_p", "sensitivity", "ratio_median", 0.6, {"family": "unsafe", "output": "log_p"}, 0.4),
        ("C5.sham", "sensitivity", "ratio_median", 0.4, {"family": "sham_unsafe", "arm": SHAM}, -0.6),
        ("M2", "stitching", "lower_margin_share", -0.04, {"layer": 2, "arm": METHOD}, 0.06),
        ("M2.unheard", "stitching", "fisher_null_fraction", 0.97, {"layer": 2, "arm": METHOD}, 0.07),
        ("M3", "stitching", "lower_margin_share", 0.8, {"layer": 2, "arm": METHOD}, 0.8),
        ("M3.random", "stitching", "random_margin_share", 0.25, {"layer": 2}, 0.05),
        ("M3.last", "stitching", "lower_margin_share", 0.7, {"layer": 3, "arm": METHOD}, 0.7),
        ("M3.sham", "stitching", "lower_margin_share", 0.8, {"layer": 2, "arm": SHAM}, -0.5),
        ("M3.remap", "stitching", "lower_margin_share", 0.1, {"layer": 2, "arm": "remap"}, 0.2),
        ("M3.null", "stitching", "lower_margin_share", 0.1, {"layer": 2, "arm": "ssft_without_null"}, 0.2),
        ("M4", "stitching", "lower_margin_share", 0.45, {"layer": 2, "arm": METHOD}, 0.05),
        ("M4", "stitching", "lower_margin_share", 0.02, {"layer": 2, "arm": METHOD}, -0.08),
        ("M4.needed", "stitching", "upper_margin_share", 0.9, {"layer": 2, "arm": METHOD}, -0.4),
        ("M6", "refusal_rank", "difference_refusal_rate", 0.1, {"n_directions": 1, "arm": METHOD}, 0.4),
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
            -0.3,
        ),
        ("M9", "matched_steering", "unsafe_margin", 1.0, {"kind": "difference", "arm": METHOD}, 0.5),
        ("M9", "matched_steering", "unsafe_margin", 1.0, {"kind": ["difference", "covariance"]}, 0.0),
        ("M9.induce", "matched_steering", "safe_margin", -2.0, {"kind": "difference", "arm": METHOD}, 1.0),
        ("M10", "constrained", "loss", 0.4, {"space": "left null"}, 0.1),
        ("M10.column", "constrained", "loss", 0.4, {"space": "random as column"}, -0.1),
        ("M5", "preactivations", "input_share", 0.9, {"layer": 1, "family": "unsafe", "arm": METHOD}, 0.4),
    ],
)
def test_planted_difference_moves_one_claim(
    claim: str, name: str, column: str, value: float, where: dict[str, object], expected: float
) -> None:
    planted = tables([0, 1])
    plant(planted[name], column, value, **where)
    assert values_of(planted)[claim] == pytest.approx([expected, expected]), claim
    alike = values_of(tables([0, 1]))
    same_table = {
        "updates": ("C3",),
        "energy": ("C3",),
        "read_gain": ("C4",),
        "sensitivity": ("C5",),
        "preactivations": ("M5",),
    }
    same_table |= {
        "refusal_rank": ("M6",),
        "localisation": ("M7",),
        "probes": ("M8",),
        "matched_steering": ("M9",),
        "constrained": ("M10",),
    }
    for other, values in values_of(planted).items():
        if not other.startswith(same_table.get(name, ("M2", "M3", "M4"))):
            assert values == pytest.approx(alike[other]), other


def test_extrapolation_counts_gain_and_loss() -> None:
    """Of the weakly tuned model: the smaller one of gain in refusal and slack of the loss of compliance."""
    planted = tables([0, 1])
    weak = rows(
        {"refuse": 0.5, "comply": 0.9},
        seed=[0, 1],
        arm=["ssft_small"],
        alpha=[1.0, 1.5],
        family=["safe", "unsafe"],
    )
    plant(weak, "refuse", 0.8, alpha=1.5, family="unsafe")
    planted["extrapolation"] = weak
    values = update_values(planted)
    assert values["C8.gain"] == pytest.approx([0.3, 0.3])
    assert values["C8"] == pytest.approx([0.02, 0.02])
    plant(weak, "comply", 0.8, alpha=1.5, family="safe", seed=1)
    assert update_values(planted)["C8"] == pytest.approx([0.02, -0.08])
    assert update_values(tables([0]))["C8"] == []


def test_missing_arms_leave_no_values() -> None:
    without_controls = {name: table[~table.arm.isin(CONTROLS)] for name, table in tables([0, 1]).items()}
    values = update_values(without_controls)
    assert values["C3.remap"] == values["M3.null"] == []
    assert len(values["C3"]) == 2


@pytest.mark.parametrize(
    ("share", "supported"),
    [(0.0, "M2"), (0.05, "M2"), (0.9, "M3"), (0.3, "M4"), (0.5, None)],
)
def test_stitching_claims_by_share(share: float, supported: str | None) -> None:
    planted = tables([0, 1, 2])
    for seed, wobble in enumerate((-0.01, 0.0, 0.01)):
        plant(planted["stitching"], "lower_margin_share", share + wobble, layer=2, arm=METHOD, seed=seed)
        plant(planted["stitching"], "upper_margin_share", 0.2 + wobble, layer=2, arm=METHOD, seed=seed)
    values = update_values(planted)
    rows_by_id = {claim.id: claim.evaluate(values[claim.id]) for claim in CLAIMS if claim.id in values}
    for claim in ("M2", "M3", "M4"):
        assert (rows_by_id[claim]["verdict"] == "supported") == (claim == supported), claim


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
    paragraph = mechanism_paragraph(shares, ["ssft", "dpo", "npo"])
    assert "SSFT: rewrite 0.80 [0.37, 1.00], route 0.13" in paragraph
    assert "DPO + NLL: route 1.00 in every seed; 3 of 3 seeds are named route." in paragraph
    assert "not measured" in mechanism_paragraph(pd.DataFrame(), ["ssft"])
    one_seed = mechanism_paragraph(shares[shares.seed == 0], ["ssft"])
    assert "SSFT: rewrite 0.90; 1 of 1 seeds are named rewrite." in one_seed


def test_claim_ids_are_unique_and_have_a_primary() -> None:
    ids = [claim.id for claim in CLAIMS]
    assert len(set(ids)) == len(ids)
    assert {i.split(".")[0] for i in ids} <= set(ids)
    assert all(isinstance(claim, Claim) for claim in CLAIMS)
