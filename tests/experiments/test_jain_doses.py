"""Models of the dose grid, from training to the rows of the table of models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from experiments.jain2024.cells import model_cell
from experiments.recipes.composition import PRESETS
from makebreak.store import Store

ARMS = ("dpo_rate_0.003_steps_50", "remap_rate_0.0001_steps_50")


@pytest.mark.slow
def test_dose_is_trained_and_measured_at_every_kept_step(tmp_path: Path) -> None:
    """Of the sizes of `smoke`: rows of every stage, with columns of behaviour and of the inside."""
    smoke = PRESETS["smoke"]
    steps = (5, 10)
    preset = replace(smoke, n_requests=16, extra_checkpoints={"mini": steps})
    zoo = pd.concat(
        [
            pd.DataFrame(model_cell(preset, "mini", 0, arm).compute(Store(tmp_path)).tables["zoo"]).assign(
                arm=arm
            )
            for arm in ARMS
        ]
    )
    dpo, remap = (zoo[zoo.arm == arm] for arm in ARMS)
    assert dpo["at"].tolist() == [5, 6, 10, 12, 17, 22, 31, 50]  # two stages of 12 and 38 steps
    assert remap["at"].tolist() == [5, 10, 25, 50]
    assert set(dpo.learning_rate) == {3e-3}
    for column in ("margin", "kl_on_safe", "weight_change", "token-matched.normalised", "null_share.unsafe"):
        assert zoo[column].notna().all(), column
    assert (dpo.weight_change.iloc[-1] > 3 * remap.weight_change.iloc[-1]).all()
