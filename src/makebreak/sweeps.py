"""Many tasks, each in a process of its own on this machine or on Slurm, by submitit.

A job that dies (killed, cancelled, node lost, out of time) is submitted again: a task keeps its results in an
`artifacts.Store`, so that it resumes where it was. A task that raises would raise again: it is reported, not
repeated.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import signal
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from submitit import Job, LocalExecutor, SlurmExecutor
from submitit.core.utils import FailedJobError
from submitit.helpers import environment_variables
from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

from makebreak import budget
from makebreak.budget import OutOfTime, limit_time
from makebreak.progress import ProgressBar

Launcher = Literal["local", "slurm"]
"""Where tasks run: in processes on this machine, or as Slurm jobs."""
POLL_SECONDS = {"local": 0.1, "slurm": 1.0}
"""Seconds between two looks at the running jobs, by launcher."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables that set the number of threads of a job.

Two processes of one thread do half as much again as one process of two. MKL and OpenBLAS follow OMP where
theirs are unset.
"""
_CANCEL_ATTEMPTS, _CANCEL_SECONDS = 100, 0.05
_OUT_OF_TIME = "out of time"
_GRACE_SECONDS = 60.0  # of Slurm jobs after the end of the time budget
_LONGEST_LABEL = 100  # characters of a task's label in the name of its log folder


class SweepFailed(RuntimeError):
    """Some tasks raised, or died too often; all others are done."""


@dataclass(frozen=True)
class Task:
    """A function call in another process."""

    label: str
    """Name of the task in messages and logs."""
    function: str
    """Function to call, "module:function"."""
    arguments: tuple[Any, ...] = ()
    """Positional arguments, JSON values."""


@dataclass(frozen=True)
class JobLimits:
    """Limits of each job."""

    max_attempts: int = 3
    """Submissions of a task whose jobs die, the first included."""
    minutes: int = 240
    """Time limit of one attempt."""
    threads: int = 1
    """Threads of one job."""


class _Limit(NamedTuple):
    """Time budget of a job."""

    deadline: float
    """Seconds since the epoch."""
    begin_any: bool
    """Whether the job's first computation begins however long it may take."""


class _Queue(SlurmInfoWatcher):
    """States of Slurm jobs by squeue: a job that it no longer lists is over.

    submitit asks sacct instead, which needs an accounting database. If squeue does not answer, submitit warns
    and the jobs keep their states.
    """

    def _make_command(self) -> list[str]:
        return ["squeue", "--me", "--noheader", "--format=%i"]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """State of every registered job, from the output of squeue."""
        listed = set((string if isinstance(string, str) else string.decode()).split())
        return {job: {"State": "PENDING" if job in listed else "GONE"} for job in self._registered}


class _SlurmJob(SlurmJob):
    watcher = _Queue(delay_s=30)


class _SlurmExecutor(SlurmExecutor):
    job_class = _SlurmJob


