"""Processes that run a program without paying its imports, and what a failure of a program must look like.

A trial runs in a fork of a process that has imported everything and computed nothing: torch cannot be forked
after it has computed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Problems = list[str]
"""What a trial violates, one sentence each; empty where it passes."""
HANG_SECONDS = 600.0
"""Seconds after which a trial counts as hung."""


class ProcessResult(NamedTuple):
    """How a process ended."""

    status: int
    """Exit status, or minus the number of the signal that killed the process."""
    stderr: str
    """All that the process wrote to its standard error."""
    seconds: float
    """CPU time."""


class TrialRow(NamedTuple):
    """Result of one trial."""

    part: str
    """Kind of the trial, such as `kills` or `bad configs`."""
    number: int
    """Number of the trial within its kind; with the seed, it repeats the trial."""
    detail: str
    """What was done to the program or to its input, and how the program ended."""
    problems: Problems
    """What the program violated; empty where it passed."""


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
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # nothing may wait for an answer on a terminal
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", errors="backslashreplace")
        for number in (signal.SIGINT, signal.SIGTERM):  # the pool's workers may have changed them
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        status = call() or 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(status)


def wait(
    pid: int, log: Path, *, kill_after: float = HANG_SECONDS, signal_number: int = signal.SIGKILL
) -> ProcessResult:
    """Waits for a process of `start`.

    Args:
        pid: Id of the process.
        log: File that holds the process's standard error.
        kill_after: CPU time, in seconds, after which its process group receives a signal; a process that
            hangs receives SIGKILL after `HANG_SECONDS`.
        signal_number: The signal.

    Returns:
        How the process ended.
    """
    start_time, is_signalled = time.monotonic(), False
    while True:
        finished, status, usage = os.wait4(pid, os.WNOHANG)
        if finished:
            stderr = log.read_text(errors="replace") if log.exists() else ""
            seconds = usage.ru_utime + usage.ru_stime
            return ProcessResult(os.waitstatus_to_exitcode(status), stderr, seconds)
        is_hung = time.monotonic() - start_time > HANG_SECONDS
        if is_hung or (not is_signalled and _cpu_seconds(pid) >= kill_after):
            is_signalled = True
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL if is_hung else signal_number)
        time.sleep(0.002)


def _cpu_seconds(pid: int) -> float:
    """CPU time of a process that has not been waited for."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, IndexError):
        return 0.0


def run(
    call: Callable[[], int | None],
    log: Path,
    *,
    kill_after: float = HANG_SECONDS,
    signal_number: int = signal.SIGKILL,
) -> ProcessResult:
    """Forks a process and waits for it; see `start` and `wait`."""
    return wait(start(call, log), log, kill_after=kill_after, signal_number=signal_number)


def limit_resources(cpu_seconds: int, memory_mib: int) -> None:
    """Limits this process, so that bad input cannot take a machine down; a trial that needs the limit fails.

    Args:
        cpu_seconds: CPU time after which the process receives SIGXCPU.
        memory_mib: Largest size of the data that the process allocates beyond what it holds now, MiB.
    """
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + cpu_seconds
    limit_bytes = size + (memory_mib << 20)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))


def snapshot(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, and `folder` for every folder, without lock files."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix != ".lock")
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "folder"
        for p in paths
    }


def one_clear_line(result: ProcessResult, *names: str) -> Problems:
    """Checks that a program ended with status 2 and one line on standard error.

    Args:
        result: How the program ended.
        *names: Words of which the line must contain one; it must begin with `error:`.

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
    elif names and not any(name.lower() in lines[0].lower() for name in names):
        problems.append(f"names none of {names}: {output}")
    elif "--debug" in lines[0]:
        problems.append(f"a fault of the program, not of its input: {output}")
    return problems
