"""Processes that run the command without paying its imports, and the comparison of two results.

A trial runs in a fork of a process that has imported everything and computed nothing: torch cannot be forked
after it has computed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from experiments.command import main
from makebreak import progress
from makebreak.store import RECORD_FILE
from makebreak.training import CHECKPOINT, train

Problems = list[str]
"""What a trial violates, one sentence each; empty where it passes."""
_DATED = {"provenance.json"}  # hold times; so do PDFs, their date
_LIMIT = 3600.0  # seconds after which a trial counts as hung


class ProcessResult(NamedTuple):
    """How a process ended."""

    status: int
    """Exit status, or minus the number of the signal that killed the process."""
    stderr: str
    """All that the process wrote to its standard error."""
    seconds: float
    """CPU time."""


@dataclass(frozen=True)
class Reference:
    """An uninterrupted run, with which resumed and repaired runs are compared."""

    folder: Path
    """Folder that holds the run's `out` and `store`."""
    labels: dict[str, str]
    """Stage, and objective of an alignment, by store key."""
    seconds: tuple[float, float]
    """CPU time without and with a checkpoint after every step."""
    n_writes: int
    """Number of renames of files and folders in the run."""


class TrialRow(NamedTuple):
    """Result of one trial."""

    part: str
    """Kind of the trial, such as `kills` or `bad configs`."""
    number: int
    """Number of the trial within its kind; with the seed, it repeats the trial."""
    detail: str
    """What was done to the run."""
    problems: Problems
    """What the run violated; empty where it passed."""


def start(call: Callable[[], int | None], log: Path) -> int:
    """Forks a process that leads its own process group and ends with the status that `call` returns.

    Args:
        call: Work of the process; it returns an exit status, or None for 0.
        log: File that receives the process's standard error.

    Returns:
        The id of the process.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        return pid
    status = 1
    try:
        os.setpgid(0, 0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", errors="backslashreplace")
        status = call() or 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(status)


def wait(pid: int, log: Path, *, kill_after: float = _LIMIT) -> ProcessResult:
    """Waits for a process of `start`.

    Args:
        pid: Id of the process.
        log: File that holds the process's standard error.
        kill_after: CPU time, in seconds, after which its process group receives SIGKILL; a process that hangs
            receives it after an hour.

    Returns:
        How the process ended.
    """
    start_time = time.monotonic()
    while True:
        finished, status, usage = os.wait4(pid, os.WNOHANG)
        if finished:
            stderr = log.read_text(errors="replace") if log.exists() else ""
            return ProcessResult(os.waitstatus_to_exitcode(status), stderr, usage.ru_utime + usage.ru_stime)
        if _cpu_seconds(pid) >= kill_after or time.monotonic() - start_time > _LIMIT:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
        time.sleep(0.002)


def _cpu_seconds(pid: int) -> float:
    """CPU time of a process that has not been waited for."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, IndexError):
        return 0.0


def run(call: Callable[[], int | None], log: Path, *, kill_after: float = _LIMIT) -> ProcessResult:
    """Forks a process and waits for it."""
    return wait(start(call, log), log, kill_after=kill_after)


def study(
    folder: Path, *, seed: int = 0, checkpoints: bool = False, die_at: int = 0, die_at_checkpoint: int = 0
) -> int:
    """Runs the smoke preset in this process and writes the number of renames into `folder`/writes.

    Args:
        folder: Parent of the run's `out` and `store`.
        seed: Pretraining seed.
        checkpoints: Write a checkpoint after every training step.
        die_at: Number of the rename just before which the process sends itself SIGKILL; 0 for none.
        die_at_checkpoint: Number of the checkpoint just after which it does; 0 for none.

    Returns:
        The command's exit status.
    """
    frequency = checkpoint_every_step() if checkpoints else contextlib.nullcontext()
    # however slow the machine: a trial expects nothing on standard error
    silence = mock.patch.object(progress, "LINE_SECONDS", math.inf)
    with silence, frequency, killed_at(die_at, die_at_checkpoint) as count:
        folders = [f"--{name}={folder / name}" for name in ("out", "store")]
        status = main(["jain2024", "--preset", "smoke", "--seeds", str(seed), *folders])
    (folder / "writes").write_text(str(count[0]))
    return status


