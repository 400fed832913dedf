"""Tasks of a sweep, the limits of their jobs, and where they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Launcher = Literal["local", "slurm"]
"""Where tasks run: in processes on this machine, or as Slurm jobs."""
POLL_SECONDS = {"local": 0.1, "slurm": 1.0}
"""Seconds between two looks at the running jobs, by launcher."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables that set the number of threads of a job.

Two processes of one thread do half as much again as one process of two. MKL and OpenBLAS follow OMP where
theirs are unset.
"""


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


class TimeLimit(NamedTuple):
    """Time budget of a job."""

    deadline: float
    """Seconds since the epoch."""
    begin_any: bool
    """Whether the job's first computation begins however long it may take."""
