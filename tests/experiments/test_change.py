"""Is each number of the claims about change and places the one that its statement says, on planted tables?"""

from __future__ import annotations

from itertools import product

import pandas as pd
import pytest

from experiments.jain2024.change import of_change
from experiments.jain2024.claims import CLAIMS
from experiments.jain2024.presets import METHODS
from experiments.jain2024.report import _mechanism
from experiments.jain2024.where import of_places
from makebreak.claims import Claim

TWINS = ["remap", "ssft_without_null", "new_operator", "continued", "ssft_no_decay"]
ARMS = [*METHODS, *(f"sham_{m}" for m in METHODS), *TWINS]
FAMILIES = ["safe", "unsafe", "context_safe", "context_unsafe", "sham_safe", "sham_unsafe"]


def rows(columns: dict[str, float], **keys: list[object]) -> pd.DataFrame:
    return pd.DataFrame([dict(zip(keys, v, strict=True)) | columns for v in product(*keys.values())])


def tables(seeds: list[object]) -> dict[str, pd.DataFrame]:
    """All alike, so that every difference is nought and every ratio one."""
    common = {"seed": seeds, "arm": ARMS}
    ladder = ["update", "haar", "permuted", "other_seed"]
    cuts = {"lower_share": 0.3, "upper_share": 0.2, "random_share": 0.05, "unheard": 0.6, "n_layers": 4}
    return {
        "updates": rows(
            {"sine": 0.9, "null": 0.75, "chance": 0.75},
            **common,
            layer=[0, 1],
            matrix=["mlp.W_in", "x"],
            against=ladder,
        ),
        "energy": rows(
            {"energy": 0.25}, **common, layer=[0, 1], family=["safe", "unsafe"], chance=[0.25, 0.5]
        ),
        "reading": rows({"gain": 0.4}, **common, layer=[0, 1], family=FAMILIES),
        "sensitivity": rows({"ratio": 1.0}, **common, family=FAMILIES, output=["max_logit", "log_p"]),
        "rivals": rows(cuts, **common, layer=[0, 1, 2, 3, 4]),
        "anatomy": rows({"moved_input": 0.5}, **common, layer=[0, 1], family=FAMILIES),
        "ranks": rows({"refused": 0.5, "random_refused": 0.5}, **common, directions=[0, 1, 2]),
        "parts": rows(
            {"shapley": 0.25},
            **common,
            part=["embed", "blocks.0.attn", "blocks.0.mlp_in", "blocks.0.mlp_out"],
        ),
        "labels": rows(
            {
                **{"unsafe_auroc": 0.6, "shuffled_unsafe_high": 0.6, "cosine": 0.5},
                **{"refused_auroc": 0.7, "shuffled_refused_high": 0.7},
            },
            **common,
            network=["aligned", "base"],
            position=["text", "eot"],
            layer=[0, 1, 2],
        ),
        "shifts": rows(
            {"unsafe_before": 4.0, "unsafe_margin": 3.0, "safe_before": -8.0, "safe_margin": -6.0},
            **common,
            kind=["difference", "shuffled", "other_label", "covariance", "random"],
        ),
        "confined": rows(
            {"loss": 0.5},
            seed=seeds,
            arm=["ssft"],
            space=["left null", "random as left null", "column", "random as column", "all"],
        ),
    }


def values_of(found: dict[str, pd.DataFrame]) -> dict[str, list[float | None]]:
    return of_change(found) | of_places(found)


