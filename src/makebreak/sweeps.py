"""How are many models made at once? Every task in a process of its own, on this machine or on Slurm, by submitit.

A job that dies (killed, cancelled, node lost, out of time) is submitted again: a task keeps what it made in an
artifacts.Store, so that it goes on where it was. A task that raises would raise again: it is reported, not repeated.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from submitit import Job, LocalExecutor, SlurmExecutor
from submitit.core.utils import FailedJobError
from submitit.helpers import environment_variables
from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob
from tqdm import tqdm

Launcher = Literal["local", "slurm"]
POLL_SECONDS = {"local": 0.1, "slurm": 1.0}
# two processes of one thread do half as much again as one of two; MKL and OpenBLAS follow OMP where these are unset
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class SweepFailed(RuntimeError):
    """Some tasks raised, or died too often; all others are done."""


@dataclass(frozen=True)
class Task:
    """A call in another process: `function` is "module:function", `arguments` are values of JSON."""

    label: str
    function: str
    arguments: tuple[Any, ...] = ()


class _Queue(SlurmInfoWatcher):
    """A job that squeue no longer lists is over. submitit asks sacct, which needs an accounting database.

    A squeue that does not answer tells nothing: submitit warns, and the jobs stay what they were.
    """

    def _make_command(self) -> list[str]:
        return ["squeue", "--me", "--noheader", "--format=%i"]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        listed = set((string if isinstance(string, str) else string.decode()).split())
        return {job: {"State": "PENDING" if job in listed else "GONE"} for job in self._registered}


class _SlurmJob(SlurmJob):
    watcher = _Queue(delay_s=30)


class _SlurmExecutor(SlurmExecutor):
    job_class = _SlurmJob


def _call(function: str, arguments: str, devices: str | None) -> None:
    """What a job does."""
    # The store stands any death, so a signal may simply end the process. submitit's own handlers would make an
    # exception of the end of time, as if the task had failed, and ignore SIGTERM.
    for number in (signal.SIGTERM, signal.SIGCONT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    if (
        os.environ["SUBMITIT_EXECUTOR"] == "local"
    ):  # submitit hides every GPU from a local job that asks for none
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        os.environ.update({} if devices is None else {"CUDA_VISIBLE_DEVICES": devices})
    module, name = function.split(":")
    getattr(importlib.import_module(module), name)(*json.loads(arguments))


def _submit(task: Task, launcher: Launcher, folder: Path, minutes: int, threads: int) -> Job[None]:
    folder.mkdir()
    if launcher == "local":
        executor = LocalExecutor(folder)
        executor.update_parameters(timeout_min=minutes)
    else:
        executor = _SlurmExecutor(folder)
        # without srun, which since Slurm 22.05 would not inherit cpus_per_task
        executor.update_parameters(time=minutes, cpus_per_task=threads, job_name="makebreak", use_srun=False)
    devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    with environment_variables(**dict.fromkeys(THREADS, threads)):
        return executor.submit(_call, task.function, json.dumps(task.arguments, allow_nan=False), devices)


def _cancel(job: Job[None], launcher: Launcher) -> None:
    if launcher == "slurm":
        job.cancel(check=False)
        return
    # SIGTERM, which submitit's controller hands to its task; again, as a controller that only just starts has none to
    # hand it to. Job.cancel sends SIGINT, which after a terminal's own would cut the controller's cleaning short.
    for _ in range(100):
        if job.done():
            return
        os.kill(int(job.job_id), signal.SIGTERM)
        time.sleep(0.05)
    job.cancel()


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "nothing")


def _outcome(job: Job[None]) -> tuple[Literal["done", "raised", "died"], str]:
    """How a job ended, and the last line of what it said about it."""
    # A result that a network file system shows late counts as a death: the next attempt finds the work in the store.
    if not job.paths.result_pickle.exists():
        log = job.paths.stderr
        return "died", _last_line(log.read_text(errors="replace") if log.exists() else "")
    error = job.exception()
    if error is None:
        return "done", ""
    return "raised", _last_line(
        str(error).rsplit("\n" + "-" * 22 + "\n", 1)[0]
    )  # what follows are submitit's hints


def _check(tasks: Sequence[Task], launcher: str, counts: dict[str, int]) -> None:
    if launcher not in POLL_SECONDS:
        raise ValueError(f"launcher {launcher!r} does not exist: choose one of {', '.join(POLL_SECONDS)}")
    if launcher == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        raise ValueError(
            "launcher 'slurm' needs sbatch on the PATH: run it where jobs are submitted, or take local"
        )
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is {count}: expected at least 1")
    for task in tasks:
        if not re.fullmatch(r"\w+(\.\w+)*:\w+", task.function):
            raise ValueError(f"function {task.function!r} of task {task.label!r}: expected 'module:function'")


def run(
    tasks: Sequence[Task],
    *,
    launcher: Launcher,
    workers: int,
    folder: Path,
    attempts: int = 3,
    minutes: int = 240,
    threads: int = 1,
) -> None:
    """Run every task to its end, at most `workers` at once, each with `threads` threads and `minutes` an attempt.

    Logs and submitit's job descriptions are kept in a new folder within `folder` (on Slurm, one that all nodes see);
    it goes when all is well, and the logs stay when it is not. Partition, account and memory are sbatch's to know
    (`SBATCH_PARTITION`, `SBATCH_ACCOUNT`, `SBATCH_MEM_PER_CPU`). An interrupt cancels what runs; when this process is
    killed, its jobs go on.

    Raises ValueError for what cannot be run, and, when all other tasks are done, SweepFailed with one line: how many
    failed, which, the first one's last words, and where the logs are.
    """
    _check(
        tasks, launcher, {"workers": workers, "attempts": attempts, "minutes": minutes, "threads": threads}
    )
    folder.mkdir(parents=True, exist_ok=True)
    # new for each call, and within it for each job: submitit names files by job ids, here process ids, which come again
    logs = Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=folder))
    waiting = deque((number, 1) for number in range(len(tasks)))
    running: dict[Job[None], tuple[int, int]] = {}
    failed: dict[int, str] = {}
    bar = tqdm(total=len(tasks), desc="tasks", disable=not sys.stderr.isatty())
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                number, attempt = waiting.popleft()
                name = re.sub(r"[^\w.=-]+", "_", tasks[number].label)[:100]
                job = _submit(
                    tasks[number], launcher, logs / f"{number:04d}.{attempt}-{name}", minutes, threads
                )
                running[job] = number, attempt
            time.sleep(POLL_SECONDS[launcher])
            for job in [job for job in running if job.done()]:
                number, attempt = running.pop(job)
                outcome, words = _outcome(job)
                if outcome == "died" and attempt < attempts:
                    waiting.appendleft((number, attempt + 1))
                    continue
                bar.update()
                if outcome != "done":
                    died = f"died at each of {attempts} attempts (killed, cancelled or out of time), its log ends: {words}"
                    failed[number] = words if outcome == "raised" else died
    except FailedJobError as error:  # of sbatch itself: jobs keep theirs
        raise SweepFailed(f"sbatch refused a job: {_last_line(str(error))}; logs: {logs}") from None
    finally:
        bar.close()
        for job in running:
            _cancel(job, launcher)
        for description in logs.rglob("*.pkl"):
            description.unlink(missing_ok=True)
    if failed:
        labels = ", ".join(tasks[number].label for number in sorted(failed))
        first = next(iter(failed.values()))
        raise SweepFailed(
            f"{len(failed)} of {len(tasks)} tasks failed ({labels}); the first: {first}; logs: {logs}"
        )
    shutil.rmtree(logs, ignore_errors=True)  # Slurm may still be closing a log
