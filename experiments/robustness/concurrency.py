"""Trials of processes that compute one result at the same time: each step must be computed once."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from experiments.recipes.composition import PRESETS
from experiments.robustness.programs import Reference, content, differences, killed_at, run_program
from experiments.robustness.trials import TrialRow, start, wait
from makebreak.recipes import build
from makebreak.store import Store
from makebreak.training import CHECKPOINT, train

TRAININGS = "trainings"
"""File with one line per training: the process, `began` or `resumed`, and the model."""
N_PROCESSES = 4
"""Processes that run one command at once."""


def several_at_once(number: int, seed: int, reference: Reference, root: Path) -> TrialRow:
    """Runs one program in four processes with the same store and the same output folder."""
    name = reference.program.name
    rng, folder = random.Random(f"{seed}/several/{name}/{number}"), root / f"several.{name}.{number}"
    folder.mkdir()
    logs = [root / f"several.{name}.{number}.{i}.log" for i in range(N_PROCESSES)]
    pids = []
    for log in logs:
        pids.append(start(partial(run_program, reference.program, folder), log))
        time.sleep(rng.uniform(0, 0.3))
    results = [wait(pid, log) for pid, log in zip(pids, logs, strict=True)]
    problems = [f"ended with {r.status}: {r.stderr[-300:]}" for r in results if r.status]
    problems += ["a traceback" for r in results if "Traceback" in r.stderr]
    return TrialRow("several at once", number, name, problems + differences(reference.folder, folder))


def two_at_once(number: int, seed: int, reference: Reference, root: Path) -> TrialRow:
    """Starts two processes that build one model of three stages; in odd trials the first is killed."""
    rng, folder = random.Random(f"{seed}/pair/{number}"), root / f"pair{number}"
    folder.mkdir()
    kill_checkpoint, offset = rng.randint(2, 18) if number % 2 else 0, rng.uniform(0, 0.5)
    first = start(lambda: _build(folder, "first", kill_checkpoint), folder / "first.log")
    if kill_checkpoint:  # the second one must find the first at work
        while not (folder / TRAININGS).exists():
            time.sleep(0.01)
    else:
        time.sleep(offset)
    second = start(lambda: _build(folder, "second", 0), folder / "second.log")
    results = [wait(first, folder / "first.log"), wait(second, folder / "second.log")]
    expected = [-signal.SIGKILL if kill_checkpoint else 0, 0]
    problems = [
        f"ended with {result.status}: {result.stderr[-300:]}"
        for result, status in zip(results, expected, strict=True)
        if result.status != status
    ]
    trainings = (folder / TRAININGS).read_text().splitlines()
    stages = [line.split(maxsplit=2)[2] for line in trainings]
    n_artifacts = len(list((folder / "store").glob("*/*/artifact.json")))
    n_repeated = len(stages) - len(set(stages))
    if n_repeated != bool(kill_checkpoint) or len(set(stages)) != 3 or n_artifacts != 3:
        expectation = "expected 3, each trained once (and the one that was killed again)"
        problems.append(f"{n_artifacts} artifacts by the trainings {trainings}: {expectation}")
    if kill_checkpoint and not any(line.startswith("second resumed") for line in trainings):
        problems.append(f"the second process did not resume from the first one's checkpoint: {trainings}")
    reference_content, own_content = content(reference.folder), content(folder)
    problems += [f"{name} differs" for name, v in own_content.items() if reference_content.get(name) != v]
    detail = f"one killed at checkpoint {kill_checkpoint}" if kill_checkpoint else f"{offset:.2f} s apart"
    part = "pairs, one killed" if kill_checkpoint else "pairs"
    return TrialRow(part, number, f"{detail}: {'; '.join(trainings)}", problems)


def _build(folder: Path, name: str, kill_checkpoint: int) -> int:
    """Builds the smoke preset's DPO model and appends a line to `TRAININGS` for each stage that it trains.

    The process is killed at `kill_checkpoint` (0: never), once the second process waits for it.
    """
    train_once: Any = train
    recipe = PRESETS["smoke"].recipe("mini", 0, "dpo")
    (folder / f"{name}.started").touch()

    def train_and_log(*args: Any) -> Any:
        partial = next(a for a in args if isinstance(a, Path))
        settings = args[-1]
        with (folder / TRAININGS).open("a") as file:
            file.write(
                f"{name} {'resumed' if (partial / CHECKPOINT).exists() else 'began'} {settings.label}\n"
            )
        if kill_checkpoint:
            while not (folder / "second.started").exists():
                time.sleep(0.01)
            time.sleep(0.2)
        return train_once(*args[:-1], replace(settings, checkpoint_seconds=0.0))

    with mock.patch("makebreak.recipes.building.train", train_and_log), killed_at(0, kill_checkpoint):
        build(recipe, Store(folder / "store"))
    return os.EX_OK
