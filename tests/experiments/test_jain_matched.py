"""Matched comparison of methods on runs whose answer is known."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from experiments.jain2024.claims import PARTS
from experiments.jain2024.matched import matched_rows
from experiments.recipes.composition import METHODS

GAP = "token-matched.normalised"


def value(claim: str, table: pd.DataFrame) -> list[float]:
    """Value of a claim by seed, from the table `matched` alone."""
    [chosen] = [each for each in PARTS if each.id == claim]
    assert chosen.value is not None
    return chosen.value({"matched": table}).tolist()


def run(seed: int, arm: str, stages: list[list[tuple[int, float, float, float]]]) -> list[dict[str, object]]:
    """Rows of one run; stages: (step, margin, KL, gap) of the checkpoints of each."""
    common = {
        "world": "mini",
        "seed": seed,
        "pretraining": "pretraining",
        "settings": "",
        "learning_rate": 1e-3,
    }
    rows, before, parent = [], 0, f"base {seed}"
    for i, checkpoints in enumerate(stages):
        model = {
            "arm": arm,
            "mechanism": arm,
            "weight_decay": 0.1,
            "steps": checkpoints[-1][0],
            "key": f"{arm} {seed} {i}",
        }
        for step, margin, kl, gap in checkpoints:
            columns = {
                "margin": margin,
                "kl_on_safe": kl,
                GAP: gap,
                "stitching.lower_margin_share": 0.5,
                "unsafe.refuse": 1.0,
            }
            shares = {
                "null_share.unsafe": gap / 10,
                "null_share.safe": 0.01,
                "weight_change": 1.0,
                "safe.comply": 1.0,
            }
            position = {"parent": parent, "step": step, "at": before + step}
            rows.append(
                common | model | position | columns | shares | {"stitching.fisher_null_fraction": 0.6}
            )
        before, parent = before + checkpoints[-1][0], f"{arm} {seed} {i}"
    return rows


def zoo(seeds: tuple[int, ...] = (0, 1)) -> pd.DataFrame:
    """SSFT stops at a margin of 4 and a gap of .4; the others have the same gap there, and go on to 8."""
    rows = []
    for seed in seeds:
        base = run(seed, "base", [[(1000, -10.0, 0.0, 0.0)]])
        rows += [
            row | {"parent": None, "key": f"base {seed}", "stitching.lower_margin_share": None}
            for row in base
        ]
        rows += run(seed, "ssft", [[(200, 2.0, 0.3, 0.2), (400, 4.0, 0.1, 0.4)]])
        rows += run(seed, "dpo", [[(100, 0.0, 0.2, 0.1)], [(150, 4.0, 0.4, 0.4), (300, 8.0, 0.2, 1.0)]])
        rows += run(seed, "unlearning", [[(200, 3.0, 0.6, 0.3), (400, 8.0, 0.2, 1.3)]])
        rows += run(seed, "sham_ssft", [[(200, 1.0, 9.0, 9.0), (400, 1.0, 9.0, 9.0)]])
    return pd.DataFrame(rows).astype({"stitching.lower_margin_share": float})


def test_difference_of_dose_vanishes_at_equal_margin() -> None:
    matched = matched_rows(zoo().sample(frac=1, random_state=0)).set_index(["on", "seed", "arm"])
    assert set(matched.index.get_level_values("arm")) == set(METHODS)
    assert matched.loc["end", 0][GAP].to_dict() == {"ssft": 0.4, "dpo": 1.0, "unlearning": 1.3}
    at = matched.loc["margin", 0]
    assert at.margin.tolist() == [4.0] * 3
    assert at[GAP].to_dict() == pytest.approx({"ssft": 0.4, "dpo": 0.4, "unlearning": 0.5})
    assert at["at"].to_dict() == pytest.approx({"ssft": 400, "dpo": 250, "unlearning": 240})  # since the base
    table = matched.reset_index()
    assert value("C2.order_margin", table) == pytest.approx([0.0, 0.0])
    assert value("M1.margin", table) == pytest.approx([(2 * math.log(4) + math.log(5)) / 3] * 2)


FALLING = {
    "ssft": [[(5, 0.0, 0.5, 0.1), (10, 1.0, 0.8, 0.2), (200, 2.0, 0.2, 0.4), (400, 4.0, 0.05, 0.6)]],
    "dpo": [
        [(50, 0.0, 0.9, 0.1), (100, 1.0, 0.3, 0.2)],
        [(50, 2.0, 0.4, 0.5), (150, 4.0, 0.1, 0.9), (300, 8.0, 0.04, 1.0)],
    ],
    "unlearning": [[(5, 0.0, 0.1, 0.1), (10, 1.0, 0.7, 0.3), (200, 3.0, 0.2, 0.7), (400, 8.0, 0.01, 1.3)]],
}
"""KL peaks early and falls; DPO's peak is in its warm start, and its own stage has another one."""