def planted(table: pd.DataFrame, column: str, value: float, **where: object) -> None:
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
        ("C4", "reading", "gain", 1.0, {"family": "unsafe", "layer": 1, "arm": METHOD}, 2.5),
        ("C4", "reading", "gain", 9.0, {"family": "unsafe", "layer": 0}, 1.0),  # not of the deeper half
        ("C4.matched", "reading", "gain", 0.8, {"family": "context_unsafe", "arm": METHOD}, 2.0),
        ("C4.sham", "reading", "gain", 0.8, {"family": "sham_unsafe", "arm": SHAM}, -1.0),
        ("C4.remap", "reading", "gain", 0.8, {"family": "unsafe", "arm": "remap"}, -1.0),
        ("C5.remap", "sensitivity", "ratio", 0.4, {"family": "unsafe", "arm": "remap"}, -0.6),
        ("C5", "sensitivity", "ratio", 0.7, {"family": "unsafe", "arm": METHOD}, 0.0),
        ("C5.unsafe", "sensitivity", "ratio", 0.7, {"family": "unsafe", "output": "max_logit"}, 0.3),
        ("C5.safe", "sensitivity", "ratio", 1.2, {"family": "safe", "output": "max_logit"}, 0.2),
        ("C5.log_p", "sensitivity", "ratio", 0.6, {"family": "unsafe", "output": "log_p"}, 0.4),
        ("C5.sham", "sensitivity", "ratio", 0.4, {"family": "sham_unsafe", "arm": SHAM}, -0.6),
        ("M2", "rivals", "lower_share", -0.04, {"layer": 2, "arm": METHOD}, 0.06),
        ("M2.unheard", "rivals", "unheard", 0.97, {"layer": 2, "arm": METHOD}, 0.07),
        ("M3", "rivals", "lower_share", 0.8, {"layer": 2, "arm": METHOD}, 0.8),
        ("M3.random", "rivals", "random_share", 0.25, {"layer": 2}, 0.05),
        ("M3.last", "rivals", "lower_share", 0.7, {"layer": 3, "arm": METHOD}, 0.7),
        ("M3.sham", "rivals", "lower_share", 0.8, {"layer": 2, "arm": SHAM}, -0.5),
        ("M3.remap", "rivals", "lower_share", 0.1, {"layer": 2, "arm": "remap"}, 0.2),
        ("M3.null", "rivals", "lower_share", 0.1, {"layer": 2, "arm": "ssft_without_null"}, 0.2),
        ("M4", "rivals", "lower_share", 0.45, {"layer": 2, "arm": METHOD}, 0.05),
        ("M4", "rivals", "lower_share", 0.02, {"layer": 2, "arm": METHOD}, -0.08),
        ("M4.needed", "rivals", "upper_share", 0.9, {"layer": 2, "arm": METHOD}, -0.4),
        ("M6", "ranks", "refused", 0.1, {"directions": 1, "arm": METHOD}, 0.4),
        ("M6.random", "ranks", "random_refused", 0.9, {"directions": 1, "arm": METHOD}, 0.4),
        ("M7", "parts", "shapley", 0.45, {"part": "blocks.0.mlp_in", "arm": METHOD}, 0.2),
        (
            "M8",
            "labels",
            "unsafe_auroc",
            0.9,
            {"network": "aligned", "layer": 0, "arm": METHOD},
            0.3,
        ),
        ("M8.base", "labels", "unsafe_auroc", 0.5, {"network": "base", "layer": 0, "arm": METHOD}, 0.1),
        (
            "M8.refused",
            "labels",
            "refused_auroc",
            0.9,
            {"network": "aligned", "position": "eot", "arm": METHOD},
            0.2,
        ),
        (
            "M8.cosine",
            "labels",
            "cosine",
            -0.8,
            {"network": "aligned", "position": "eot", "arm": METHOD},
            -0.3,
        ),
        ("M9", "shifts", "unsafe_margin", 1.0, {"kind": "difference", "arm": METHOD}, 0.5),
        ("M9", "shifts", "unsafe_margin", 1.0, {"kind": ["difference", "covariance"]}, 0.0),
        ("M9.induce", "shifts", "safe_margin", -2.0, {"kind": "difference", "arm": METHOD}, 1.0),
        ("M10", "confined", "loss", 0.4, {"space": "left null"}, 0.1),
        ("M10.column", "confined", "loss", 0.4, {"space": "random as column"}, -0.1),
        ("M5", "anatomy", "moved_input", 0.9, {"layer": 1, "family": "unsafe", "arm": METHOD}, 0.4),
    ],
)
def test_a_planted_difference_is_found_and_no_other(
    claim: str, name: str, column: str, value: float, where: dict[str, object], expected: float
) -> None:
    found = tables([0, 1])
    planted(found[name], column, value, **where)
    assert values_of(found)[claim] == pytest.approx([expected, expected]), claim
    alike = values_of(tables([0, 1]))
    same_table = {
        "updates": ("C3",),
        "energy": ("C3",),
        "reading": ("C4",),
        "sensitivity": ("C5",),
        "anatomy": ("M5",),
    }
    same_table |= {
        "ranks": ("M6",),
        "parts": ("M7",),
        "labels": ("M8",),
        "shifts": ("M9",),
        "confined": ("M10",),
    }
    for other, values in values_of(found).items():
        if not other.startswith(same_table.get(name, ("M2", "M3", "M4"))):
            assert values == pytest.approx(alike[other]), other