def _call(function: str, arguments: str, devices: str | None, limit: _Limit | None = None) -> str | None:
    """Call a task's function, as a job does; returns `_OUT_OF_TIME` if the time budget ended it."""
    # Results in a store are complete or absent, so that a signal may end the process at any time. submitit's
    # own handlers would turn the end of time into an exception, as if the task had failed, and ignore
    # SIGTERM.
    for number in (signal.SIGTERM, signal.SIGCONT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    if os.environ["SUBMITIT_EXECUTOR"] == "local":
        # submitit hides every GPU from a local job that asks for none
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        os.environ.update({} if devices is None else {"CUDA_VISIBLE_DEVICES": devices})
    module, name = function.split(":")
    call = partial(getattr(importlib.import_module(module), name), *json.loads(arguments))
    if limit is None:
        call()
        return None
    try:
        with limit_time(limit.deadline - time.time(), begin_any=limit.begin_any):
            call()
    except OutOfTime:
        return _OUT_OF_TIME
    return None


def _submit(
    task: Task, launcher: Launcher, folder: Path, limits: JobLimits, limit: _Limit | None
) -> Job[str | None]:
    folder.mkdir()
    if launcher == "local":
        executor = LocalExecutor(folder)
        executor.update_parameters(timeout_min=limits.minutes)
    else:
        executor = _SlurmExecutor(folder)
        # without srun, which since Slurm 22.05 would not inherit cpus_per_task
        executor.update_parameters(
            time=limits.minutes, cpus_per_task=limits.threads, job_name="makebreak", use_srun=False
        )
    devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    with environment_variables(**dict.fromkeys(THREAD_VARIABLES, limits.threads)):
        arguments = json.dumps(task.arguments, allow_nan=False)
        return executor.submit(_call, task.function, arguments, devices, limit)


def _cancel(job: Job[str | None], launcher: Launcher) -> None:
    if launcher == "slurm":
        job.cancel(check=False)
        return
    # SIGTERM, which submitit's controller passes on to its task; repeated, since a controller that is only
    # just starting has no task yet. Job.cancel sends SIGINT, which after a terminal's own SIGINT would
    # interrupt the controller's clean-up.
    for _ in range(_CANCEL_ATTEMPTS):
        if job.done():
            return
        os.kill(int(job.job_id), signal.SIGTERM)
        time.sleep(_CANCEL_SECONDS)
    job.cancel()


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "nothing")


def _outcome(job: Job[str | None]) -> tuple[Literal["done", "stopped", "raised", "died"], str]:
    """How a job ended, and the last line of its error or log."""
    # A result that a network file system shows late counts as a death: the next attempt finds the work in
    # the store.
    if not job.paths.result_pickle.exists():
        log = job.paths.stderr
        return "died", _last_line(log.read_text(errors="replace") if log.exists() else "")
    error = job.exception()
    if error is None:
        return ("stopped" if job.result() == _OUT_OF_TIME else "done"), ""
    submitit_hints = "\n" + "-" * 22 + "\n"
    return "raised", _last_line(str(error).rsplit(submitit_hints, 1)[0])


def _check(tasks: Sequence[Task], launcher: str, counts: dict[str, int]) -> None:
    """Raises ValueError for tasks, a launcher or numbers with which nothing can be run."""
    if launcher not in POLL_SECONDS:
        raise ValueError(f"launcher {launcher!r} does not exist: choose one of {', '.join(POLL_SECONDS)}")
    if launcher == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        raise ValueError(
            "launcher 'slurm' needs sbatch on the PATH: run on a machine that submits jobs, or take local"
        )
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is {count}: expected at least 1")
    for task in tasks:
        if not re.fullmatch(r"\w+(\.\w+)*:\w+", task.function):
            raise ValueError(f"function {task.function!r} of task {task.label!r}: expected 'module:function'")


