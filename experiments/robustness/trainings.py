"""Trials that kill one training many times: resumed to its end, it gives the bytes of an uninterrupted one.

Each way to train has an entry in `TRAININGS`: what is trained, and the function that trains it. A way that
writes its checkpoints atomically as `CHECKPOINT` needs nothing else.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from experiments.recipes.composition import PRESETS
from experiments.robustness.programs import checkpoint_every_step, differences, killed_at
from experiments.robustness.trials import ProcessResult, TrialRow, run
from makebreak.recipes import Engine, Recipe, build, build_all
from makebreak.store import Store
from makebreak.training import CHECKPOINT, StackOptions

N_KILLS = 20
"""Kills of one training."""
_COUNT = "checkpoints"  # file with the number of checkpoints that the last, complete process wrote


class Training(NamedTuple):
    """One way to train models."""

    name: str
    """Name of the way, such as `single`."""
    recipes: tuple[Recipe, ...]
    """Models; there must be more than twice as many steps as kills."""
    build: Callable[[Sequence[Recipe], Store], object]
    """Trains the models into a store, with a checkpoint after every step."""


def build_each(models: Sequence[Recipe], store: Store) -> None:
    """Trains models one after the other, with a checkpoint after every step.

    Args:
        models: Recipes.
        store: Where the models are kept.
    """
    with checkpoint_every_step():
        for recipe in models:
            build(recipe, store)


def build_stack(models: Sequence[Recipe], store: Store) -> None:
    """Trains models in stacks, with a checkpoint after every step.

    Args:
        models: Recipes of the stacked engine.
        store: Where the models are kept.
    """
    options = partial(StackOptions, checkpoint_seconds=0.0)
    with (
        mock.patch("makebreak.training.engine.SYNCHRONISE_EVERY", 1),
        mock.patch("makebreak.recipes.building.StackOptions", options),
    ):
        build_all(models, store)


def _recipe(arm: str, engine: Engine) -> Recipe:
    """A model of the smoke preset, trained for 80 steps in all."""
    recipe = replace(PRESETS["smoke"].recipe("mini", 0, arm), engine=engine)
    (alignment,) = recipe.alignments
    return replace(
        recipe,
        optimisation=replace(recipe.optimisation, steps=40),
        alignments=(replace(alignment, optimisation=replace(alignment.optimisation, steps=40)),),
    )


TRAININGS = (
    Training("single", (_recipe("ssft", Engine()),), build_each),
    Training(
        "stacked",
        tuple(_recipe(arm, Engine("stacked")) for arm in ("ssft", "sham_ssft", "remap")),
        build_stack,
    ),
)
"""Ways to train whose resumption is tried."""


def kill_training(number: int, seed: int, training: Training, reference: Path, root: Path) -> TrialRow:
    """Kills a training `N_KILLS` times, just after a checkpoint or at a random moment, and resumes it.

    Args:
        number: Number of the trial.
        seed: Seed of the trials.
        training: What is trained, and how.
        reference: Folder of an uninterrupted training.
        root: Folder of all trials.

    Returns:
        The row of the trial.
    """
    rng, folder = (
        random.Random(f"{seed}/training/{training.name}/{number}"),
        root / f"{training.name}{number}",
    )
    folder.mkdir()
    part = f"trainings, {training.name}"
    n_written = 0  # checkpoints that kills have left
    for n_kills in range(N_KILLS):
        if rng.random() < 0.75:
            checkpoint = rng.randint(1, 2)
            n_written += checkpoint
            result = train_once(folder, training, checkpoint=checkpoint)
        else:
            result = train_once(folder, training, kill_after=rng.uniform(0, 0.1))
        if result.status != -signal.SIGKILL:
            problem = f"ended with {result.status} after {n_kills} kills: {result.stderr[-300:]}"
            return TrialRow(part, number, "", [problem])
    result = train_once(folder, training)
    detail = f"killed {N_KILLS} times, at {n_written} checkpoints or more"
    if result.status:
        problem = f"run again, it ended with {result.status}: {result.stderr[-300:]}"
        return TrialRow(part, number, detail, [problem])
    problems = differences(reference, folder)
    n_left, n_all = (int((path / _COUNT).read_text()) for path in (folder, reference))
    if n_left > n_all - n_written:
        problems.append(f"it wrote {n_left} of {n_all} checkpoints after kills had left {n_written}")
    return TrialRow(part, number, detail, problems)


def train_once(
    folder: Path, training: Training, *, checkpoint: int = 0, kill_after: float = 3600.0
) -> ProcessResult:
    """Trains in a process of its own.

    Args:
        folder: Parent of the store.
        training: What is trained, and how.
        checkpoint: Number of the checkpoint just after which the process receives SIGKILL; 0 for none.
        kill_after: CPU time, in seconds, after which it does.

    Returns:
        How the process ended.
    """

    def call() -> int:
        with killed_at(0, checkpoint) as replacements:
            training.build(training.recipes, Store(folder / "store"))
        (folder / _COUNT).write_text(str(replacements.count(CHECKPOINT)))
        return 0

    return run(call, folder / "log", kill_after=kill_after)
