"""Trials of programs on a full disk: one line that names a file, and the same bytes once there is space."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
from functools import partial
from pathlib import Path

from experiments.robustness.kills import run_again
from experiments.robustness.programs import Program, Reference, run_program
from experiments.robustness.trials import TrialRow, one_clear_line, run


def file_size_limit(number: int, seed: int, reference: Reference, root: Path) -> TrialRow:
    """Runs a program that may write no file beyond a random size, and then without the limit."""
    name = reference.program.name
    rng, folder = random.Random(f"{seed}/size/{name}/{number}"), root / f"size.{name}.{number}"
    folder.mkdir()
    limit = int(2 ** rng.uniform(6, 18))
    limited = reference.program._replace(call=partial(_limited_call, reference.program, limit))
    result = run(partial(run_program, limited, folder), root / f"size.{name}.{number}.log")
    detail = f"{name}, files of at most {limit} bytes ({result.stderr.strip()[:160]})"
    problems = one_clear_line(result, "out", "store") if result.status else []
    return TrialRow("disk faults", number, detail, problems or run_again(folder, reference))


def _limited_call(program: Program, limit: int) -> int:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        return program.call()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def full_disk(number: int, seed: int, reference: Reference, root: Path) -> TrialRow:
    """Runs a program on a file system of a random size, then on one that is large enough."""
    name = reference.program.name
    rng, folder = random.Random(f"{seed}/disk/{name}/{number}"), root / f"disk.{name}.{number}"
    folder.mkdir()
    size = int(2 ** rng.uniform(3, 10.5))
    _mount(folder, size)
    try:
        result = run(partial(run_program, reference.program, folder), root / f"disk.{name}.{number}.log")
        _mount(folder, 1 << 20, again=True)
        detail = f"{name}, a disk of {size} KiB ({result.stderr.strip()[:160]})"
        problems = one_clear_line(result, "out", "store") if result.status else []
        problems = problems or run_again(folder, reference)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
    return TrialRow("disk faults", number, detail, problems)


def _mount(folder: Path, kib: int, *, again: bool = False) -> None:
    options = f"size={kib}k" + (",remount" if again else "")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)


def can_mount(root: Path) -> bool:
    """Whether this process may mount a file system, which the trials of a full disk need."""
    if os.geteuid() or not shutil.which("mount"):
        return False
    probe = root / "mount"
    probe.mkdir()
    try:
        _mount(probe, 16)
    except subprocess.CalledProcessError:
        return False
    subprocess.run(["umount", probe], check=True)
    return True
