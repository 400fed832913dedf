"""The programs that the trials disturb: every study at its smallest preset, every command on a tiny model."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from experiments import command as studies
from experiments.robustness.trials import Problems, ProcessResult, run, snapshot
from makebreak import cli, progress
from makebreak.store import RECORD_FILE
from makebreak.training import CHECKPOINT, METRICS, train

STUDIES = ("jain2024", "peng2024", "jan2024", "eiras2024")
"""Studies that train their own models."""
COMMANDS: dict[str, str] = {
    "inspect": "{safe}",
    "compare": "{base} {safe}",
    "attack": "{safe} --requests 6 --steps 4 --candidates 8 --attack-tokens 2 --soft-tokens 2 --prefill 2 "
    "--target Sure --jailbreak-templates",
    "landscape": "{safe} --requests 6 --directions 1 --points 5",
    "align": "{base} --requests 6 --steps 12",
    "tune": "{safe} --requests 6 --steps 12 --examples 16",
}
_DATED = {"provenance.json"}  # holds times
_SEARCH = "search.json"  # the state of a search for adversarial tokens


class Program(NamedTuple):
    """A program that writes `out` and `store` in the folder in which it is called."""

    name: str
    """Name of the study or of the command."""
    call: Callable[[], int]
    """Runs the program and returns its exit status."""


@dataclass(frozen=True)
class Reference:
    """An undisturbed run of a program, with which resumed and repaired runs are compared."""

    program: Program
    """The program."""
    folder: Path
    """Folder that holds the run's `out` and `store`."""
    labels: dict[str, str]
    """Stage, and objective of an alignment, by store key."""
    seconds: float
    """CPU time."""
    replacements: tuple[str, ...]
    """Names of the files and folders that the run renames to their final names, in their order."""


def _study(name: str) -> int:
    return studies.main([name, "--preset", "smoke", "--seeds", "0", "--out", "out", "--store", "store"])


def _command(name: str, models: Path) -> int:
    words = COMMANDS[name].format(safe=models / "safe", base=models / "base").split()
    prompts = ["--prompts", str(models / "prompts.csv"), "--max-new-tokens", "4"]
    return cli.main([name, *prompts, "--out", "out", "--store", "store", *words])


def all_programs(models: Path) -> list[Program]:
    """Every study and every command.

    Args:
        models: Folder of `tiny_models.write`.

    Returns:
        The programs.
    """
    return [
        *(Program(name, partial(_study, name)) for name in STUDIES),
        *(Program(name, partial(_command, name, models)) for name in COMMANDS),
    ]


def run_program(
    program: Program,
    folder: Path,
    *,
    checkpoints: bool = False,
    die_at: int = 0,
    die_at_checkpoint: int = 0,
) -> int:
    """Runs a program in this process, and writes the names of its renames into the file `replacements_file`.

    Args:
        program: The program.
        folder: Parent of the run's `out` and `store`.
        checkpoints: Write a checkpoint after every training step.
        die_at: Number of the rename just before which the process sends itself SIGKILL; 0 for none.
        die_at_checkpoint: Number of the checkpoint just after which it does; 0 for none.

    Returns:
        The program's exit status.
    """
    os.chdir(folder)
    frequency = checkpoint_every_step() if checkpoints else contextlib.nullcontext()
    # however slow the machine: a trial expects nothing on standard error
    silence = mock.patch.object(progress, "LINE_SECONDS", math.inf)
    with silence, frequency, killed_at(die_at, die_at_checkpoint) as replacements:
        status = program.call()
    replacements_file(folder).write_text(json.dumps(replacements))
    return status


def replacements_file(folder: Path) -> Path:
    """File beside the folder of a run that lists what the run renamed to its final name."""
    return folder.with_name(f"{folder.name}.replacements")


@contextlib.contextmanager
def checkpoint_every_step() -> Iterator[None]:
    """A context in which training writes a checkpoint after every step."""
    train_once: Any = train

    def train_with_checkpoints(*args: Any) -> Any:
        return train_once(*args[:-1], replace(args[-1], checkpoint_seconds=0.0))

    with contextlib.ExitStack() as stack:
        for module in ("makebreak.recipes.building", "makebreak.lm.training"):
            stack.enter_context(mock.patch(f"{module}.train", train_with_checkpoints))
        yield


