"""How is the command run many times without paying its imports, and when are two results the same?

A trial runs in a fork of a process that has imported everything and computed nothing (torch cannot be forked after).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from experiments.command import main
from makebreak import recipes
from makebreak.artifacts import RECORD
from makebreak.training import loop

Problems = list[str]
_DATED = {"provenance.json"}  # hold times; so do PDFs, their date
_LIMIT = 3600.0  # seconds after which a trial counts as hung


class Ended(NamedTuple):
    """How a process ended. status: exit status, or minus the signal that killed it; seconds: of CPU time."""

    status: int
    stderr: str
    seconds: float


@dataclass(frozen=True)
class Reference:
    """An uninterrupted run. labels: key → what it is; seconds: what it takes, by `checkpoints`; n_writes: renames
    of files and folders on the way."""

    folder: Path
    labels: dict[str, str]
    seconds: tuple[float, float]
    n_writes: int


class Row(NamedTuple):
    """One trial. detail: what was done to it; problems: empty where it passed."""

    part: str
    number: int
    detail: str
    problems: Problems


def start(call: Callable[[], int | None], log: Path) -> int:
    """Fork a process, leader of its own group, that ends with what `call` returns; its stderr goes to `log`."""
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


def wait(pid: int, log: Path, *, kill_after: float = _LIMIT) -> Ended:
    """Wait for a process of `start`; SIGKILL for its group after so many seconds of CPU time (load shifts it not).

    One that hangs gets it too, after an hour.
    """
    begun = time.monotonic()
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            stderr = log.read_text(errors="replace") if log.exists() else ""
            return Ended(os.waitstatus_to_exitcode(status), stderr, usage.ru_utime + usage.ru_stime)
        if _spent(pid) >= kill_after or time.monotonic() - begun > _LIMIT:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
        time.sleep(0.002)


def _spent(pid: int) -> float:
    """Seconds of CPU time of a process that is not waited for yet."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, IndexError):
        return 0.0


def run(call: Callable[[], int | None], log: Path, *, kill_after: float = _LIMIT) -> Ended:
    return wait(start(call, log), log, kill_after=kill_after)


def study(
    folder: Path, *, seed: int = 0, checkpoints: bool = False, die_at: int = 0, die_at_checkpoint: int = 0
) -> int:
    """The command, in this process. checkpoints: after every step. die_at: SIGKILL itself just before this rename;
    die_at_checkpoint: just after this checkpoint. Leaves the number of renames in `folder`/writes."""
    with every_step() if checkpoints else contextlib.nullcontext(), dying(die_at, die_at_checkpoint) as count:
        ends = [f"--{name}={folder / name}" for name in ("out", "store")]
        status = main(["jain2024", "--preset", "smoke", "--seeds", str(seed), *ends])
    (folder / "writes").write_text(str(count[0]))
    return status


def every_step() -> contextlib.AbstractContextManager[Any]:
    return mock.patch.object(recipes, "train", partial(recipes.train, checkpoint_seconds=0.0))


@contextlib.contextmanager
def dying(at_rename: int, at_checkpoint: int) -> Iterator[list[int]]:
    """Counts [renames, checkpoints], and dies at the given ones (0: never)."""
    count, rename, write = [0, 0], Path.replace, loop.write_atomic

    def counted(self: Path, target: Any) -> Path:
        count[0] += 1
        if count[0] == at_rename:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(self, target)

    def written(path: Path, content: bytes | str) -> None:
        write(path, content)
        count[1] += path.name == loop.CHECKPOINT
        if path.name == loop.CHECKPOINT and count[1] == at_checkpoint:
            os.kill(os.getpid(), signal.SIGKILL)

    with mock.patch.object(Path, "replace", counted), mock.patch.object(loop, "write_atomic", written):
        yield count


def snapshot(folder: Path) -> dict[str, str]:
    """Every file (its hash) and folder below, locks apart: equal snapshots, nothing written or lost."""
    found = sorted(p for p in folder.rglob("*") if p.suffix != ".lock")
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "folder"
        for p in found
    }


def content(folder: Path) -> dict[str, str]:
    """A snapshot of a result's `out` and `store`, without what may differ: cost of artifacts, dates."""
    hashes = {
        f"{part}/{name}": value
        for part in ("out", "store")
        for name, value in snapshot(folder / part).items()
    }
    for name in hashes:
        path = folder / name
        if path.suffix == ".pdf" or path.name in _DATED:
            hashes[name] = "dated"
        elif path.name == RECORD:
            record = json.loads(path.read_text())
            hashes[name] = json.dumps({k: v for k, v in record.items() if k != "cost"}, sort_keys=True)
    return hashes


def differences(reference: Path, folder: Path) -> Problems:
    """What a result lacks, has too much or has otherwise than the reference; leftovers are too much."""
    expected, found = content(reference), content(folder)
    return [
        f"{name} {'is missing' if name not in found else 'differs' if name in expected else 'was left behind'}"
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    ]


def one_clear_line(ended: Ended, named: str) -> Problems:
    """Exit status 2 and one line on stderr that begins with `error:` and holds `named`; no traceback."""
    lines = ended.stderr.splitlines()
    told = ended.stderr.strip()[-300:]
    problems = [f"exit status {ended.status}, expected 2: {told}"] if ended.status != 2 else []
    if "Traceback" in ended.stderr:
        problems.append(f"a traceback: {lines[-1]}")
    elif len(lines) != 1 or not lines[0].startswith("error:"):
        problems.append(f"{len(lines)} lines on stderr, expected one that begins with 'error:': {told}")
    elif named.lower() not in lines[0].lower():
        problems.append(f"does not name {named!r}: {told}")
    return problems


def measure(folder: Path, checkpoints: bool) -> Ended:
    """An uninterrupted run, for its result and how long it takes."""
    folder.mkdir(parents=True)
    return run(lambda: study(folder, checkpoints=checkpoints), folder / "log")


def labels(store: Path) -> dict[str, str]:
    """Key → what it is: the stage, and the objective of an alignment."""
    found = {}
    for path in store.glob(f"*/*/{RECORD}"):
        record = json.loads(path.read_text())
        last = (record["config"].get("alignments") or [{}])[-1]
        found[path.parent.name] = " ".join(
            [record["stage"], *filter(None, [last.get("objective", {}).get("type")])]
        )
    return found
