"""Killed at any moment and run again: does it go on to the same result?  Two at once: is the work done once?"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any
from unittest import mock

from experiments.campaign.trials import (
    Problems,
    Reference,
    Row,
    content,
    differences,
    dying,
    run,
    start,
    study,
    wait,
)
from experiments.jain2024 import PRESETS
from makebreak import recipes
from makebreak.artifacts import Store
from makebreak.training.loop import CHECKPOINT

_LATER = (("provenance.json", "the end"), ("report.html", "provenance"), ("figures", "figures and report"))


def killed_in(folder: Path, labels: dict[str, str]) -> str:
    """Which stage a killed run was in, from what it left."""
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


def kill_at_random(number: int, seed: int, reference: Reference, root: Path) -> Row:
    """SIGKILL, uniform over the duration of a run; every fourth trial is killed again when it is resumed."""
    rng, folder = random.Random(f"{seed}/kill/{number}"), root / f"kill{number}"
    checkpoints, stages = rng.random() < 0.5, []
    seconds, moment = reference.seconds[checkpoints], 0.0
    while not stages:  # until it is hit: a run may end earlier than the reference did
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        moment = rng.uniform(0, seconds)
        ended = run(lambda: study(folder, checkpoints=checkpoints), folder / "log", kill_after=moment)
        if ended.status == -signal.SIGKILL:
            stages.append(killed_in(folder, reference.labels))
        elif ended.status:
            return Row("kills", number, "", [f"the run failed: {ended.stderr[-300:]}"])
        seconds = min(seconds, ended.seconds)
    if number % 4 == 3:
        moment = rng.uniform(0, seconds - moment)
        ended = run(lambda: study(folder, checkpoints=checkpoints), folder / "log", kill_after=moment)
        stages.append(killed_in(folder, reference.labels) if ended.status else "ended before the second kill")
    return Row("kills", number, " | ".join(stages), again(folder, reference))


def kill_at_write(number: int, seed: int, reference: Reference, root: Path) -> Row:
    """SIGKILL just before a file or folder gets its final name, the new one written."""
    rng, folder = random.Random(f"{seed}/write/{number}"), root / f"write{number}"
    within = (
        min(8, reference.n_writes) if number % 2 else reference.n_writes
    )  # every second in `out`, written last
    at = reference.n_writes - rng.randrange(within)
    folder.mkdir()
    ended = run(lambda: study(folder, die_at=at), folder / "log")
    if ended.status != -signal.SIGKILL:
        return Row(
            "kills at a rename",
            number,
            f"rename {at}",
            [f"not killed: status {ended.status}, {ended.stderr}"],
        )
    detail = f"rename {at}: {killed_in(folder, reference.labels)}"
    return Row("kills at a rename", number, detail, again(folder, reference))


def again(folder: Path, reference: Reference) -> Problems:
    """The same command once more: it ends well, with the result of the reference."""
    ended = run(lambda: study(folder), folder / "log")
    if ended.status or ended.stderr:
        return [f"run again, it ended with {ended.status}: {ended.stderr[-500:]}"]
    return differences(reference.folder, folder)


def two_at_once(number: int, seed: int, reference: Reference, root: Path) -> Row:
    """Two processes build one model of three stages; in odd trials, one dies while the other waits for it."""
    rng, folder = random.Random(f"{seed}/pair/{number}"), root / f"pair{number}"
    folder.mkdir()
    dies, offset = rng.randint(2, 18) if number % 2 else 0, rng.uniform(0, 0.5)
    first = start(lambda: _build(folder, "first", dies), folder / "first.log")
    if not dies:
        time.sleep(offset)
    second = start(lambda: _build(folder, "second", 0), folder / "second.log")
    ended = [wait(first, folder / "first.log"), wait(second, folder / "second.log")]
    expected = [-signal.SIGKILL if dies else 0, 0]
    problems = [
        f"ended with {e.status}: {e.stderr[-300:]}"
        for e, x in zip(ended, expected, strict=True)
        if e.status != x
    ]
    made = (folder / "made").read_text().splitlines()
    stages = [line.split(maxsplit=2)[2] for line in made]
    n_artifacts = len(list((folder / "store").glob("*/*/artifact.json")))
    if len(stages) - len(set(stages)) != bool(dies) or len(set(stages)) != 3 or n_artifacts != 3:
        problems.append(
            f"{n_artifacts} artifacts made by {made}: expected 3, each once (and the killed one again)"
        )
    if dies and not any(line.startswith("second resumed") for line in made):
        problems.append(f"the second did not go on where the first died: {made}")
    known, found = content(reference.folder), content(folder)
    problems += [f"{name} differs" for name, value in found.items() if known.get(name) != value]
    detail = f"one killed at checkpoint {dies}" if dies else f"{offset:.2f} s apart"
    return Row("pairs, one killed" if dies else "pairs", number, f"{detail}: {'; '.join(made)}", problems)


def _build(folder: Path, name: str, dies: int) -> int:
    """Build the smoke preset's DPO model, telling in `made` what is trained by whom. `dies`: at that checkpoint, once
    the second process has begun to wait."""
    train, recipe = recipes.train, PRESETS["smoke"].recipe("mini", 0, "dpo")
    (folder / f"{name}.begun").touch()

    def told(*args: Any, **kwargs: Any) -> Any:
        partial = next(a for a in args if isinstance(a, Path))
        with (folder / "made").open("a") as file:
            file.write(
                f"{name} {'resumed' if (partial / CHECKPOINT).exists() else 'began'} {kwargs['label']}\n"
            )
        if dies:
            while not (folder / "second.begun").exists():
                time.sleep(0.01)
            time.sleep(0.2)
        return train(*args, **kwargs, checkpoint_seconds=0.0)

    with mock.patch.object(recipes, "train", told), dying(0, dies):
        recipes.build(recipe, Store(folder / "store"))
    return os.EX_OK
