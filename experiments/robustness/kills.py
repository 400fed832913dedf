"""Trials that kill a run and run it again, and trials of two processes that build one model.

A run that was killed must end in the bytes of an uninterrupted one; two processes must train each model once.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from experiments.recipes.composition import PRESETS
from experiments.robustness.trials import (
    Problems,
    Reference,
    TrialRow,
    content,
    differences,
    killed_at,
    run,
    start,
    study,
    wait,
)
from makebreak.recipes import build
from makebreak.store import Store
from makebreak.training import CHECKPOINT, train

TRAININGS = "trainings"
"""File with one line per training: the process, `began` or `resumed`, and the model."""
_LATER = (("provenance.json", "the end"), ("report.html", "provenance"), ("figures", "figures and report"))


def killed_in(folder: Path, labels: dict[str, str]) -> str:
    """Stage in which a run was killed, read from the files that it left."""
    writing = [p.name for p in folder.rglob(".*.new")]
    torn = f", writing {writing[0].split('.', 1)[1].rsplit('.', 2)[0]}" if writing else ""
    for partial in (folder / "store").glob("*/*.partial"):
        checkpoint = ", with a checkpoint" if (partial / CHECKPOINT).exists() else ""
        return labels.get(partial.stem, "unknown") + checkpoint + torn
    for name, stage in (*_LATER, ("claims.json", "figures and report"), ("tables", "tables and claims")):
        if (folder / "out" / name).exists():
            return stage + torn
    done = len(list((folder / "store").glob("*/*/artifact.json")))
    if done == len(labels):
        return "tables and claims" + torn
    return "between stages" + torn if done else "before the first stage" + torn


def kill_at_random(number: int, seed: int, reference: Reference, root: Path) -> TrialRow:
    """Kills a run at a uniformly drawn moment and resumes it; every fourth trial is killed twice."""
    rng, folder = random.Random(f"{seed}/kill/{number}"), root / f"kill{number}"
    checkpoints, stages = rng.random() < 0.5, []
    seconds, moment = reference.seconds[checkpoints], 0.0
    while not stages:  # a run may end before it is killed, as its duration varies
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        moment = rng.uniform(0, seconds)
        result = run(lambda: study(folder, checkpoints=checkpoints), folder / "log", kill_after=moment)
        if result.status == -signal.SIGKILL:
            stages.append(killed_in(folder, reference.labels))
        elif result.status:
            return TrialRow("kills", number, "", [f"the run failed: {result.stderr[-300:]}"])
        seconds = min(seconds, result.seconds)
    if number % 4 == 3:
        moment = rng.uniform(0, seconds - moment)
        result = run(lambda: study(folder, checkpoints=checkpoints), folder / "log", kill_after=moment)
        stages.append(
            killed_in(folder, reference.labels) if result.status else "ended before the second kill"
        )
    return TrialRow("kills", number, " | ".join(stages), again(folder, reference))


def kill_at_write(number: int, seed: int, reference: Reference, root: Path) -> TrialRow:
    """Kills a run just before it renames a complete new file or folder to its final name, and resumes it."""
    rng, folder = random.Random(f"{seed}/write/{number}"), root / f"write{number}"
    # every second trial falls into the last renames, those of the `out` folder
    n_last = min(8, reference.n_writes) if number % 2 else reference.n_writes
    rename = reference.n_writes - rng.randrange(n_last)
    folder.mkdir()
    result = run(lambda: study(folder, die_at=rename), folder / "log")
    if result.status != -signal.SIGKILL:
        return TrialRow(
            "kills at a rename",
            number,
            f"rename {rename}",
            [f"not killed: status {result.status}, {result.stderr}"],
        )
    detail = f"rename {rename}: {killed_in(folder, reference.labels)}"
    return TrialRow("kills at a rename", number, detail, again(folder, reference))


def again(folder: Path, reference: Reference) -> Problems:
    """Repeats the same command: it must succeed silently and give the result of the reference."""
    result = run(lambda: study(folder), folder / "log")
    if result.status or result.stderr:
        return [f"run again, it ended with {result.status}: {result.stderr[-500:]}"]
    return differences(reference.folder, folder)


def two_at_once(number: int, seed: int, reference: Reference, root: Path) -> TrialRow:
    """Starts two processes that build one model of three stages; in odd trials the first is killed."""
    rng, folder = random.Random(f"{seed}/pair/{number}"), root / f"pair{number}"
    folder.mkdir()
    kill_checkpoint, offset = rng.randint(2, 18) if number % 2 else 0, rng.uniform(0, 0.5)
    first = start(lambda: _build(folder, "first", kill_checkpoint), folder / "first.log")
    if not kill_checkpoint:
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