@contextlib.contextmanager
def killed_at(rename: int, checkpoint: int) -> Iterator[list[str]]:
    """A context that records renames, and kills the process at a given rename or checkpoint.

    Args:
        rename: Number of the rename just before which the process receives SIGKILL; 0 for none.
        checkpoint: Number of the checkpoint just after which it does; 0 for none.

    Yields:
        Names of the files and folders that have been renamed to their final names, updated in place.
    """
    names: list[str] = []
    replace_path = os.replace

    def recording_replace(source: Any, target: Any, **options: Any) -> None:
        names.append(Path(target).name)
        if len(names) == rename:
            os.kill(os.getpid(), signal.SIGKILL)
        replace_path(source, target, **options)
        if names.count(CHECKPOINT) == checkpoint and names[-1] == CHECKPOINT:
            os.kill(os.getpid(), signal.SIGKILL)

    with mock.patch("os.replace", recording_replace):
        yield names


def reference(program: Program, folder: Path) -> Reference:
    """An undisturbed run of a program.

    Args:
        program: The program.
        folder: Folder of the run, which is created.

    Returns:
        The run, for comparisons.

    Raises:
        RuntimeError: If the program fails or writes to standard error.
    """
    folder.mkdir(parents=True)
    result: ProcessResult = run(partial(run_program, program, folder), folder / "log")
    if result.status or result.stderr:
        raise RuntimeError(f"an undisturbed run of {program.name} fails: {result.stderr[-300:]}")
    replacements = tuple(json.loads(replacements_file(folder).read_text()))
    (folder / "log").unlink()
    return Reference(program, folder, _labels(folder / "store"), result.seconds, replacements)


def leave_unfinished(reference: Reference, folder: Path, seed: int) -> Path:
    """Kills a run of a program where an unfinished result holds files.

    That is just after one of the first checkpoints of a program that trains. Of another program it is just
    before the record of a result is written, or after the state of a search is.

    Args:
        reference: The undisturbed run.
        folder: Folder of the run, which is created.
        seed: Seed of the moment.

    Returns:
        The folder of the unfinished result.

    Raises:
        RuntimeError: If the run leaves none.
    """
    rng = random.Random(f"{seed}/{reference.program.name}/unfinished")
    names = reference.replacements
    renames = [
        i
        for i, (before, name) in enumerate(zip(("", *names), names, strict=False), 1)
        if name == RECORD_FILE or before == _SEARCH
    ]
    moment = {"die_at_checkpoint": rng.randint(1, 4)} if METRICS in names else {"die_at": rng.choice(renames)}
    folder.mkdir()
    result = run(partial(run_program, reference.program, folder, checkpoints=True, **moment), folder / "log")
    for path in (folder / "store").glob("*/*.partial"):
        if any(file.is_file() and file.stat().st_size for file in path.rglob("*")):
            return path
    raise RuntimeError(
        f"{reference.program.name}, killed at {moment}, leaves no unfinished result ({result.status})"
    )


def content(folder: Path) -> dict[str, str]:
    """Snapshot of a run's `out` and `store` without what may differ between runs: costs and times."""
    hashes = {
        f"{part}/{name}": value
        for part in ("out", "store")
        for name, value in snapshot(folder / part).items()
    }
    for name in hashes:
        path = folder / name
        if path.name in _DATED:
            hashes[name] = "dated"
        elif path.name == RECORD_FILE:
            record = json.loads(path.read_text())
            hashes[name] = json.dumps({k: v for k, v in record.items() if k != "cost"}, sort_keys=True)
    return hashes


def differences(reference: Path, folder: Path) -> Problems:
    """Files that a run lacks, has in addition, or has with other content than the reference."""
    expected, actual = content(reference), content(folder)
    problems = []
    for name in sorted(expected.keys() | actual.keys()):
        if name not in actual:
            problems.append(f"{name} is missing")
        elif name not in expected:
            problems.append(f"{name} was left behind")
        elif expected[name] != actual[name]:
            problems.append(f"{name} differs")
    return problems


def _labels(store: Path) -> dict[str, str]:
    """Stage, and objective of an alignment, of every result of a store, by key."""
    names = {}
    for path in store.glob(f"*/*/{RECORD_FILE}"):
        record = json.loads(path.read_text())
        last = (record["config"].get("alignments") or [{}])[-1]
        objective = last.get("objective", {}).get("type")
        names[path.parent.name] = " ".join([record["stage"], *([objective] if objective else [])])
    return names
