"""Sweeps: many tasks, each in a process of its own on this machine or on Slurm, by submitit."""

from makebreak.sweeps.running import run_tasks
from makebreak.sweeps.tasks import POLL_SECONDS, THREAD_VARIABLES, JobLimits, Launcher, SweepFailed, Task

__all__ = [
    "POLL_SECONDS",
    "THREAD_VARIABLES",
    "JobLimits",
    "Launcher",
    "SweepFailed",
    "Task",
    "run_tasks",
]
