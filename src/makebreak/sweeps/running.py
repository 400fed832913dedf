"""Many tasks, each in a process of its own on this machine or on Slurm, by submitit.

A job that dies (killed, cancelled, node lost, out of time) is submitted again: a task keeps its results in a
`makebreak.store.Store`, so that it resumes where it was. A task that raises would raise again: it is
reported, not repeated.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from makebreak.optional_packages import check_optional
from makebreak.sweeps.tasks import POLL_SECONDS, JobLimits, Launcher, Task


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
        MissingPackage: If submitit is not installed.
        SweepFailed: When all other tasks are done, if some failed; the message is one line with their number
            and labels, the first one's error and the folder of the logs.
        OutOfTime: If the time budget ended before all tasks were done, and none failed.
    """
    _check(tasks, launcher, {"workers": workers, **vars(limits)})
    check_optional("submitit", "running tasks in processes of their own")
    from makebreak.sweeps.pool import run_pool

    run_pool(tasks, launcher=launcher, workers=workers, folder=folder, limits=limits)


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
