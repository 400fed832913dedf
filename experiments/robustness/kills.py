"""Trials that kill a program and run it again.

A program that was killed must end in the bytes of an undisturbed run, silently, when it is run again.
"""

from __future__ import annotations

import random
import shutil
import signal
from functools import partial
from pathlib import Path

from experiments.robustness.programs import Reference, differences, run_program
from experiments.robustness.trials import Problems, ProcessResult, TrialRow, run
from makebreak.training import CHECKPOINT

_LATER = (("provenance.json", "the end"), ("report.html", "provenance"), ("figures", "figures and report"))
_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def killed_in(folder: Path, labels: dict[str, str]) -> str:
    """Stage in which a run was killed, read from the files that it left."""
    writing = [p.name for p in folder.rglob(".*.new")]
    torn = f", writing {writing[0].split('.', 1)[1].rsplit('.', 2)[0]}" if writing else ""
    for unfinished in (folder / "store").glob("*/*.partial"):
        checkpoint = ", with a checkpoint" if (unfinished / CHECKPOINT).exists() else ""
        return labels.get(unfinished.stem, unfinished.parent.name) + checkpoint + torn
    for name, stage in (*_LATER, ("claims.json", "figures and report"), ("tables", "tables and claims")):
        if (folder / "out" / name).exists():
            return stage + torn
    done = len(list((folder / "store").glob("*/*/artifact.json")))
    if done == len(labels):
        return "tables and claims" + torn
    return "between stages" + torn if done else "before the first stage" + torn


def kill_at_random(number: int, seed: int, reference: Reference, root: Path) -> TrialRow:
    """Kills a run at a uniformly drawn moment and resumes it; every fourth trial is killed twice."""
    name = reference.program.name
    rng, folder = random.Random(f"{seed}/kill/{name}/{number}"), root / f"kill.{name}.{number}"
    signal_number, checkpoints = rng.choice(_SIGNALS), rng.random() < 0.5
    stages: list[str] = []
    seconds, moment = reference.seconds, 0.0
    while not stages:  # a run may end before it is killed, as its duration varies
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        moment = rng.uniform(0, seconds)
        call = partial(run_program, reference.program, folder, checkpoints=checkpoints)
        result = run(call, folder / "log", kill_after=moment, signal_number=signal_number)
        if result.status:
            problems = _after_signal(result, signal_number)
            if problems:
                return TrialRow("kills", number, f"{name}, {signal_number.name}", problems)
            stages.append(killed_in(folder, reference.labels))
        seconds = min(seconds, result.seconds)
    if number % 4 == 3:
        call = partial(run_program, reference.program, folder)
        result = run(call, folder / "log", kill_after=rng.uniform(0, max(seconds - moment, 0.1)))
        stages.append(
            killed_in(folder, reference.labels) if result.status else "ended before the second kill"
        )
    detail = f"{name}, {signal_number.name}: {' | '.join(stages)}"
    return TrialRow("kills", number, detail, run_again(folder, reference))


def _after_signal(result: ProcessResult, signal_number: signal.Signals) -> Problems:
    """What a program that received a signal violates: one line and status 130 for Ctrl-C, no traceback."""
    lines = result.stderr.splitlines()
    if signal_number == signal.SIGINT and (result.status != 130 or len(lines) != 1):
        return [f"after SIGINT it ended with {result.status}: {result.stderr[-300:]}"]
    if signal_number != signal.SIGINT and (result.status not in (-signal_number, 128 + signal_number)):
        return [f"after {signal_number.name} it ended with {result.status}: {result.stderr[-300:]}"]
    return ["a traceback"] if "Traceback" in result.stderr else []


def kill_at_rename(number: int, seed: int, reference: Reference, root: Path) -> TrialRow:
    """Kills a run just before it renames a complete new file or folder to its final name, and resumes it."""
    name, n_renames = reference.program.name, len(reference.replacements)
    rng, folder = random.Random(f"{seed}/rename/{name}/{number}"), root / f"rename.{name}.{number}"
    # every second trial falls into the last renames, those of the `out` folder
    n_last = min(8, n_renames) if number % 2 else n_renames
    rename = n_renames - rng.randrange(n_last)
    folder.mkdir()
    call = partial(run_program, reference.program, folder, die_at=rename)
    result = run(call, folder / "log")
    detail = f"{name}, rename {rename} ({reference.replacements[rename - 1]})"
    if result.status != -signal.SIGKILL:
        problem = f"not killed: status {result.status}, {result.stderr[-300:]}"
        return TrialRow("kills at a rename", number, detail, [problem])
    detail += f": {killed_in(folder, reference.labels)}"
    return TrialRow("kills at a rename", number, detail, run_again(folder, reference))


def run_again(folder: Path, reference: Reference) -> Problems:
    """Runs the same program again: it must succeed silently and give the result of the reference."""
    result = run(partial(run_program, reference.program, folder), folder / "log")
    if result.status or result.stderr:
        return [f"run again, it ended with {result.status}: {result.stderr[-500:]}"]
    return differences(reference.folder, folder)
