"""Jobs of submitit: one task each, in a process of this machine or of a Slurm node."""

from __future__ import annotations

import importlib
import json
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Literal

from submitit import Job, LocalExecutor, SlurmExecutor
from submitit.helpers import environment_variables
from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

from makebreak.budget import OutOfTime, limit_time
from makebreak.sweeps.tasks import THREAD_VARIABLES, JobLimits, Launcher, Task, TimeLimit

_CANCEL_ATTEMPTS, _CANCEL_SECONDS = 100, 0.05
_OUT_OF_TIME = "out of time"


class SlurmQueue(SlurmInfoWatcher):
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
    watcher = SlurmQueue(delay_s=30)


class _SlurmExecutor(SlurmExecutor):
    job_class = _SlurmJob


def _call(function: str, arguments: str, devices: str | None, limit: TimeLimit | None = None) -> str | None:
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


def submit(
    task: Task, launcher: Launcher, folder: Path, limits: JobLimits, limit: TimeLimit | None
) -> Job[str | None]:
    """Submits a task as a job, whose logs are kept in a new folder."""
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


def cancel(job: Job[str | None], launcher: Launcher) -> None:
    """Cancels a job."""
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


def last_line(text: str) -> str:
    """The last line of a text that is not blank; "nothing" if there is none."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "nothing")


def outcome(job: Job[str | None]) -> tuple[Literal["done", "stopped", "raised", "died"], str]:
    """How a job ended, and the last line of its error or log."""
    # A result that a network file system shows late counts as a death: the next attempt finds the work in
    # the store.
    if not job.paths.result_pickle.exists():
        log = job.paths.stderr
        return "died", last_line(log.read_text(errors="replace") if log.exists() else "")
    error = job.exception()
    if error is None:
        return ("stopped" if job.result() == _OUT_OF_TIME else "done"), ""
    submitit_hints = "\n" + "-" * 22 + "\n"
    return "raised", last_line(str(error).rsplit(submitit_hints, 1)[0])
