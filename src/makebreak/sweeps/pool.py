"""The loop of a sweep: submits what waits, collects what ended, and reports what failed."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from submitit import Job
from submitit.core.utils import FailedJobError

from makebreak import budget
from makebreak.budget import OutOfTime
from makebreak.progress import ProgressBar
from makebreak.sweeps.jobs import cancel, last_line, outcome, submit
from makebreak.sweeps.tasks import POLL_SECONDS, JobLimits, Launcher, SweepFailed, Task, TimeLimit

_GRACE_SECONDS = 60.0  # of Slurm jobs after the end of the time budget
_LONGEST_LABEL = 100  # characters of a task's label in the name of its log folder


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
        limit = None if end is None else TimeLimit(end, begin_any=self.n_ended == 0)
        self.running[submit(self.tasks[number], self.launcher, folder, self.limits, limit)] = number, attempt

    def collect(self) -> int:
        """Number of tasks that ended since the last call; one that died waits again if attempts are left."""
        n_ended = 0
        for job in [job for job in self.running if job.done()]:
            number, attempt = self.running.pop(job)
            ending, message = outcome(job)
            if ending == "died" and attempt < self.limits.max_attempts:
                self.waiting.appendleft((number, attempt + 1))
                continue
            n_ended += 1
            if ending == "stopped":
                self.n_stopped += 1
            elif ending == "raised":
                self.failures[number] = message
            elif ending == "died":
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
            cancel(job, self.launcher)

    def raise_failures(self) -> None:
        """Raises SweepFailed in one line if a task failed."""
        if self.failures:
            labels = ", ".join(self.tasks[number].label for number in sorted(self.failures))
            first = next(iter(self.failures.values()))
            raise SweepFailed(
                f"{len(self.failures)} of {len(self.tasks)} tasks failed ({labels}); the first: {first}; "
                f"logs: {self.logs}"
            )


def run_pool(
    tasks: Sequence[Task], *, launcher: Launcher, workers: int, folder: Path, limits: JobLimits
) -> None:
    """Runs every task to its end, as `run_tasks` says, whose arguments and errors it has."""
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
        raise SweepFailed(f"sbatch refused a job: {last_line(str(error))}; logs: {logs}") from None
    finally:
        bar.close()
        pool.cancel()
        for description in logs.rglob("*.pkl"):
            description.unlink(missing_ok=True)
    pool.raise_failures()
    shutil.rmtree(logs, ignore_errors=True)  # Slurm may still be closing a log
    if pool.n_stopped:
        raise OutOfTime(f"{pool.n_stopped} of {len(tasks)} tasks are left")
