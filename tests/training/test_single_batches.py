"""Batches that other processes make ahead are those of the objective, and train the same model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from makebreak.training import DPO, SSFT, BatchPlan, Pretraining, TrainingRun, single_batches, train
from tests.training.short_runs import SHORT, WORLD, fresh, same

CPU = torch.device("cpu")


@pytest.mark.parametrize("objective", [SSFT(), DPO(), Pretraining()])
@pytest.mark.parametrize("first_step", [0, 9])
def test_batches_made_ahead_are_those_of_the_objective(objective, first_step: int) -> None:
    plan = BatchPlan(WORLD, (objective,), (7,), 4, 20)
    ahead = list(single_batches(plan, CPU, first_step=first_step, n_workers=2))
    assert len(ahead) == 20 - first_step
    for step, batch in enumerate(ahead, start=first_step):
        expected = objective.batch(WORLD, size=4, step=step, steps=20, seed=7)
        parts = zip(batch, expected, strict=True) if isinstance(expected, tuple) else [(batch, expected)]
        for part, of_objective in parts:
            for name, column in vars(of_objective).items():
                assert torch.equal(getattr(part, name), column), f"{name} of step {step}"


def test_the_model_does_not_depend_on_who_makes_the_batches(tmp_path: Path) -> None:
    models = []
    for n_workers in (0, 1):
        folder = tmp_path / str(n_workers)
        folder.mkdir()
        settings = TrainingRun(seed=1000, label="a test", n_workers=n_workers)
        models.append(train(fresh(), SSFT(), replace(SHORT, steps=4), WORLD, folder, settings))
    assert same(*models)
    other = TrainingRun(seed=1001, label="a test", n_workers=1)
    (tmp_path / "other").mkdir()
    assert not same(
        models[0], train(fresh(), SSFT(), replace(SHORT, steps=4), WORLD, tmp_path / "other", other)
    )