def test_extrapolation_is_of_the_weak_model_and_wants_both_halves() -> None:
    found = tables([0, 1])
    weak = rows(
        {"refuse": 0.5, "comply": 0.9},
        seed=[0, 1],
        arm=["ssft_small"],
        alpha=[1.0, 1.5],
        family=["safe", "unsafe"],
    )
    planted(weak, "refuse", 0.8, alpha=1.5, family="unsafe")
    found["extrapolation"] = weak
    values = of_change(found)
    assert values["C8.gain"] == pytest.approx([0.3, 0.3])
    assert values["C8"] == pytest.approx([0.02, 0.02])
    planted(weak, "comply", 0.8, alpha=1.5, family="safe", seed=1)
    assert of_change(found)["C8"] == pytest.approx([0.02, -0.08])
    assert of_change(tables([0]))["C8"] == []


def test_arms_that_are_missing_leave_their_claims_without_values() -> None:
    found = {n: t[~t.arm.isin(TWINS)] for n, t in tables([0, 1]).items()}
    values = of_change(found)
    assert values["C3.remap"] == values["M3.null"] == []
    assert len(values["C3"]) == 2


@pytest.mark.parametrize(
    ("half", "answer"),
    [
        (0.0, "silence"),
        (0.05, "silence"),
        (0.9, "a route the base had"),
        (0.3, "rewriting"),
        (0.5, "undecided"),
    ],
)
def test_the_first_paragraph_says_what_the_verdicts_say(half: float, answer: str) -> None:
    found = tables([0, 1, 2])
    for seed, wobble in enumerate((-0.01, 0.0, 0.01)):
        planted(found["rivals"], "lower_share", half + wobble, layer=2, arm=METHOD, seed=seed)
        planted(found["rivals"], "upper_share", 0.2 + wobble, layer=2, arm=METHOD, seed=seed)
    values = of_change(found)
    judged = {claim.id: claim.judge(values[claim.id]) for claim in CLAIMS if claim.id in values}
    assert answer in _mechanism(judged)
    assert f"{half:.2f}" in _mechanism(judged)
    assert "upper half alone gives 0.20" in _mechanism(judged)
    for seed in range(3):  # the lower half is not needed: no answer is given
        planted(found["rivals"], "upper_share", 0.9 + seed / 100, layer=2, arm=METHOD, seed=seed)
    values = of_change(found)
    judged = {claim.id: claim.judge(values[claim.id]) for claim in CLAIMS if claim.id in values}
    assert "undecided" in _mechanism(judged)


def test_every_claim_has_an_id_of_its_own_and_its_primary_part() -> None:
    ids = [claim.id for claim in CLAIMS]
    assert len(set(ids)) == len(ids)
    assert {i.split(".")[0] for i in ids} <= set(ids)
    assert all(isinstance(claim, Claim) for claim in CLAIMS)