def falling_zoo(**changed: list[list[tuple[int, float, float, float]]]) -> pd.DataFrame:
    rows = []
    for seed in (0, 1):
        base = run(seed, "base", [[(1000, -10.0, 0.0, 0.0)]])[0]
        rows.append(base | {"parent": None, "key": f"base {seed}", "stitching.lower_margin_share": None})
        for arm, stages in (FALLING | (changed if seed else {})).items():
            rows += run(seed, arm, stages)
    return pd.DataFrame(rows).astype({"stitching.lower_margin_share": float})


def test_equal_kl_is_after_the_peak_and_in_the_last_stage() -> None:
    """Common values lie between .05, the greatest at the end, and .4, the peak of DPO's own stage."""
    at = matched_rows(falling_zoo()).set_index(["on", "seed", "arm"]).loc["kl_on_safe", 0]
    kl = (0.05 * 0.4) ** 0.5
    assert at.kl_on_safe.tolist() == pytest.approx([kl] * 3)
    share = {"ssft": (0.2 - kl) / 0.15, "dpo": (0.4 - kl) / 0.3, "unlearning": (0.2 - kl) / 0.19}
    expected = {"ssft": 0.4 + share["ssft"] * 0.2, "dpo": 0.5 + share["dpo"] * 0.4}
    assert at[GAP].to_dict() == pytest.approx(expected | {"unlearning": 0.7 + share["unlearning"] * 0.6})
    assert at["at"]["dpo"] == pytest.approx(150 + share["dpo"] * 100)
    assert at["stitching.lower_margin_share"].tolist() == pytest.approx([0.5] * 3)


@pytest.mark.parametrize(
    "dpo",
    [
        # its own stage does not get above what SSFT ends at: equal KL would be in the warm start
        [[(50, 0.0, 0.9, 0.1), (100, 1.0, 0.04, 0.2)], [(150, 4.0, 0.03, 0.9), (300, 8.0, 0.02, 1.0)]],
        # KL rises to the end: no falling branch
        [[(50, 0.0, 0.1, 0.1), (100, 1.0, 0.2, 0.2)], [(150, 4.0, 0.4, 0.9), (300, 8.0, 0.9, 1.0)]],
    ],
)
def test_no_comparison_without_equal_kl_in_the_last_stages(dpo) -> None:
    """Seed 1 has no value, seed 0 keeps its own."""
    matched = matched_rows(falling_zoo(dpo=dpo))
    at = matched.set_index(["on", "seed", "arm"]).loc["kl_on_safe"]
    assert at.loc[1][["at", GAP, "kl_on_safe"]].isna().all(axis=None)
    assert at.loc[0][[GAP, "kl_on_safe"]].notna().all(axis=None)
    first, second = value("C2.order_kl", matched)
    assert not math.isnan(first)
    assert math.isnan(second)


def test_order_at_equal_kl_is_that_of_equal_points() -> None:
    """Gaps in proportion to the progress of KL differ at the end of training, and not at equal KL."""
    curve = [(5, 0.0, 0.8, 0.1), (100, 1.0, 0.4, 0.2), (200, 2.0, 0.1, 0.5)]
    further = [*curve, (400, 8.0, 0.01, 1.3)]
    warm = [[(50, 0.0, 0.9, 0.05)], [(100 * (i + 1), *point[1:]) for i, point in enumerate(further)]]
    table = falling_zoo(ssft=[curve], dpo=warm, unlearning=[further])
    values = value("C2.order_kl", matched_rows(table))
    assert values[1] == pytest.approx(0.0, abs=1e-9)
    end = matched_rows(table).set_index(["on", "seed", "arm"]).loc["end", 1][GAP]
    assert end["dpo"] - end["ssft"] > 0.5


def test_common_value_is_reached_by_every_run() -> None:
    """A margin that one seed does not reach is asked of none."""
    rows = zoo()
    rows.loc[(rows.seed == 1) & (rows.arm == "ssft") & (rows["at"] == 400), "margin"] = 3.0
    matched = matched_rows(rows).set_index(["on", "seed", "arm"])
    assert matched.loc["margin"].margin.tolist() == [3.0] * 6
