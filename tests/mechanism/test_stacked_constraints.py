"""Models whose updates are constrained to subspaces of different dimensions, trained in one step."""

from __future__ import annotations

from pathlib import Path

from makebreak.geometry import random_subspace
from makebreak.models import weight_matrix
from makebreak.training import (
    SSFT,
    Member,
    Optimisation,
    TrainingRun,
    constrain_updates,
    remove_constraints,
    train,
    train_stack,
)
from tests.training.short_runs import WORLD, fresh

NAMES = ["blocks.0.mlp.W_in", "blocks.1.mlp.W_in"]
STEPS = Optimisation(8, 1e-2, batch_size=4, checkpoints=1)
D_MLP, DIMENSIONS = 128, (3, 40)


def test_each_member_is_trained_within_its_own_subspace(tmp_path: Path) -> None:
    """As the single run is; nothing but the matrices changes, and they change within the subspace alone."""
    spaces = [{name: random_subspace(D_MLP, n, seed=n) for name in NAMES} for n in DIMENSIONS]
    run = TrainingRun(seed=3, label="a test")
    models = [constrain_updates(fresh().double(), space, width=max(DIMENSIONS)) for space in spaces]
    (tmp_path / "stack").mkdir()
    trained = train_stack(models, [Member(SSFT(), STEPS, run)] * 2, WORLD, tmp_path / "stack")
    start = fresh().double()
    for i, (model, space) in enumerate(zip(trained.models, spaces, strict=True)):
        (tmp_path / f"{i}").mkdir()
        alone = constrain_updates(fresh().double(), space)
        train(alone, SSFT(), STEPS, WORLD, tmp_path / f"{i}", run)
        for constrained in (model, alone):
            remove_constraints(constrained, NAMES)
        for name in NAMES:
            before, basis = weight_matrix(start, name), space[name].basis
            update, expected = (weight_matrix(m, name) - before for m in (model, alone))
            assert expected.norm() > 1e-2
            assert (update - expected).norm() < 1e-6 * expected.norm()
            assert (update - basis @ (basis.T @ update)).norm() < 1e-6 * update.norm()
        others = {n: p for n, p in start.named_parameters() if "c_fc.weight" not in n}
        assert len(others) == len(list(start.named_parameters())) - 2
        assert all(model.get_parameter(name).equal(parameter) for name, parameter in others.items())