class _Pool:
    """The waiting, running and failed tasks of a sweep."""

    def __init__(self, tasks: Sequence[Task], launcher: Launcher, limits: JobLimits, logs: Path) -> None:
        self.tasks, self.limits, self.logs = tasks, limits, logs
        self.launcher: Launcher = launcher
        self.waiting = deque((number, 1) for number in range(len(tasks)))
        self.running: dict[Job[str | None], tuple[int, int]] = {}
        self.failures: dict[int, str] = {}
        self.n_ended = self.n_stopped = 0

    def submit_next(self) -> None:
        """Submit the task that waits first; with a time budget, those submitted before any ended begin."""
        number, attempt = self.waiting.popleft()
        label = re.sub(r"[^\w.=-]+", "_", self.tasks[number].label)[:_LONGEST_LABEL]
        folder = self.logs / f"{number:04d}.{attempt}-{label}"
        end = budget.deadline()
        limit = None if end is None else _Limit(end, begin_any=self.n_ended == 0)
        self.running[_submit(self.tasks[number], self.launcher, folder, self.limits, limit)] = number, attempt

    def collect(self) -> int:
        """Number of tasks that ended since the last call; one that died waits again if attempts are left."""
        n_ended = 0
        for job in [job for job in self.running if job.done()]:
            number, attempt = self.running.pop(job)
            outcome, message = _outcome(job)
            if outcome == "died" and attempt < self.limits.max_attempts:
                self.waiting.appendleft((number, attempt + 1))
                continue
            n_ended += 1
            if outcome == "stopped":
                self.n_stopped += 1
            elif outcome == "raised":
                self.failures[number] = message
            elif outcome == "died":
                self.failures[number] = (
                    f"died at each of {attempt} attempts (killed, cancelled or out of time), "
                    f"its log ends: {message}"
                )
        self.n_ended += n_ended
        return n_ended

    def stop(self) -> None:
        """Submit nothing more; what runs comes to the end of its computation or to a checkpoint."""
        self.n_stopped += len(self.waiting)
        self.waiting.clear()
        end = budget.deadline()
        if self.launcher == "slurm" and end is not None and time.time() > end + _GRACE_SECONDS:
            self.cancel()  # a job may still wait in the queue
            self.n_stopped += len(self.running)
            self.running.clear()

    def cancel(self) -> None:
        """Cancel what runs."""
        for job in self.running:
            _cancel(job, self.launcher)

    def raise_failures(self) -> None:
        """Raises SweepFailed in one line if a task failed."""
        if self.failures:
            labels = ", ".join(self.tasks[number].label for number in sorted(self.failures))
            first = next(iter(self.failures.values()))
            raise SweepFailed(
                f"{len(self.failures)} of {len(self.tasks)} tasks failed ({labels}); the first: {first}; "
                f"logs: {self.logs}"
            )


def run_tasks(
    tasks: Sequence[Task],
    *,
    launcher: Launcher,
    workers: int,
    folder: Path,
    limits: JobLimits = JobLimits(),
) -> None:
    """Run every task to its end.

    Logs and submitit's job descriptions are kept in a new folder within `folder`; it is removed if all tasks
    succeed, and the logs stay if not. Partition, account and memory are sbatch's settings
    (`SBATCH_PARTITION`, `SBATCH_ACCOUNT`, `SBATCH_MEM_PER_CPU`). An interrupt cancels what runs; when this
    process is killed, its jobs go on. In a time budget (`makebreak.budget`) nothing is submitted after its
    end, and what runs ends after its computation or at a training's checkpoint; Slurm jobs that have not
    ended a minute later, such as those that still wait in the queue, are cancelled.

    Args:
        tasks: Tasks to run.
        launcher: Where they run.
        workers: Greatest number of tasks that run at once.
        folder: Folder of the logs; on Slurm, one that all nodes see.
        limits: Attempts per task, minutes per attempt and threads per job.

    Raises:
        ValueError: If the tasks cannot be run as asked.
        SweepFailed: When all other tasks are done, if some failed; the message is one line with their number
            and labels, the first one's error and the folder of the logs.
        OutOfTime: If the time budget ended before all tasks were done, and none failed.
    """
    _check(tasks, launcher, {"workers": workers, **vars(limits)})
    folder.mkdir(parents=True, exist_ok=True)
    # new for each call and each job: submitit names files by job ids, here process ids, which recur
    logs = Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=folder))
    pool = _Pool(tasks, launcher, limits, logs)
    bar = ProgressBar("tasks", len(tasks), leave=True)
    try:
        while pool.waiting or pool.running:
            if budget.is_over():
                pool.stop()
            while pool.waiting and len(pool.running) < workers:
                pool.submit_next()
            time.sleep(POLL_SECONDS[launcher])
            bar.update(pool.collect())
    except FailedJobError as error:  # of sbatch itself; the errors of jobs stay in their results
        raise SweepFailed(f"sbatch refused a job: {_last_line(str(error))}; logs: {logs}") from None
    finally:
        bar.close()
        pool.cancel()
        for description in logs.rglob("*.pkl"):
            description.unlink(missing_ok=True)
    pool.raise_failures()
    shutil.rmtree(logs, ignore_errors=True)  # Slurm may still be closing a log
    if pool.n_stopped:
        raise OutOfTime(f"{pool.n_stopped} of {len(tasks)} tasks are left")
