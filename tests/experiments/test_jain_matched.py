"""Matched comparison of methods on runs whose answer is known."""

from __future__ import annotations

import pandas as pd
import pytest

from experiments.jain2024.matched import matched_rows, matched_values
from experiments.recipes.composition import METHODS

GAP = "token-matched.normalised"


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
    values = matched_values(matched.reset_index())
    assert values["C2.order_margin"] == pytest.approx([0.0, 0.0])
    assert values["M1.margin"] == pytest.approx([(0.04 + 0.04 + 0.05) / 3 - 0.01] * 2)
    assert values["M3.margin"] == pytest.approx([0.5, 0.5])


def test_equal_kl_is_where_it_is_first_reached() -> None:
    at = matched_rows(zoo()).set_index(["on", "seed", "arm"]).loc["kl_on_safe", 1]
    assert at.kl_on_safe.tolist() == pytest.approx([0.3] * 3)
    assert at[GAP].to_dict() == pytest.approx({"ssft": 0.2, "dpo": 0.25, "unlearning": 0.15})
    assert pd.isna(
        at["stitching.lower_margin_share"]["unlearning"]
    )  # before its first checkpoint, and a base has none
    assert matched_values(matched_rows(zoo()))["C2.order_kl"] == pytest.approx([-0.05, -0.05])


def test_common_value_is_reached_by_every_run() -> None:
    """A margin that one seed does not reach is asked of none."""
    rows = zoo()
    rows.loc[(rows.seed == 1) & (rows.arm == "ssft") & (rows["at"] == 400), "margin"] = 3.0
    matched = matched_rows(rows).set_index(["on", "seed", "arm"])
    assert matched.loc["margin"].margin.tolist() == [3.0] * 6