def checkpoint_every_step() -> contextlib.AbstractContextManager[Any]:
    """A context in which training writes a checkpoint after every step."""
    train_once: Any = train

    def train_with_checkpoints(*args: Any) -> Any:
        return train_once(*args[:-1], replace(args[-1], checkpoint_seconds=0.0))

    return mock.patch("makebreak.recipes.building.train", train_with_checkpoints)


@contextlib.contextmanager
def killed_at(rename: int, checkpoint: int) -> Iterator[list[int]]:
    """A context that counts renames and checkpoints, and kills the process at given ones.

    Args:
        rename: Number of the rename just before which the process receives SIGKILL; 0 for none.
        checkpoint: Number of the checkpoint just after which it does; 0 for none.

    Yields:
        The counts [renames, checkpoints], updated in place.
    """
    count, replace_path = [0, 0], Path.replace

    def counting_replace(self: Path, target: Any) -> Path:
        count[0] += 1
        if count[0] == rename:
            os.kill(os.getpid(), signal.SIGKILL)
        result = replace_path(self, target)
        if result.name == CHECKPOINT:
            count[1] += 1
            if count[1] == checkpoint:
                os.kill(os.getpid(), signal.SIGKILL)
        return result

    with mock.patch.object(Path, "replace", counting_replace):
        yield count


def snapshot(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, and `folder` for every folder, without lock files."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix != ".lock")
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "folder"
        for p in paths
    }


def content(folder: Path) -> dict[str, str]:
    """Snapshot of a result's `out` and `store` without what may differ between runs: costs and dates."""
    hashes = {
        f"{part}/{name}": value
        for part in ("out", "store")
        for name, value in snapshot(folder / part).items()
    }
    for name in hashes:
        path = folder / name
        if path.suffix == ".pdf" or path.name in _DATED:
            hashes[name] = "dated"
        elif path.name == RECORD_FILE:
            record = json.loads(path.read_text())
            hashes[name] = json.dumps({k: v for k, v in record.items() if k != "cost"}, sort_keys=True)
    return hashes


def differences(reference: Path, folder: Path) -> Problems:
    """Files that a result lacks, has in addition, or has with other content than the reference."""
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


def one_clear_line(result: ProcessResult, name: str) -> Problems:
    """Checks that a command ended with status 2 and one line on standard error.

    Args:
        result: How the command ended.
        name: What the line must contain; it must begin with `error:`.

    Returns:
        What is violated.
    """
    lines = result.stderr.splitlines()
    output = result.stderr.strip()[-300:]
    problems = [f"exit status {result.status}, expected 2: {output}"] if result.status != 2 else []
    if "Traceback" in result.stderr:
        problems.append(f"a traceback: {lines[-1]}")
    elif len(lines) != 1 or not lines[0].startswith("error:"):
        problems.append(f"{len(lines)} lines on stderr, expected one that begins with 'error:': {output}")
    elif name.lower() not in lines[0].lower():
        problems.append(f"does not name {name!r}: {output}")
    return problems


def measure(folder: Path, checkpoints: bool) -> ProcessResult:
    """Runs the command without interruption, for its result and its duration."""
    folder.mkdir(parents=True)
    return run(lambda: study(folder, checkpoints=checkpoints), folder / "log")


def labels(store: Path) -> dict[str, str]:
    """Stage, and objective of an alignment, of every result of a store, by key."""
    names = {}
    for path in store.glob(f"*/*/{RECORD_FILE}"):
        record = json.loads(path.read_text())
        last = (record["config"].get("alignments") or [{}])[-1]
        objective = last.get("objective", {}).get("type")
        names[path.parent.name] = " ".join([record["stage"], *([objective] if objective else [])])
    return names
