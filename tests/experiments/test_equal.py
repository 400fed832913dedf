"""Are methods compared where they have come equally far, on runs of which the answer is known?"""

from __future__ import annotations

import pandas as pd
import pytest

from experiments.jain2024.equal import equal, of_equal
from experiments.jain2024.presets import METHODS

GAP = "token-matched.normalised"


def run(seed: int, arm: str, stages: list[list[tuple[int, float, float, float]]]) -> list[dict[str, object]]:
    """stages: of each, kept (step, margin, KL, gap)."""
    common = {
        "world": "mini",
        "seed": seed,
        "pretraining": "pretraining",
        "settings": "",
        "learning_rate": 1e-3,
    }
    rows, before, parent = [], 0, f"base {seed}"
    for i, kept in enumerate(stages):
        own = {
            "arm": arm,
            "mechanism": arm,
            "weight_decay": 0.1,
            "steps": kept[-1][0],
            "key": f"{arm} {seed} {i}",
        }
        for step, margin, kl, gap in kept:
            found = {
                "margin": margin,
                "kl_on_safe": kl,
                GAP: gap,
                "half.lower_share": 0.5,
                "unsafe.refuse": 1.0,
            }
            shares = {
                "null_share.unsafe": gap / 10,
                "null_share.safe": 0.01,
                "weight_change": 1.0,
                "safe.comply": 1.0,
            }
            where = {"parent": parent, "step": step, "at": before + step}
            rows.append(common | own | where | found | shares | {"half.unheard": 0.6})
        before, parent = before + kept[-1][0], f"{arm} {seed} {i}"
    return rows


def zoo(seeds: tuple[int, ...] = (0, 1)) -> pd.DataFrame:
    """SSFT stops at a margin of 4 and a gap of .4; the others have the same gap there, and go on to 8."""
    rows = []
    for seed in seeds:
        base = run(seed, "base", [[(1000, -10.0, 0.0, 0.0)]])
        rows += [row | {"parent": None, "key": f"base {seed}", "half.lower_share": None} for row in base]
        rows += run(seed, "ssft", [[(200, 2.0, 0.3, 0.2), (400, 4.0, 0.1, 0.4)]])
        rows += run(seed, "dpo", [[(100, 0.0, 0.2, 0.1)], [(150, 4.0, 0.4, 0.4), (300, 8.0, 0.2, 1.0)]])
        rows += run(seed, "unlearning", [[(200, 3.0, 0.6, 0.3), (400, 8.0, 0.2, 1.3)]])
        rows += run(seed, "sham_ssft", [[(200, 1.0, 9.0, 9.0), (400, 1.0, 9.0, 9.0)]])
    return pd.DataFrame(rows).astype({"half.lower_share": float})


def test_a_difference_that_is_only_of_how_far_they_went_goes_away_at_equal_margin() -> None:
    found = equal(zoo().sample(frac=1, random_state=0)).set_index(["on", "seed", "arm"])
    assert set(found.index.get_level_values("arm")) == set(METHODS)
    assert found.loc["end", 0][GAP].to_dict() == {"ssft": 0.4, "dpo": 1.0, "unlearning": 1.3}
    at = found.loc["margin", 0]
    assert at.margin.tolist() == [4.0] * 3
    assert at[GAP].to_dict() == pytest.approx({"ssft": 0.4, "dpo": 0.4, "unlearning": 0.5})
    assert at["at"].to_dict() == pytest.approx({"ssft": 400, "dpo": 250, "unlearning": 240})  # since the base
    values = of_equal(found.reset_index())
    assert values["C2.order_margin"] == pytest.approx([0.0, 0.0])
    assert values["M1.margin"] == pytest.approx([(0.04 + 0.04 + 0.05) / 3 - 0.01] * 2)
    assert values["M3.margin"] == pytest.approx([0.5, 0.5])


def test_equal_kl_is_where_it_is_first_reached() -> None:
    at = equal(zoo()).set_index(["on", "seed", "arm"]).loc["kl_on_safe", 1]
    assert at.kl_on_safe.tolist() == pytest.approx([0.3] * 3)
    assert at[GAP].to_dict() == pytest.approx({"ssft": 0.2, "dpo": 0.25, "unlearning": 0.15})
    assert pd.isna(at["half.lower_share"]["unlearning"])  # before its first kept step: a base has none
    assert of_equal(equal(zoo()))["C2.order_kl"] == pytest.approx([-0.05, -0.05])


def test_a_value_that_only_a_seed_reaches_is_asked_of_none() -> None:
    rows = zoo()
    rows.loc[(rows.seed == 1) & (rows.arm == "ssft") & (rows["at"] == 400), "margin"] = 3.0
    found = equal(rows).set_index(["on", "seed", "arm"])
    assert found.loc["margin"].margin.tolist() == [3.0] * 6
