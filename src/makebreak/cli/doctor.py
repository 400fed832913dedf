"""Command `doctor`: what is installed, where models run, which folders are used, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Annotated

import tyro

from makebreak import settings
from makebreak.cli.options import DebugFlag, Report
from makebreak.errors import describe_error

_CORE = ("makebreak", "torch", "transformers", "numpy", "pandas")
_VARIABLES = ("MAKEBREAK_STORE", "HF_HOME", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
_SCAN_SECONDS = 1.0
"""Longest time in which the size of a folder is counted."""


def doctor(
    store: Annotated[
        Path, tyro.conf.arg(metavar="FOLDER", help="Folder that caches models and results.")
    ] = Path(settings.store),
    debug: DebugFlag = False,
) -> Report:
    """Say what is installed, which devices and which store are used, and what is missing.

    Nothing is loaded, downloaded or written.
    """
    lines = [*_versions(), *_devices(), *_folders(store), *_environment()]
    missing = list(_missing_packages())
    lines += [f"optional: {line}" for line in missing] or ["optional: all packages are installed"]
    problems = [line for line in lines if line.startswith("problem")]
    lines.append(f"{len(problems)} problems" if problems else "everything that makebreak needs is here")
    return lines, None


def _versions() -> Iterator[str]:
    """Python, the computer, and the versions of the main packages."""
    yield f"python: {platform.python_version()} on {platform.system()} {platform.machine()}"
    versions = []
    for name in _CORE:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{name} (no metadata: sources run that are not installed)")
    yield f"packages: {', '.join(versions)}"


def _devices() -> Iterator[str]:
    """Processor, memory and accelerators, as PyTorch sees them."""
    try:
        import psutil
        import torch
    except Exception as error:  # whatever a broken installation raises
        yield f"problem: torch cannot be imported ({describe_error(error)}); install it again"
        return
    memory = psutil.virtual_memory()
    yield (
        f"processor: {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB of memory free"
    )
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        yield "accelerator: PyTorch finds none, models run on the processor"
        return
    if accelerator.type == "mps":
        yield "accelerator: mps, which makebreak does not use by default, since it has no float64"
        return
    module = torch.get_device_module(accelerator)
    for index in range(torch.accelerator.device_count()):
        free, total = (n / 2**30 for n in module.mem_get_info(index))
        name = module.get_device_name(index)
        yield f"accelerator: {accelerator.type}:{index}, {name}, {free:.1f} of {total:.1f} GiB free"


def _folders(store: Path) -> Iterator[str]:
    """The store and the cache of the Hugging Face Hub: size, whether they can be written, free space."""
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    for name, folder in (("store", store), ("hub cache", home)):
        parent = next((each for each in (folder, *folder.absolute().parents) if each.exists()), Path("/"))
        if not parent.is_dir():
            yield f"problem: {name} {folder}: {parent} is no folder; choose another one"
            continue
        free = f"{shutil.disk_usage(parent).free / 2**30:.1f} GiB free"
        state = f"{_size(folder)}, {free}" if parent == folder else f"does not exist yet, {free}"
        if os.access(parent, os.W_OK | os.X_OK):
            yield f"{name}: {folder}, {state}"
        elif name == "store":
            yield f"problem: {name} {folder}, {state}, cannot be written; give --store or MAKEBREAK_STORE"
        else:
            yield f"{name}: {folder}, {state}, read only"


def _size(folder: Path) -> str:
    """Size of the files below a folder; of a large one, of those that are counted in a second."""
    end, size = time.monotonic() + _SCAN_SECONDS, 0
    for root, _, files in os.walk(folder):
        for name in files:
            try:
                size += os.lstat(os.path.join(root, name)).st_size
            except OSError:  # it was removed meanwhile
                continue
        if time.monotonic() > end:
            return f"more than {size / 2**30:.1f} GiB"
    return f"{size / 2**30:.1f} GiB"


def _environment() -> Iterator[str]:
    """Environment variables that are set, and Slurm."""
    values = [f"{name}={os.environ[name]}" for name in _VARIABLES if name in os.environ]
    yield f"environment: {', '.join(values) or 'none of ' + ', '.join(_VARIABLES)}"
    sbatch = shutil.which("sbatch")
    yield f"slurm: {sbatch}" if sbatch else "slurm: no sbatch on the PATH, tasks run on this machine"


def _missing_packages() -> Iterator[str]:
    """Optional packages that cannot be used, with what they are for and the command that installs them."""
    from makebreak.optional_packages import OPTIONAL_PACKAGES, optional_problem

    for module, package in OPTIONAL_PACKAGES.items():
        problem = optional_problem(module)
        if problem is not None:
            yield f"{package.purpose} need {problem}"
