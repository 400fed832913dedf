"""Tests of sweeps: dead jobs are resubmitted, failures are one line, and workers are limited."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jaxtyping
import pytest

from makebreak.budget import OutOfTime, limit_time
from makebreak.sweeps import JobLimits, SweepFailed, Task, pool, run_tasks
from makebreak.sweeps.jobs import SlurmQueue

CHORES = """
import json, os, signal, sys, time
from pathlib import Path

def write(path, partner=None):
    Path(path + ".here").touch()
    while partner and not Path(partner + ".here").exists():
        time.sleep(0.01)
    names = ("OMP_NUM_THREADS", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES")
    environment = {name: os.environ.get(name) for name in names}
    Path(path).write_text(json.dumps(environment))

def dies_once(path):
    if not Path(path + ".first").exists():
        Path(path + ".first").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    write(path)

def always_dies():
    print("no memory left", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

def works(path):
    from makebreak.budget import check_fits
    check_fits("training", lambda: [1e6])
    Path(path).write_text("begun")
    check_fits("training", lambda: [1e6])
    Path(path).write_text("not reached")

def out_of_time_once(path):
    if not Path(path + ".first").exists():
        Path(path + ".first").touch()
        os.kill(os.getpid(), signal.SIGUSR2)  # what submitit sends
        time.sleep(60)
    write(path)

def raises(path):
    with Path(path).open("a") as file:
        file.write("asked\\n")
    raise ValueError("d_model 0: expected at least 1")

def waits_at_first(path):
    if not Path(path + ".first").exists():
        text = json.dumps({"pid": os.getpid(), "job": os.environ.get("SLURM_JOB_ID")})
        Path(path + ".new").write_text(text)
        Path(path + ".new").rename(path + ".first")
        time.sleep(120)
    write(path)
"""


def slurm_answers() -> bool:
    if not (shutil.which("sbatch") and shutil.which("sinfo")):
        return False
    try:
        states = subprocess.run(
            ["sinfo", "-h", "-o", "%t"], capture_output=True, text=True, timeout=10
        ).stdout
    except subprocess.TimeoutExpired:
        return False
    return bool(re.search("^(idle|mix|alloc)", states, re.MULTILINE))


needs_slurm = pytest.mark.skipif(
    not slurm_answers(), reason="no Slurm answers here (sbatch, sinfo): .ci/start-slurm starts one"
)


@pytest.fixture
def chores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the tasks to write into; they are functions of the importable module `chores`."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "chores.py").write_text(CHORES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "code"), prepend=os.pathsep)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def waited_for(path: Path) -> dict:
    for _ in range(1200):
        if path.exists():
            return json.loads(path.read_text())
        time.sleep(0.05)
    raise AssertionError(f"{path} was not written")


def test_tasks_run_with_limited_workers(chores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tasks are done, never more at once than there are workers."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    jobs = []

    def counted(*arguments):
        assert sum(not job.done() for job in jobs) < 2
        jobs.append(submit(*arguments))
        return jobs[-1]

    submit = pool.submit
    monkeypatch.setattr(pool, "submit", counted)
    paths = [chores / f"{i}.json" for i in range(4)]
    # 0 waits for 1 and 1 for 0, 2 for 3 and 3 for 2: one at a time would never end
    tasks = [
        Task(f"seed {i}/α", "chores:write", (str(path), str(paths[i ^ 1]))) for i, path in enumerate(paths)
    ]
    run_tasks(tasks, launcher="local", workers=2, folder=chores / "logs", limits=JobLimits(threads=2))
    for one in [json.loads(path.read_text()) for path in paths]:
        assert (one["OMP_NUM_THREADS"], one["HF_HUB_OFFLINE"], one["CUDA_VISIBLE_DEVICES"]) == ("2", "1", "3")
    assert os.environ.get("OMP_NUM_THREADS") == "1", "this process keeps its own number"
    assert list((chores / "logs").iterdir()) == [], "logs go when all is well"


def test_dead_jobs_are_resubmitted(chores: Path) -> None:
    """A job that dies is submitted again, one that raises is not."""

    def task(name: str) -> Task:
        return Task(name, f"chores:{name}", () if name == "always_dies" else (str(chores / name),))

    names = ["raises", "dies_once", "out_of_time_once", "always_dies", "write"]
    with pytest.raises(SweepFailed) as caught:
        # 10 minutes: with less than that left, submitit takes its signal for the end of time
        run_tasks(
            [task(name) for name in names],
            launcher="local",
            workers=2,
            folder=chores / "logs",
            limits=JobLimits(max_attempts=2, minutes=10),
        )
    message = re.fullmatch(
        r"2 of 5 tasks failed \(raises, always_dies\); "
        r"the first: ValueError: d_model 0: expected at least 1; logs: (?P<logs>[^\n]*)",
        str(caught.value),
    )
    assert message, str(caught.value)
    assert (chores / "raises").read_text() == "asked\n"
    assert all((chores / name).exists() for name in ("dies_once", "out_of_time_once", "write"))
    assert len(list(Path(message["logs"]).glob("*-always_dies"))) == 2
    assert "ValueError: d_model 0" in next(Path(message["logs"]).glob("*-raises/*.err")).read_text()
    assert not list(Path(message["logs"]).rglob("*.pkl"))


def test_job_that_always_dies_is_reported(chores: Path) -> None:
    """The error holds the end of the job's log."""
    with pytest.raises(
        SweepFailed, match=r"1 of 1 .*died at each of 1 attempts .*, its log ends: no memory left; logs: "
    ):
        run_tasks(
            [Task("it", "chores:always_dies")],
            launcher="local",
            workers=1,
            folder=chores / "logs",
            limits=JobLimits(max_attempts=1),
        )


INTERRUPTED = """
import signal, sys
from pathlib import Path
from makebreak.sweeps import Task, run_tasks
tasks = [Task(path, "chores:waits_at_first", (path,)) for path in sys.argv[3:]]
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
run_tasks(tasks, launcher=sys.argv[1], workers=2, folder=Path(sys.argv[2]))
"""


@pytest.mark.parametrize("launcher", ["local", pytest.param("slurm", marks=[needs_slurm, pytest.mark.slow])])
def test_interrupt_cancels_running_jobs(chores: Path, launcher: str) -> None:
    """An interrupt ends the running tasks and starts no other."""
    paths = [chores / name for name in "abc"]
    command = [sys.executable, "-c", INTERRUPTED, launcher, str(chores / "logs"), *map(str, paths)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    jobs = [waited_for(path.with_suffix(".first")) for path in paths[: 2 if launcher == "local" else 1]]
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    for _ in range(200):
        if not any(Path(f"/proc/{job['pid']}").exists() for job in jobs):
            break
        time.sleep(0.1)
    else:
        pytest.fail("a task outlived the interrupt")
    assert not paths[2].with_suffix(".first").exists()


def test_a_time_budget_ends_a_sweep(chores: Path) -> None:
    """A job stops before what does not fit; after the end nothing is submitted; nothing is a failure."""
    tasks = [Task(name, "chores:works", (str(chores / name),)) for name in ("one", "two")]
    with limit_time(3600.0), pytest.raises(OutOfTime, match=r"^1 of 1 tasks are left$"):
        run_tasks(tasks[:1], launcher="local", workers=1, folder=chores / "logs")
    assert (chores / "one").read_text() == "begun", "the first computation begins, the second does not fit"
    with limit_time(0.0), pytest.raises(OutOfTime, match=r"^2 of 2 tasks are left$"):
        run_tasks(tasks, launcher="local", workers=1, folder=chores / "logs")
    assert not (chores / "two").exists()
    assert not list((chores / "logs").iterdir()), "logs are kept for failures only"


def test_impossible_sweeps_are_errors(chores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors name the value and a remedy, and nothing is written."""
    task = Task("it", "chores:write", (str(chores / "it"),))
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would be the first to refuse
    with pytest.raises(ValueError, match=r"launcher 'ray' does not exist: choose one of local, slurm"):
        run_tasks([task], launcher="ray", workers=1, folder=chores / "logs")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"workers is 0: expected at least 1"):
        run_tasks([task], launcher="local", workers=0, folder=chores / "logs")
    with pytest.raises(ValueError, match=r"'write' of task 'it': expected 'module:function'"):
        run_tasks([Task("it", "write")], launcher="local", workers=1, folder=chores / "logs")
    monkeypatch.setenv("PATH", str(chores))
    with pytest.raises(ValueError, match=r"needs sbatch on the PATH: .*, or take local"):
        run_tasks([task], launcher="slurm", workers=1, folder=chores / "logs")
    assert not (chores / "logs").exists()


@needs_slurm
@pytest.mark.slow
def test_slurm_resubmits_killed_and_cancelled_jobs(chores: Path) -> None:
    """Jobs that were killed or cancelled are submitted again."""

    def kill() -> None:
        os.kill(waited_for(chores / "killed.first")["pid"], signal.SIGKILL)
        subprocess.run(["scancel", waited_for(chores / "cancelled.first")["job"]], check=True)

    killer = threading.Thread(target=kill)
    killer.start()
    tasks = [Task(name, "chores:waits_at_first", (str(chores / name),)) for name in ("killed", "cancelled")]
    tasks += [Task(name, "chores:write", (str(chores / name),)) for name in ("one", "two")]
    tasks += [Task("raises", "chores:raises", (str(chores / "raises"),))]
    with pytest.raises(
        SweepFailed, match=r"^1 of 5 tasks failed \(raises\); the first: ValueError: d_model 0"
    ):
        run_tasks(tasks, launcher="slurm", workers=2, folder=chores / "logs", limits=JobLimits(minutes=5))
    killer.join()
    results = [json.loads((chores / task.label).read_text()) for task in tasks[:4]]
    assert {one["OMP_NUM_THREADS"] for one in results} == {"1"}


@needs_slurm
@pytest.mark.slow
def test_slurm_refusal_is_one_line(chores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of sbatch is one line."""
    monkeypatch.setenv("SBATCH_PARTITION", "nowhere")
    with pytest.raises(SweepFailed, match=r"^sbatch refused a job: .*[Ii]nvalid partition.*; logs: [^\n]*$"):
        run_tasks([Task("it", "chores:write", ("x",))], launcher="slurm", workers=1, folder=chores / "logs")


def test_slurm_states_come_from_squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job is over when squeue no longer lists it."""

    def watcher(script: str) -> SlurmQueue:
        (tmp_path / "squeue").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "squeue").chmod(0o755)
        queue = SlurmQueue()
        queue.register_job("7")
        return queue

    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert not watcher("echo 6; echo 7").is_done("7")
    assert watcher("echo 6; echo 77").is_done("7"), "no longer listed: over"
    assert watcher("").is_done("7")
    assert not watcher("exit 1").is_done("7"), "no answer tells nothing"
